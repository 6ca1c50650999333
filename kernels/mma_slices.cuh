// What the tensor-core kernels share: how slices of fp16 values lie in shared memory.
//
// A slice is fetched and read in pieces of 16 bytes. ldmatrix reads eight rows of one piece at a time; the pieces of a row
// are permuted (swizzled) by its number so that those eight lie in different banks.
#pragma once

#include "device.cuh"

namespace mma {

constexpr int PIECE = 8; // fp16 values in 16 bytes
constexpr int STEP = 16; // K of one mma
constexpr int DEPTH = EQ_MMA_DEPTH; // K that a stage holds
constexpr int PIECES = DEPTH / PIECE;
constexpr int STAGES = EQ_MMA_STAGES; // slices under way or in use

static_assert(EQ_CHANNEL_MULTIPLE == PIECE, "channels are padded to whole pieces");

// Byte offset of a 16-byte piece in a slice with rows of DEPTH values: two rows share 128 bytes of banks.
__device__ __forceinline__ int deep_offset(int row, int piece) {
    return row * (DEPTH * 2) + ((piece ^ ((row >> 1) & (PIECES - 1))) * 16);
}

// The same in b[DEPTH][COLUMNS].
template <int COLUMNS>
__device__ __forceinline__ int flat_offset(int row, int piece) {
    constexpr int PER_ROW = COLUMNS / PIECE;
    constexpr int MASK = (PER_ROW < 8 ? PER_ROW : 8) - 1;
    // Where a row is shorter than 128 bytes, rows that share banks take the next permutation.
    constexpr int SHARE = PER_ROW < 8 ? 8 / PER_ROW : 1;
    return row * (COLUMNS * 2) + ((piece ^ ((row / SHARE) & MASK)) * 16);
}

} // namespace mma
