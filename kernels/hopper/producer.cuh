// The producer: one thread that keeps the ring full. It has no more to do than to say where boxes begin.
#pragma once

#include "ring.cuh"

namespace hopper {

template <int BLOCKS>
struct Producer {
    const EqHopperArgs& args;
    Ring<BLOCKS> ring;
    uint32_t written = 0; // bits of the slots that held a state

    __device__ __forceinline__ const void* map(uint32_t number) const { return args.maps + number * EQ_TENSOR_MAP_BYTES; }

    // The slices of the tile's part of K, in the order of taps.
    template <int FORM, int COMPONENTS>
    __device__ __forceinline__ void products(const EqTile& tile, const EqHopperTarget& views, const ptx::Corner (&corners)[2][2]) {
        const uint32_t iterations = args.relax.phase ? args.relax.phase->iterations : 0;
        uint32_t slice = tile.first_step, left = tile.steps;
        if (broken(PART_BEGINS_A_STEP_EARLY) && slice > 0) --slice;
        for (uint32_t t = views.first_tap; left > 0; ++t) {
            const EqHopperTap tap = args.taps[t];
            if (slice >= tap.slices) { // the tap belongs to an earlier part
                slice -= tap.slices;
                continue;
            }
            const void* const pixels = map(view(tap.views, (iterations + tap.updated) & 1));
            const void* const slabs = map(tap.slabs);
#pragma unroll 1
            for (; slice < tap.slices && left > 0; ++slice, --left, ring.advance()) {
                ring.announce(SLOT_BYTES, FORM != EQ_FORM_RAW && written >> ring.slot & 1);
                written &= ~(1u << ring.slot);
                const int k = slice * DEPTH;
#pragma unroll
                for (int i = 0; i < PIXEL_BOXES; ++i) {
                    ptx::Corner at = corners[i / 2][i % 2];
                    at.channel = k;
                    at.x += tap.shift_x;
                    if (broken(TAP_SHIFTED_BY_ONE)) ++at.x;
                    at.y += tap.shift_y;
                    ring.fetch(i, tile.shared == EQ_SHARED_LEFT, pixels, at);
                }
#pragma unroll
                for (int i = 0; i < SLAB_BOXES; ++i) {
                    const int channel = tile.first_channel + i * DEPTH;
                    ring.fetch(PIXEL_BOXES + i, tile.shared == EQ_SHARED_RIGHT, slabs, tap.downwards ? channel : k,
                               tap.downwards ? k : channel, static_cast<int>(tap.slab));
                }
            }
            slice = 0;
        }
    }

    // What the epilogue needs: the old state and, of a pair, s0.
    template <int FORM>
    __device__ __forceinline__ void state(const EqTile& tile, const ptx::Corner (&corners)[2][2]) {
        // Read here, not before the products: registers are few.
        const EqHopperTarget views = args.targets[tile.target];
        const void* const old = map(view(views.views, old_view(*args.relax.phase)));
        const int count = halves<BLOCKS>(args.relax.targets[tile.target], tile);
#pragma unroll 1
        for (int half = 0; half < count; ++half, ring.advance()) {
            written |= 1u << ring.slot;
            ring.announce((FORM == EQ_FORM_PAIR ? PIXEL_BOXES + CONSUMERS : PIXEL_BOXES) * BOX_BYTES);
            const int channel = tile.first_channel + half * DEPTH;
#pragma unroll
            for (int i = 0; i < PIXEL_BOXES; ++i) {
                ptx::Corner at = corners[i / 2][i % 2];
                at.channel = channel;
                ptx::tma_load(ring.box(i), old, at, ring.full());
            }
            if constexpr (FORM == EQ_FORM_PAIR) {
#pragma unroll
                for (int i = 0; i < CONSUMERS; ++i) {
                    ptx::Corner at = corners[i][0];
                    at.channel = channel;
                    ptx::tma_load(ring.box(PIXEL_BOXES + i), map(views.free_view), at, ring.full());
                }
            }
        }
    }

    template <int FORM, int COMPONENTS>
    __device__ __forceinline__ void run() {
        for (uint32_t t = blockIdx.x; t < args.tiles; t += gridDim.x) {
            const EqTile tile = args.relax.tiles[t];
            if (tile.kind == EQ_TILE_NONE) break;
            const EqHopperTarget views = args.targets[tile.target];
            ptx::Corner corners[CONSUMERS][2];
#pragma unroll
            for (int consumer = 0; consumer < CONSUMERS; ++consumer)
#pragma unroll
                for (int sum = 0; sum < 2; ++sum) corners[consumer][sum] = corner_of<COMPONENTS>(views, tile, consumer, sum);
            products<FORM, COMPONENTS>(tile, views, corners);
            if constexpr (FORM != EQ_FORM_RAW)
                if (tile.kind != EQ_TILE_PART) state<FORM>(tile, corners);
        }
    }
};

} // namespace hopper
