// The products of one stage, and the sums of a part of K on their way through device memory.
#pragma once

#include "mma_tile.cuh"

namespace mma {

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

// Where a part's sums lie: each thread's own, in pieces of 16 bytes side by side.
template <class T>
__device__ __forceinline__ float4* part(const EqRelaxArgs& args, uint32_t number) {
    return reinterpret_cast<float4*>(args.parts + static_cast<size_t>(number) * ROWS * T::COLUMNS) + threadIdx.x;
}

template <class T>
__device__ __forceinline__ void store_part(const float (&sum)[T::M][T::N][4], float4* to) {
#pragma unroll
    for (int i = 0; i < T::M; ++i)
#pragma unroll
        for (int j = 0; j < T::N; ++j)
            to[(i * T::N + j) * T::THREADS] = make_float4(sum[i][j][0], sum[i][j][1], sum[i][j][2], sum[i][j][3]);
}

// A row of fragments at a time, by a condition instead of an index: registers for one row of values on their way suffice.
template <class T>
__device__ __forceinline__ void add_part(float (&sum)[T::M][T::N][4], const float4* from) {
#pragma unroll 1
    for (int row = 0; row < T::M; ++row) {
        float4 values[T::N];
#pragma unroll
        for (int j = 0; j < T::N; ++j) values[j] = read_only(from + (row * T::N + j) * T::THREADS);
#pragma unroll
        for (int i = 0; i < T::M; ++i) {
            if (i != row) continue;
#pragma unroll
            for (int j = 0; j < T::N; ++j) {
                sum[i][j][0] += values[j].x;
                sum[i][j][1] += values[j].y;
                sum[i][j][2] += values[j].z;
                sum[i][j][3] += values[j].w;
            }
        }
    }
}

} // namespace mma
