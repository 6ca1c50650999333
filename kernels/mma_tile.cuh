// The tile of a block of relax_mma.cu: how warps and threads share it, and where its rows are.
#pragma once

#include "gather.cuh"
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

// This lane's place in a fragment: rows group and group + 8, columns pair and pair + 1.
struct Place {
    int warp_m, warp_n, lane, group, pair;

    template <class T>
    static __device__ __forceinline__ Place of() {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        return {warp / T::WARPS_N, warp % T::WARPS_N, lane, lane / 4, 2 * (lane % 4)};
    }
};

} // namespace mma
