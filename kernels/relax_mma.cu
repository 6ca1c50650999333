// The relaxation step on tensor cores: fp16 operands, fp32 sums, the same interface as relax_simt.cu.
//
//   p[pixel][c] = sum_taps sum_k source[pixel * step + offset][k] * w_tap[c][k]    then epilogue.cuh
//
// One block computes ROWS x COLUMNS of the implicit product, its warps WARP_ROWS x WARP_COLUMNS each, in fragments of
// 16 x 8 (mma.m16n8k16). With two components a 16-row fragment holds eight pixels twice:
//
//      fragment      row 0..7   q of pixels 0..7          A lane holds rows g and g + 8 of columns 2t, 2t + 1, that is
//                    row 8..15  d of pixels 0..7          both components of its units: q and d meet in one thread's
//                                                         registers, and the epilogue exchanges nothing.
//
// K advances DEPTH channels of one tap at a time. cp.async brings the slices of the next STAGES - 1 steps while the tensor
// cores work on this one; pixels outside of the image and channels past the end arrive as zeros. The last STAGES - 1 stages
// bring what the epilogue needs instead: the old state and, of a pair, the free state. They arrive while the last products run.
//
//      a[ROWS][DEPTH]          pixels x source channels: what a tap reads
//      b[COLUMNS][DEPTH]       upwards: rows of the slab are output channels, K contiguous         (ldmatrix)
//      b[DEPTH][COLUMNS]       downwards: the same slab read along K, output channels contiguous   (ldmatrix.trans)
//
// so that one copy of each weight serves both directions. 16-byte pieces of a row are permuted (swizzled) by its number: the
// eight rows that one ldmatrix phase reads lie in different banks.
//
// The epilogue updates the old state where it lies, each thread its own units, and sends it away in pieces of 16 bytes.
//
// Shared memory: STAGES x (ROWS + COLUMNS) x DEPTH x 2 bytes, ROWS rows and the changes; 66.2 KB for the 128 x 128 tile. Limit:
// tensor cores, except where K is short (layer 1 of the paper's networks), which is bound by memory.
#include "epilogue.cuh"
#include "mma_slices.cuh"

namespace mma {

constexpr int ROWS = EQ_MMA_ROWS;

// How a block's tile is divided among its warps.
template <int COLUMNS_, int WARPS_M_, int WARPS_N_>
struct Tile {
    static constexpr int COLUMNS = COLUMNS_;
    static constexpr int WARPS_M = WARPS_M_;
    static constexpr int WARPS_N = WARPS_N_;
    static constexpr int THREADS = WARPS_M * WARPS_N * WARP;
    static constexpr int M = ROWS / WARPS_M / 16;    // fragments of a warp
    static constexpr int N = COLUMNS / WARPS_N / 8;
    static constexpr int A_BYTES = ROWS * DEPTH * 2;
    static constexpr int B_BYTES = COLUMNS * DEPTH * 2;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;
    static constexpr int A_PIECES = ROWS * PIECES / THREADS; // to fetch per thread
    static constexpr int B_PIECES = COLUMNS * PIECES / THREADS;
    static constexpr int PER_ROW = COLUMNS / PIECE;      // pieces of a row of b, downwards, and of the state
    static constexpr int ROWS_APART = THREADS / PIECES;  // rows from one of a thread's pieces to the next
    static constexpr int K_APART = THREADS / PER_ROW;    // the same downwards, and in the state
    static constexpr int HALF = ROWS / 2;                // rows of the state that one stage holds
    static constexpr int STATE_PIECES = HALF * PER_ROW / THREADS;
    // The change is summed in cells, which are the same whatever the tile.
    static constexpr int CELLS_M = M * 16 / EQ_CHANGE_ROWS;
    static constexpr int CELLS_N = N * 8 / EQ_CHANGE_CHANNELS;
    static constexpr int STRIPS = COLUMNS / EQ_CHANGE_CHANNELS;
    static_assert(THREADS == EQ_RELAX_THREADS, "what the host launches");
    static_assert(A_PIECES * THREADS == ROWS * PIECES, "threads share a's pieces evenly");
    static_assert(B_PIECES * THREADS == COLUMNS * PIECES, "threads share b's pieces evenly");
    static_assert(STATE_PIECES * THREADS == HALF * PER_ROW, "threads share the state's pieces evenly");
    static_assert(HALF * COLUMNS * 2 <= STAGE_BYTES, "a stage has room for half of the state");
    static_assert(HALF % (M * 16) == 0, "a warp's rows of the state lie in one stage");
    static_assert(N % 2 == 0 && (N & (N - 1)) == 0, "ldmatrix.x4 brings two column fragments at once, found by exclusive or");
    static_assert(STAGE_BYTES % 128 == 0 && A_BYTES % 128 == 0, "stages begin at the first bank");
    static_assert(CELLS_M * EQ_CHANGE_ROWS == M * 16 && CELLS_N * EQ_CHANGE_CHANNELS == N * 8, "cells do not cross warps");
};

// 128 x 128 for wide layers: 4 warps of 64 x 64, 128 accumulators per thread, two blocks per multiprocessor. Larger tiles of a
// warp read less from shared memory per product: 64 x 64 needs 16 ldmatrix for 64 mma, 64 x 32 would need 24.
using Wide = Tile<EQ_MMA_WIDE, 2, 2>;
// 128 x 64 for layers of 64 channels, and where there are few tiles.
using Medium = Tile<EQ_MMA_MEDIUM, 2, 2>;
// 128 x 32 for narrow networks, and where there are fewer still.
using Narrow = Tile<EQ_MMA_NARROW, 4, 1>;

// A row of a tile: the pixel, looked up at each new tap, and its first unit in the layer (-1: absent).
struct alignas(16) Row {
    ClassPixel pixel;
    int unit;
};
static_assert(sizeof(Row) == EQ_MMA_ROW_BYTES, "what the host reserves");

template <class T>
__device__ __forceinline__ Row* rows() {
    return reinterpret_cast<Row*>(shared_arena() + STAGES * T::STAGE_BYTES);
}

// Pixels of a fragment.
template <int COMPONENTS>
constexpr int PER_FRAGMENT = 16 / COMPONENTS;

template <class T, int COMPONENTS>
__device__ __forceinline__ void find_rows(const EqRelaxArgs& args, const EqTile& tile) {
    const EqTarget& target = args.targets[tile.target];
    constexpr int PIXELS = PER_FRAGMENT<COMPONENTS>;
    for (int row = threadIdx.x; row < ROWS; row += T::THREADS) {
        const ClassPixel pixel = class_pixel(target, args.images, tile.first_pixel + row / 16 * PIXELS + row % PIXELS);
        rows<T>()[row] = {pixel, layer_unit(target, pixel)};
    }
}

// Brings the operands of one K step after another, and then the state, from device memory into stages.
//
// A thread fetches pieces of a and of b that lie THREADS pieces apart in a stage, so that each has the same place in its row,
// the same permutation, and (of a) the same component: only rows differ from one to the next.
template <class T, int FORM, int COMPONENTS>
struct SliceFetcher {
    static_assert(T::ROWS_APART % 16 == 0 && T::K_APART % 8 == 0, "rows apart have the same permutation");

    const EqRelaxArgs& args;
    const EqTile tile;
    const SharedAddress arena;
    const int a_row, a_piece; // this thread's first piece of a
    const int channels;       // output channels from this tile's first one on
    uint32_t next_tap, end_tap;
    uint32_t waiting = 0;           // K steps that were fetched but not used
    uint32_t downwards_stages = 0;  // a bit for each stage whose slab is read downwards
    int state_parts = 0;            // of the state, fetched so far

    // Of the tap being fetched: where this thread's pieces come from and go to, a bit for each piece that is inside of the image
    // or of the tile's channels, and how many channels of K are left.
    const Fp16* a_from = nullptr;
    int a_units[T::A_PIECES];
    uint32_t a_inside = 0, b_inside = 0;
    const Fp16* b_from = nullptr;
    int b_to = 0, b_k = 0, b_k_apart = 0;    // within the stage; K of the first piece, and from one piece to the next
    uint32_t b_advance = 0, b_apart = 0;     // elements from one K step to the next, and from one piece to the next
    int left = 0;
    bool downwards = false;

    __device__ __forceinline__ SliceFetcher(const EqRelaxArgs& args, const EqTile& tile)
        : args(args), tile(tile), arena(shared_address(shared_arena())), a_row(threadIdx.x / PIECES),
          a_piece(threadIdx.x % PIECES), channels(static_cast<int>(args.targets[tile.target].channels - tile.first_channel)),
          next_tap(args.targets[tile.target].first_tap), end_tap(next_tap + args.targets[tile.target].taps) {}

    // Fills a stage with the next K step or part of the state; a stage that has nothing left to bring still counts as a group.
    __device__ __forceinline__ void next(uint32_t stage) {
        if (next_tap != end_tap) {
            if (left == 0) begin_tap();
            fetch_step(stage);
        } else if (FORM != EQ_FORM_RAW) {
            fetch_state(stage);
        }
        cp_async_commit();
    }

private:
    __device__ __forceinline__ void begin_tap() {
        const EqTap& tap = args.taps[next_tap];
        const EqSource& source = args.sources[tap.source];
        const int component = a_row % 16 / PER_FRAGMENT<COMPONENTS>;
        left = static_cast<int>(source.channels);
        a_from = static_cast<const Fp16*>(present_side(source, args.phase)) + component * source.component_stride +
                 a_piece * PIECE;
        a_inside = 0;
#pragma unroll
        for (int i = 0; i < T::A_PIECES; ++i) {
            const int unit = source_unit(source, tap, rows<T>()[a_row + i * T::ROWS_APART].pixel);
            a_inside |= (unit >= 0 ? 1u : 0u) << i;
            // cp.async wants an aligned address even where it reads nothing: that of the first pixel.
            a_units[i] = unit >= 0 || broken(PADDING_FETCHED_FROM_ODD_ADDRESS) ? unit : 0;
        }
        b_from = static_cast<const Fp16*>(args.weights) + tap.weight;
        downwards = tap.downwards;
        b_inside = 0;
        if (downwards) {
            const int row = threadIdx.x / T::PER_ROW, piece = threadIdx.x % T::PER_ROW;
            b_from += static_cast<size_t>(row) * tap.pitch + tile.first_channel + piece * PIECE;
            b_to = T::A_BYTES + flat_offset<T::COLUMNS>(row, piece);
            b_k = row;
            b_k_apart = T::K_APART;
            b_apart = T::K_APART * tap.pitch;
            b_advance = DEPTH * tap.pitch;
            if (piece * PIECE < channels) b_inside = ~0u;
        } else {
            b_from += static_cast<size_t>(tile.first_channel + a_row) * tap.pitch + a_piece * PIECE;
            b_to = T::A_BYTES + deep_offset(a_row, a_piece);
            b_k = a_piece * PIECE;
            b_k_apart = 0;
            b_apart = T::ROWS_APART * tap.pitch;
            b_advance = DEPTH;
#pragma unroll
            for (int i = 0; i < T::B_PIECES; ++i) b_inside |= (a_row + i * T::ROWS_APART < channels ? 1u : 0u) << i;
        }
    }

    __device__ __forceinline__ void fetch_step(uint32_t stage) {
        const SharedAddress to = arena + stage * T::STAGE_BYTES, a_to = to + deep_offset(a_row, a_piece);
        const uint32_t a_present = a_piece * PIECE < left ? a_inside : 0;
#pragma unroll
        for (int i = 0; i < T::A_PIECES; ++i)
            cp_async_16(a_to + i * T::THREADS * 16, a_from + a_units[i], a_present >> i & 1);
#pragma unroll
        for (int i = 0; i < T::B_PIECES; ++i)
            cp_async_16(to + b_to + i * T::THREADS * 16, b_from + i * b_apart,
                        (b_inside >> i & 1) && b_k + i * b_k_apart < left);
        const uint32_t bit = 1u << stage;
        downwards_stages = downwards ? downwards_stages | bit : downwards_stages & ~bit;
        ++waiting;
        a_from += DEPTH;
        b_from += b_advance;
        left = left > DEPTH ? left - DEPTH : 0;
        if (left == 0) ++next_tap;
    }

    // Parts 0 and 1: the upper and the lower half of the rows, from the old side. Part 2: s0 of all pixels of a pair.
    __device__ __forceinline__ void fetch_state(uint32_t stage) {
        const int part = state_parts++;
        if (part == 2 && FORM != EQ_FORM_PAIR) return;
        const EqTarget& target = args.targets[tile.target];
        const bool free_state = part == 2;
        const Fp16* from = free_state ? static_cast<const Fp16*>(target.free_state) : old_side<Fp16>(target, *args.phase);
        const int piece = threadIdx.x % T::PER_ROW;
        const bool inside = piece * PIECE < channels;
#pragma unroll
        for (int i = 0; i < T::STATE_PIECES; ++i) {
            const int row = threadIdx.x / T::PER_ROW + i * T::K_APART; // within the stage
            const int of_tile = free_state ? row / 8 * 16 + row % 8 : part * T::HALF + row;
            const int unit = rows<T>()[of_tile].unit;
            const int component = free_state ? 0 : of_tile % 16 / PER_FRAGMENT<COMPONENTS>;
            const bool present = inside && unit >= 0;
            const size_t at = component * target.component_stride + unit + tile.first_channel + piece * PIECE;
            cp_async_16(arena + stage * T::STAGE_BYTES + flat_offset<T::COLUMNS>(row, piece), from + (present ? at : 0), present);
        }
    }
};

// This lane's place in a fragment: rows group and group + 8, columns pair and pair + 1.
struct Place {
    int warp_m, warp_n, lane, group, pair;

    template <class T>
    static __device__ __forceinline__ Place of() {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        return {warp / T::WARPS_N, warp % T::WARPS_N, lane, lane / 4, 2 * (lane % 4)};
    }
};

// Multiplies the slices of one stage. `from` is where they begin, `transposed` how b lies.
//
// What a lane hands to ldmatrix is the row and piece that it addresses in the first fragment. The next fragments are whole rows
// (or, downwards, pieces) further on, and K steps of 16 two pieces: where pieces are permuted by exclusive or, so is the distance.
template <class T>
__device__ __forceinline__ void multiply(float (&sum)[T::M][T::N][4], SharedAddress from, bool transposed, const Place& at) {
    const int a_lane = deep_offset(at.warp_m * T::M * 16 + at.lane % 16, at.lane / 16);
    const int b_lane_up = T::A_BYTES + deep_offset(at.warp_n * T::N * 8 + at.lane / 16 * 8 + at.lane % 8, at.lane / 8 % 2);
    const int b_lane_down = T::A_BYTES + flat_offset<T::COLUMNS>(at.lane % 16, at.warp_n * T::N + at.lane / 16);
#pragma unroll
    for (int k = 0; k < DEPTH / STEP; ++k) {
        uint32_t fa[T::M][4], fb[T::N / 2][4];
        const SharedAddress a = (from + a_lane) ^ (k * 2 * 16);
#pragma unroll
        for (int i = 0; i < T::M; ++i) ldmatrix_x4(fa[i], a + i * 16 * DEPTH * 2);
        if (transposed) { // matrices: K 0..7 and 8..15 of one column fragment, then of the next
            const SharedAddress b = from + b_lane_down + k * STEP * T::COLUMNS * 2;
#pragma unroll
            for (int j = 0; j < T::N; j += 2) ldmatrix_x4_trans(fb[j / 2], b ^ (j * 16));
        } else {
            const SharedAddress b = (from + b_lane_up) ^ (k * 2 * 16);
#pragma unroll
            for (int j = 0; j < T::N; j += 2) ldmatrix_x4(fb[j / 2], b + j * 8 * DEPTH * 2);
        }
        mma_tile(sum, fa, fb);
    }
}

// Turns sums into pre-activations, in passes of independent loads: a fragment's four lanes of a row read 32 bytes, a whole
// sector.
template <class T, int FORM, int COMPONENTS>
__device__ __forceinline__ void add_constants(float (&sum)[T::M][T::N][4], const EqRelaxArgs& args, const EqTarget& target,
                                              const int (&units)[T::M][2], int first_channel, const Place& at) {
    const int last = static_cast<int>(target.channels) - first_channel; // fragments from here on are past the channels
    const auto component_of = [](int half) { return COMPONENTS == 2 ? half : 0; };
    // Adds scale x from[row(i, half) + channel] to every unit.
    const auto add_rows = [&](const float* from, float scale, auto row, auto wanted) {
#pragma unroll
        for (int i = 0; i < T::M; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                if (!wanted(half) || units[i][half] < 0) continue;
                const float* at_row = from + row(i, half) + first_channel;
#pragma unroll
                for (int j = 0; j < T::N; ++j) {
                    if (j * 8 >= last) continue;
                    const float2 two = load_two(at_row + j * 8);
                    sum[i][j][2 * half] = fused(scale, two.x, sum[i][j][2 * half]);
                    sum[i][j][2 * half + 1] = fused(scale, two.y, sum[i][j][2 * half + 1]);
                }
            }
    };
    const auto constant = [&](int half) { return has_constant<FORM>(component_of(half)); };
    const auto every = [](int) { return true; };
    if (target.bias) {
#pragma unroll
        for (int j = 0; j < T::N; ++j) {
            if (j * 8 >= last) continue;
            const float2 two = load_two(target.bias + first_channel + j * 8);
#pragma unroll
            for (int i = 0; i < T::M; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    if (!constant(half)) continue;
                    sum[i][j][2 * half] += two.x;
                    sum[i][j][2 * half + 1] += two.y;
                }
        }
    }
    const auto unit = [&](int i, int half) -> size_t { return component_of(half) * target.component_stride + units[i][half]; };
    if (target.drive) add_rows(target.drive, 1.0f, [&](int i, int half) -> size_t { return units[i][half]; }, constant);
    if (target.addend) add_rows(target.addend, 1.0f, unit, every);
    if (target.nudge) {
        const auto image = [&](int i, int half) -> size_t {
            const int row = (at.warp_m * T::M + i) * 16 + at.group + 8 * half;
            return (static_cast<size_t>(component_of(half)) * args.images + rows<T>()[row].pixel.image) * target.channels;
        };
        add_rows(target.nudge, -1.0f, image, every);
    }
}

// Two neighbouring units of the state as they lie in shared memory.
__device__ __forceinline__ float2 unpacked(const uint32_t* two) {
    return make_float2(to_float(Fp16{static_cast<uint16_t>(*two & 0xffffu)}), to_float(Fp16{static_cast<uint16_t>(*two >> 16)}));
}
__device__ __forceinline__ uint32_t packed(Fp16 low, Fp16 high) {
    return low.bits | static_cast<uint32_t>(high.bits) << 16;
}

// Writes the pre-activations themselves.
template <class T, int COMPONENTS>
__device__ __forceinline__ void store_raw(const float (&sum)[T::M][T::N][4], const EqTarget& target,
                                          const int (&units)[T::M][2], int first_channel) {
    const int last = static_cast<int>(target.channels) - first_channel;
#pragma unroll
    for (int i = 0; i < T::M; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            if (units[i][half] < 0) continue;
            const size_t component = COMPONENTS == 2 ? half : 0;
            float* to = target.raw + component * target.component_stride + units[i][half] + first_channel;
#pragma unroll
            for (int j = 0; j < T::N; ++j)
                if (j * 8 < last) store_two(to + j * 8, make_float2(sum[i][j][2 * half], sum[i][j][2 * half + 1]));
        }
}

// Updates the old state where it lies in shared memory; the change of each cell goes to `cells[row of cells][strip]`.
template <class T, int FORM, int COMPONENTS>
__device__ __forceinline__ void update_state(const float (&sum)[T::M][T::N][4], const Update& update, const EqTarget& target,
                                             const int (&units)[T::M][2], int first_channel, uint32_t first_stage,
                                             const Place& at, EqChange* cells) {
    const int first_row = at.warp_m * T::M * 16;
    const int live = static_cast<int>(target.live_channels) - first_channel;
    unsigned char* const state = shared_arena() + (first_stage + first_row / T::HALF) % STAGES * T::STAGE_BYTES;
    const unsigned char* const free_state = shared_arena() + (first_stage + 2) % STAGES * T::STAGE_BYTES;
    const int first_piece = at.warp_n * T::N;
    // Of the first fragment; the others by addition (rows) and exclusive or (pieces), as for ldmatrix.
    const int in_state = flat_offset<T::COLUMNS>(first_row % T::HALF + at.group, first_piece) + at.pair * 2;
    const int in_free_state = flat_offset<T::COLUMNS>(first_row / 2 + at.group, first_piece) + at.pair * 2;
    constexpr int PITCH = T::COLUMNS * 2;
    constexpr int I = EQ_CHANGE_ROWS / 16, J = EQ_CHANGE_CHANNELS / 8; // fragments of a cell
#pragma unroll
    for (int cell_m = 0; cell_m < T::CELLS_M; ++cell_m)
#pragma unroll
        for (int cell_n = 0; cell_n < T::CELLS_N; ++cell_n) {
            Change change;
#pragma unroll
            for (int i = cell_m * I; i < (cell_m + 1) * I; ++i)
#pragma unroll
                for (int j = cell_n * J; j < (cell_n + 1) * J; ++j) {
                    uint32_t* const two[2] = {
                        reinterpret_cast<uint32_t*>(state + ((in_state + i * 16 * PITCH) ^ (j * 16))),
                        reinterpret_cast<uint32_t*>(state + ((in_state + (i * 16 + 8) * PITCH) ^ (j * 16)))};
                    const bool is_live[2] = {j * 8 < live, j * 8 + 1 < live};
                    if constexpr (FORM == EQ_FORM_PAIR) {
                        const float2 q = unpacked(two[0]), d = unpacked(two[1]);
                        const auto* s0 = reinterpret_cast<const uint32_t*>(free_state + ((in_free_state + i * 8 * PITCH) ^ (j * 16)));
                        const float2 free_two = unpacked(s0);
                        float new_q[2] = {q.x, q.y}, new_d[2] = {d.x, d.y};
                        update.pair(new_q[0], new_d[0], sum[i][j][0], sum[i][j][2], free_two.x);
                        update.pair(new_q[1], new_d[1], sum[i][j][1], sum[i][j][3], free_two.y);
                        Fp16 q16[2], d16[2];
#pragma unroll
                        for (int v = 0; v < 2; ++v) {
                            const bool counts = is_live[v] && units[i][0] >= 0;
                            q16[v] = to_fp16(counts ? new_q[v] : 0.0f);
                            d16[v] = to_fp16(counts ? new_d[v] : 0.0f);
                            change.add(v ? d.y : d.x, to_float(d16[v]));
                        }
                        *two[0] = packed(q16[0], q16[1]);
                        *two[1] = packed(d16[0], d16[1]);
                    } else {
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            const float2 old = unpacked(two[half]);
                            const bool present = units[i][half] >= 0;
                            float x, y;
                            if constexpr (FORM == EQ_FORM_RESPONSE) {
                                const bool any = is_live[0] && present;
                                const uint32_t bits = any ? responding(target, units[i][half] + first_channel + j * 8) : 0;
                                x = update.response(old.x, sum[i][j][2 * half], bits & 1);
                                y = update.response(old.y, sum[i][j][2 * half + 1], bits & 2);
                            } else {
                                x = update.state(old.x, sum[i][j][2 * half]);
                                y = update.state(old.y, sum[i][j][2 * half + 1]);
                            }
                            const Fp16 x16 = to_fp16(is_live[0] && present ? x : 0.0f);
                            const Fp16 y16 = to_fp16(is_live[1] && present ? y : 0.0f);
                            change.add(old.x, to_float(x16));
                            change.add(old.y, to_float(y16));
                            *two[half] = packed(x16, y16);
                        }
                    }
                }
            const EqChange total = warp_sum(change);
            const int row = at.warp_m * T::CELLS_M + cell_m, strip = at.warp_n * T::CELLS_N + cell_n;
            if (at.lane == 0) cells[row * T::STRIPS + strip] = total;
        }
}

// Sends the state away, 16 bytes at a time.
template <class T, int COMPONENTS>
__device__ __forceinline__ void store_state(const EqTarget& target, Fp16* to, int first_channel, uint32_t first_stage) {
    const int piece = threadIdx.x % T::PER_ROW;
    if (first_channel + piece * PIECE >= static_cast<int>(target.channels)) return;
#pragma unroll
    for (int i = 0; i < 2 * T::STATE_PIECES; ++i) {
        const int row = threadIdx.x / T::PER_ROW + i * T::K_APART;
        const int unit = rows<T>()[row].unit;
        if (unit < 0) continue;
        const size_t component = row % 16 / PER_FRAGMENT<COMPONENTS>;
        const unsigned char* from = shared_arena() + (first_stage + row / T::HALF) % STAGES * T::STAGE_BYTES +
                                    flat_offset<T::COLUMNS>(row % T::HALF, piece);
        *reinterpret_cast<uint4*>(to + component * target.component_stride + unit + first_channel + piece * PIECE) =
            *reinterpret_cast<const uint4*>(from);
    }
}

// What follows the products. The old state lies in the stages from `first_stage` on.
template <class T, int FORM, int COMPONENTS>
__device__ __forceinline__ void finish(float (&sum)[T::M][T::N][4], const EqRelaxArgs& args, const EqTile& tile,
                                       uint32_t first_stage, const Place& at) {
    const EqTarget target = args.targets[tile.target]; // a copy: no store makes the compiler load it again
    int units[T::M][2];
#pragma unroll
    for (int i = 0; i < T::M; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half)
            units[i][half] = rows<T>()[(at.warp_m * T::M + i) * 16 + at.group + 8 * half].unit;
    const int first_channel = tile.first_channel + at.warp_n * T::N * 8 + at.pair;
    add_constants<T, FORM, COMPONENTS>(sum, args, target, units, first_channel, at);
    if constexpr (FORM == EQ_FORM_RAW) {
        store_raw<T, COMPONENTS>(sum, target, units, first_channel);
    } else {
        auto* const cells = reinterpret_cast<EqChange*>(rows<T>() + ROWS);
        if (!broken(OLD_STATE_NOT_AWAITED)) cp_async_wait<0>();
        __syncthreads();
        const Update update(target, *args.phase);
        update_state<T, FORM, COMPONENTS>(sum, update, target, units, first_channel, first_stage, at, cells);
        __syncthreads();
        store_state<T, COMPONENTS>(target, new_side<Fp16>(target, *args.phase), tile.first_channel, first_stage);
        const int strip = threadIdx.x;
        if (strip < T::STRIPS && tile.first_channel + strip * EQ_CHANGE_CHANNELS < target.channels)
            args.changes[tile.change + strip] = ordered_sum(cells + strip, ROWS / EQ_CHANGE_ROWS, T::STRIPS);
    }
}

template <class T, int FORM, int COMPONENTS>
__device__ __forceinline__ void relax(const EqRelaxArgs& args) {
    if (phase_is_over(args.phase, args.within_phase)) return;
    const EqTile tile = args.tiles[blockIdx.x];
    find_rows<T, COMPONENTS>(args, tile);
    __syncthreads();

    SliceFetcher<T, FORM, COMPONENTS> fetcher(args, tile);
#pragma unroll 1
    for (uint32_t stage = 0; stage < STAGES - 1; ++stage) fetcher.next(stage);

    const Place at = Place::of<T>();
    float sum[T::M][T::N][4] = {};
    uint32_t stage = 0;
    for (; fetcher.waiting > 0; stage = (stage + 1) % STAGES) {
        // This step's slices have arrived for every thread, and every thread is done with those of the step before: their
        // stage is free for the fetch below.
        if (!broken(COPIES_NOT_AWAITED)) cp_async_wait<STAGES - 2>();
        if (!broken(NO_BARRIER_BETWEEN_STAGES)) __syncthreads();
        multiply<T>(sum, fetcher.arena + stage * T::STAGE_BYTES, fetcher.downwards_stages >> stage & 1u, at);
        --fetcher.waiting;
        fetcher.next((stage + STAGES - 1) % STAGES);
    }

    finish<T, FORM, COMPONENTS>(sum, args, tile, stage, at);
}

} // namespace mma

// Blocks of a tile that a multiprocessor holds at once: without the narrow one's number nvcc aims at more of them on sm_80, and spills
// for it.
#define EQ_RELAX_MMA(name, Tile, blocks)                                                                                         \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_raw_1, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_RAW, 1>(args); }       \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_raw_2, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_RAW, 2>(args); }       \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_states_1, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_STATES, 1>(args); } \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_states_2, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_STATES, 2>(args); } \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_pair, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_PAIR, 2>(args); }         \
    EQ_KERNEL_RESIDENT(relax_mma_##name##_response, mma::Tile::THREADS, blocks, EqRelaxArgs) { mma::relax<mma::Tile, EQ_FORM_RESPONSE, 1>(args); }

EQ_RELAX_MMA(wide, Wide, 2)
EQ_RELAX_MMA(medium, Medium, 2)
EQ_RELAX_MMA(narrow, Narrow, 2)
