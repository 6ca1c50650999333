// A consumer: a warpgroup that multiplies what the ring brings, two sums of 64 pixels by 128 channels, in 128 registers a thread.
#pragma once

#include "ring.cuh"

namespace hopper {

// A thread's place in its warpgroup's products: rows `row` and `row` + 8, columns `pair` and `pair` + 1 of each eight.
struct Place {
    int consumer, warp, lane, row, pair;

    __device__ __forceinline__ Place()
        : consumer(threadIdx.x / WARPGROUP), warp(threadIdx.x % WARPGROUP / WARP), lane(threadIdx.x % WARP),
          row(warp * 16 + lane / 4), pair(lane % 4 * 2) {}

    __device__ __forceinline__ bool first() const { return threadIdx.x % WARPGROUP == 0; }
};

// The slices of all taps of one direction. The products of one slot run while the next is waited for; then its slot is free.
template <bool Downwards>
__device__ __forceinline__ void multiply(float (&sums)[2][64], Ring& ring, uint32_t slices, bool& running, const Place& at) {
    constexpr uint32_t EIGHT_ROWS = 8 * ROW_BYTES;
    constexpr int STEP = 16;                                                       // K of one product
    constexpr uint64_t PIXELS_APART = STEP * 2 / 16;                               // from one step to the next, in 16 bytes
    constexpr uint64_t SLAB_APART = (Downwards ? STEP * ROW_BYTES : STEP * 2) / 16;
#pragma unroll 1
    for (uint32_t slice = 0; slice < slices; ++slice) {
        if (!broken(RING_SLOT_NOT_AWAITED)) ptx::mbarrier_wait(ring.full(), ring.parity);
        const uint64_t first = ptx::operand(ring.box(2 * at.consumer), 16, EIGHT_ROWS);
        const uint64_t second = ptx::operand(ring.box(2 * at.consumer + 1), 16, EIGHT_ROWS);
        uint32_t boxes_apart = BOX_BYTES;
        if (broken(SLAB_DISTANCE_WRONG)) boxes_apart /= 2;
        const uint64_t slab = ptx::operand(ring.box(PIXEL_BOXES), boxes_apart, EIGHT_ROWS);
        if (!broken(NO_FENCE_BEFORE_PRODUCTS)) ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < DEPTH / STEP; ++k) {
            ptx::wgmma_m64n128k16<Downwards>(sums[0], first + k * PIXELS_APART, slab + k * SLAB_APART);
            ptx::wgmma_m64n128k16<Downwards>(sums[1], second + k * PIXELS_APART, slab + k * SLAB_APART);
        }
        ptx::wgmma_commit();
        if (!broken(RING_SLOT_RELEASED_EARLY)) ptx::wgmma_wait<1>();
        uint32_t free_slot = ring.previous_empty();
        if (broken(RING_SLOT_RELEASED_EARLY)) free_slot = ring.empty();
        bool arrives = running && at.lane == 0;
        if (broken(RING_ARRIVAL_LOST) && at.warp == 3) arrives = false;
        if (arrives) ptx::mbarrier_arrive(free_slot);
        running = true;
        ring.advance();
    }
}

// All products of a tile.
__device__ __forceinline__ void multiply_all(float (&sums)[2][64], Ring& ring, const EqHopperTarget& views, const Place& at) {
#pragma unroll
    for (int sum = 0; sum < 2; ++sum)
#pragma unroll
        for (int i = 0; i < 64; ++i) sums[sum][i] = 0;
    bool running = false;
    multiply<false>(sums, ring, views.slices_up, running, at);
    multiply<true>(sums, ring, views.slices_down, running, at);
    if (!broken(SUMS_NOT_AWAITED)) ptx::wgmma_wait<0>();
    if (running && at.lane == 0) ptx::mbarrier_arrive(ring.previous_empty());
}

} // namespace hopper
