// What follows the products of relax_mma.cu: constants, the update of the state where it lies in shared memory, and its way out.
#pragma once

#include "epilogue.cuh"
#include "mma_tile.cuh"

namespace mma {

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
    if (target.constant) add_rows(target.constant, 1.0f, [&](int i, int half) -> size_t { return units[i][half]; }, constant);
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

} // namespace mma
