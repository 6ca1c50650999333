// The relaxation step on tensor cores: fp16 operands, fp32 sums, the same interface and epilogue as relax_simt.cu.
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
// cores work on this one; pixels outside of the image and channels past the end arrive as zeros.
//
//      a[ROWS][DEPTH]          pixels x source channels: what a tap reads
//      b[COLUMNS][DEPTH]       upwards: rows of the slab are output channels, K contiguous         (ldmatrix)
//      b[DEPTH][COLUMNS]       downwards: the same slab read along K, output channels contiguous   (ldmatrix.trans)
//
// so that one copy of each weight serves both directions. 16-byte pieces of a row are permuted (swizzled) by its number: the
// eight rows that one ldmatrix phase reads lie in different banks.
//
// Shared memory: STAGES x (ROWS + COLUMNS) x DEPTH x 2 bytes, and ROWS pixels; 65.5 KB for the 128 x 128 tile. Limit: tensor cores, except where
// K is short (layer 1 of the paper's networks), which is bound by memory.
#include "epilogue.cuh"
#include "mma_slices.cuh"

namespace mma {

constexpr int ROWS = 128;

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
    static constexpr int PER_ROW = COLUMNS / PIECE;      // pieces of a row of b, downwards
    static constexpr int ROWS_APART = THREADS / PIECES;  // rows from one of a thread's pieces to the next
    static constexpr int K_APART = THREADS / PER_ROW;    // the same downwards
    static_assert(A_PIECES * THREADS == ROWS * PIECES, "threads share a's pieces evenly");
    static_assert(B_PIECES * THREADS == COLUMNS * PIECES, "threads share b's pieces evenly");
    static_assert(N % 2 == 0 && (N & (N - 1)) == 0, "ldmatrix.x4 brings two column fragments at once, found by exclusive or");
    static_assert(STAGE_BYTES % 128 == 0 && A_BYTES % 128 == 0, "stages begin at the first bank");
};

// 128 x 128 for wide layers: 4 warps of 64 x 64, 128 accumulators per thread, two blocks per multiprocessor. Larger tiles of a
// warp read less from shared memory per product: 64 x 64 needs 16 ldmatrix for 64 mma, 64 x 32 would need 24.
using Wide = Tile<128, 2, 2>;
// 128 x 32 for narrow networks.
using Narrow = Tile<32, 4, 1>;

template <class T, int COMPONENTS>
__device__ __forceinline__ void relax(const EqRelaxArgs& args) {
    if (phase_is_over(args.phase, args.within_phase)) return;
    const EqTile tile = args.tiles[blockIdx.x];
    const EqTarget& target = args.targets[tile.target];
    const SharedAddress arena = shared_address(shared_arena());
    const int thread = threadIdx.x, warp = thread / WARP, lane = thread % WARP;
    const int warp_m = warp / T::WARPS_N, warp_n = warp % T::WARPS_N;

    // Which pixel each row of a holds: looked up at each new tap.
    auto* const pixels = reinterpret_cast<ClassPixel*>(shared_arena() + STAGES * T::STAGE_BYTES);
    constexpr int PER_FRAGMENT = 16 / COMPONENTS; // pixels
    for (int row = thread; row < ROWS; row += T::THREADS)
        pixels[row] = class_pixel(target, args.images, tile.first_pixel + row / 16 * PER_FRAGMENT + row % PER_FRAGMENT);
    __syncthreads();

    // A thread fetches pieces of a and of b that lie THREADS pieces apart in a stage, so that each has the same place in its
    // row, the same permutation, and (of a) the same component: only rows differ from one to the next.
    static_assert(T::ROWS_APART % 16 == 0 && T::K_APART % 8 == 0, "rows apart have the same permutation");
    const int a_piece = thread % PIECES, a_row = thread / PIECES;
    const int a_to = deep_offset(a_row, a_piece);
    const int component = a_row % 16 / PER_FRAGMENT;
    // Output channels from this tile's first one on.
    const int channels = static_cast<int>(target.channels - tile.first_channel);
    const uint32_t end_tap = target.first_tap + target.taps;
    uint32_t next_tap = target.first_tap;

    // Of the tap being fetched, renewed by begin_tap: where this thread's pieces come from and go to, a bit for each piece that
    // is inside of the image or of the tile's channels, and how many channels of K are left.
    const Fp16* a_from = nullptr;
    int a_units[T::A_PIECES];
    uint32_t a_inside = 0, b_inside = 0;
    const Fp16* b_from = nullptr;
    int b_to = 0, b_k = 0, b_k_apart = 0;    // within the stage; K of the first piece, and from one piece to the next
    uint32_t b_advance = 0, b_apart = 0;     // elements from one K step to the next, and from one piece to the next
    int left = 0;
    bool downwards = false;
    auto begin_tap = [&] {
        const EqTap& tap = args.taps[next_tap];
        const EqSource& source = args.sources[tap.source];
        left = static_cast<int>(source.channels);
        a_from = static_cast<const Fp16*>(present_side(source, args.phase)) + component * source.component_stride +
                 a_piece * PIECE;
        a_inside = 0;
#pragma unroll
        for (int i = 0; i < T::A_PIECES; ++i) {
            a_units[i] = source_unit(source, tap, pixels[a_row + i * T::ROWS_APART]);
            a_inside |= (a_units[i] >= 0 ? 1u : 0u) << i;
        }
        b_from = static_cast<const Fp16*>(args.weights) + tap.weight;
        downwards = tap.downwards;
        b_inside = 0;
        if (downwards) {
            const int row = thread / T::PER_ROW, piece = thread % T::PER_ROW;
            b_from += static_cast<size_t>(row) * tap.pitch + tile.first_channel + piece * PIECE;
            b_to = T::A_BYTES + flat_offset<T::COLUMNS>(row, piece);
            b_k = row;
            b_k_apart = T::K_APART;
            b_apart = T::K_APART * tap.pitch;
            b_advance = DEPTH * tap.pitch;
            if (piece * PIECE < channels) b_inside = ~0u;
        } else {
            b_from += static_cast<size_t>(tile.first_channel + a_row) * tap.pitch + a_piece * PIECE;
            b_to = T::A_BYTES + a_to;
            b_k = a_piece * PIECE;
            b_k_apart = 0;
            b_apart = T::ROWS_APART * tap.pitch;
            b_advance = DEPTH;
#pragma unroll
            for (int i = 0; i < T::B_PIECES; ++i) b_inside |= (a_row + i * T::ROWS_APART < channels ? 1u : 0u) << i;
        }
    };

    // Which stages hold slabs to be read downwards (a bit each), and how many K steps were fetched but not used.
    uint32_t downwards_stages = 0, waiting = 0;

    // Brings the next K step into a stage; past the last one only the (empty) group counts. Of an absent piece nothing is
    // read, wherever its address points.
    auto fetch = [&](uint32_t stage) {
        if (next_tap != end_tap) {
            if (left == 0) begin_tap();
            const SharedAddress to = arena + stage * T::STAGE_BYTES;
            const uint32_t a_present = a_piece * PIECE < left ? a_inside : 0;
#pragma unroll
            for (int i = 0; i < T::A_PIECES; ++i)
                cp_async_16(to + a_to + i * T::THREADS * 16, a_from + a_units[i], a_present >> i & 1);
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
        cp_async_commit();
    };

    // What this lane hands to ldmatrix, from the start of a stage: the row and piece that it addresses in the first fragment.
    // The next fragments are whole rows (or, downwards, pieces) further on, and K steps of 16 two pieces: where pieces are
    // permuted by exclusive or, so is the distance.
    const int a_lane = deep_offset(warp_m * T::M * 16 + lane % 16, lane / 16);
    const int b_lane_up = T::A_BYTES + deep_offset(warp_n * T::N * 8 + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    const int b_lane_down = T::A_BYTES + flat_offset<T::COLUMNS>(lane % 16, warp_n * T::N + lane / 16);

    float sum[T::M][T::N][4] = {};
#pragma unroll
    for (uint32_t stage = 0; stage < STAGES - 1; ++stage) fetch(stage);

    for (uint32_t stage = 0; waiting > 0; stage = (stage + 1) % STAGES) {
        // This step's slices have arrived for every thread, and every thread is done with those of the step before: their
        // stage is free for the fetch below.
        if (!EQ_MUTATION(7)) cp_async_wait<STAGES - 2>();
        if (!EQ_MUTATION(6)) __syncthreads();
        const SharedAddress from = arena + stage * T::STAGE_BYTES;
        const bool transposed = downwards_stages >> stage & 1u;
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
        --waiting;
        fetch((stage + STAGES - 1) % STAGES);
    }

    Change change;
    const int group = lane / 4, pair = 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < T::M; ++i) {
        const uint32_t first = tile.first_pixel + (warp_m * T::M + i) * PER_FRAGMENT + group;
#pragma unroll
        for (int own = 0; own < 2 / COMPONENTS; ++own) {
            const ClassPixel at = class_pixel(target, args.images, first + 8 * own);
#pragma unroll
            for (int j = 0; j < T::N; ++j) {
                const int channel = tile.first_channel + (warp_n * T::N + j) * 8 + pair;
                float p[COMPONENTS][2];
#pragma unroll
                for (int c = 0; c < COMPONENTS; ++c) {
                    p[c][0] = sum[i][j][2 * (own + c)];
                    p[c][1] = sum[i][j][2 * (own + c) + 1];
                }
                finish<Fp16>(args, target, at, channel, p, change);
            }
        }
    }
    if (args.form == EQ_FORM_RAW) return;
    cp_async_wait<0>();
    __syncthreads(); // the arena is free for the reduction
    report_change(args.changes, change, reinterpret_cast<EqChange*>(shared_arena()));
}

} // namespace mma

EQ_KERNEL(relax_mma_wide_1, mma::Wide::THREADS, EqRelaxArgs) { mma::relax<mma::Wide, 1>(args); }
EQ_KERNEL(relax_mma_wide_2, mma::Wide::THREADS, EqRelaxArgs) { mma::relax<mma::Wide, 2>(args); }
EQ_KERNEL(relax_mma_narrow_1, mma::Narrow::THREADS, EqRelaxArgs) { mma::relax<mma::Narrow, 1>(args); }
EQ_KERNEL(relax_mma_narrow_2, mma::Narrow::THREADS, EqRelaxArgs) { mma::relax<mma::Narrow, 2>(args); }
