// Where K is split: the sums of a part on their way through device memory. A second launch joins them, in their order, and ends the update.
#pragma once

#include "consumer.cuh"

namespace hopper {

constexpr int PIECES = 2 * 64 / 4; // of a thread's sums, four each

// Where a part's sums lie: each thread's own, in pieces of 16 bytes side by side.
__device__ __forceinline__ float4* part(const EqRelaxArgs& args, uint32_t number) {
    constexpr size_t UNITS = EQ_HOPPER_ROWS * EQ_HOPPER_COLUMNS;
    static_assert(UNITS == PIECES * 4 * CONSUMERS * WARPGROUP, "a part is a tile's sums");
    return reinterpret_cast<float4*>(args.parts + number * UNITS) + threadIdx.x;
}

__device__ __forceinline__ void store_part(const float (&sums)[2][64], float4* to) {
#pragma unroll
    for (int piece = 0; piece < PIECES; ++piece) {
        const float* const four = sums[piece / 16] + piece % 16 * 4;
        to[piece * CONSUMERS * WARPGROUP] = make_float4(four[0], four[1], four[2], four[3]);
    }
}

// A group of pieces at a time, by a condition instead of an index: registers for one group on its way suffice.
__device__ __forceinline__ void add_part(float (&sums)[2][64], const float4* from) {
    constexpr int GROUP = 8, GROUPS = PIECES / GROUP;
#pragma unroll 1
    for (int group = 0; group < GROUPS; ++group) {
        float4 values[GROUP];
#pragma unroll
        for (int i = 0; i < GROUP; ++i) values[i] = read_only(from + (group * GROUP + i) * CONSUMERS * WARPGROUP);
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
            if (piece / GROUP != group) continue;
            const float4 four = values[piece % GROUP];
            float* const to = sums[piece / 16] + piece % 16 * 4;
            to[0] += four.x;
            to[1] += four.y;
            to[2] += four.z;
            to[3] += four.w;
        }
    }
}

// The parts of a tile that joins; of a whole one there are none.
__device__ __forceinline__ void add_parts(float (&sums)[2][64], const EqRelaxArgs& args, const EqTile& tile) {
    uint32_t first = tile.first_part, count = tile.parts;
    if (broken(JOIN_FORGETS_LAST_PART) && count > 1) --count;
    if (broken(JOIN_READS_NEXT_PART)) ++first;
#pragma unroll 1
    for (uint32_t i = 0; i < count; ++i) add_part(sums, part(args, first + (broken(JOIN_TAKES_A_PART_TWICE) && i == 1 ? 0 : i)));
}

} // namespace hopper
