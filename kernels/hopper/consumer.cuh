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

// So many slots: products of boxes `left` and `left` + 1 of each with the 128 columns from box `right` on. Of operands that lie across K runs
// down a box, otherwise along its rows. The products of one slot run while the next is waited for; then its slot is free.
template <bool LeftAcross, bool RightAcross, int BLOCKS>
__device__ __forceinline__ void multiply(float (&sums)[2][64], Ring<BLOCKS>& ring, uint32_t slots, bool& running, const Place& at, int left,
                                         int right) {
    constexpr uint32_t EIGHT_ROWS = (broken(ROWS_DISTANCE_WRONG) ? 4 : 8) * ROW_BYTES;
    constexpr int STEP = 16;                                                 // K of one product
    constexpr uint64_t LEFT_APART = STEP * (LeftAcross ? ROW_BYTES : 2) / 16; // from one step to the next, in 16 bytes
    constexpr uint64_t RIGHT_APART = STEP * (RightAcross ? ROW_BYTES : 2) / 16;
#pragma unroll 1
    for (uint32_t slot = 0; slot < slots; ++slot) {
        if (!broken(RING_SLOT_NOT_AWAITED)) ptx::mbarrier_wait(ring.full(), ring.parity);
        const uint64_t first = ptx::operand(ring.box(left), 16, EIGHT_ROWS);
        const uint64_t second = ptx::operand(ring.box(left + 1), 16, EIGHT_ROWS);
        uint32_t boxes_apart = BOX_BYTES;
        if (broken(SLAB_DISTANCE_WRONG)) boxes_apart /= 2;
        const uint64_t columns = ptx::operand(ring.box(right), boxes_apart, EIGHT_ROWS);
        if (!broken(NO_FENCE_BEFORE_PRODUCTS)) ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < DEPTH / STEP; ++k) {
            ptx::wgmma_m64n128k16<LeftAcross, RightAcross>(sums[0], first + k * LEFT_APART, columns + k * RIGHT_APART);
            ptx::wgmma_m64n128k16<LeftAcross, RightAcross>(sums[1], second + k * LEFT_APART, columns + k * RIGHT_APART);
        }
        ptx::wgmma_commit();
        if (!broken(RING_SLOT_RELEASED_EARLY)) ptx::wgmma_wait<1>();
        uint32_t free_slot = ring.previous_empty();
        if (broken(RING_SLOT_RELEASED_EARLY)) free_slot = ring.empty();
        bool arrives = running && at.lane == 0;
        if (broken(RING_ARRIVAL_LOST) && at.warp == 3) arrives = false;
        if (arrives) ring.release(free_slot, 1);
        running = true;
        ring.advance();
    }
}

__device__ __forceinline__ void begin(float (&sums)[2][64]) {
#pragma unroll
    for (int sum = 0; sum < 2; ++sum)
#pragma unroll
        for (int i = 0; i < 64; ++i) sums[sum][i] = 0;
}

// Waits for the last products; then the last slot is free.
template <int BLOCKS>
__device__ __forceinline__ void end(const Ring<BLOCKS>& ring, bool running, const Place& at) {
    if (!broken(SUMS_NOT_AWAITED)) ptx::wgmma_wait<0>();
    if (running && at.lane == 0) ring.release(ring.previous_empty(), 1);
}

// The products of a tile of the relaxation, or of a part of its K.
template <int BLOCKS>
__device__ __forceinline__ void multiply_all(float (&sums)[2][64], Ring<BLOCKS>& ring, const EqTile& tile, const EqHopperTarget& views,
                                             const Place& at) {
    begin(sums);
    bool running = false;
    const uint32_t above = views.slices_up > tile.first_step ? views.slices_up - tile.first_step : 0;
    const uint32_t up = above < tile.steps ? above : tile.steps;
    multiply<false, false>(sums, ring, up, running, at, 2 * at.consumer, PIXEL_BOXES);
    multiply<false, true>(sums, ring, tile.steps - up, running, at, 2 * at.consumer, PIXEL_BOXES);
    end(ring, running, at);
}

} // namespace hopper
