// How a block of the kernels for Hopper begins: barriers, tensor maps, and who does what with how many registers.
#pragma once

#include "ring.cuh"

namespace hopper {

// Runs `produce` in one thread, `consume` in two warpgroups.
template <int BLOCKS, class Produce, class Consume>
__device__ __forceinline__ void share_out(const Ring<BLOCKS>& ring, const uint8_t* maps, uint32_t map_count, Produce produce,
                                          Consume consume) {
    if (threadIdx.x == 0) ring.make();
    if (broken(MAPS_NOT_FENCED)) map_count = 1;
    for (uint32_t map = threadIdx.x; map < map_count; map += EQ_HOPPER_THREADS)
        ptx::fence_tensor_map(maps + map * EQ_TENSOR_MAP_BYTES);
    ring.meet();
    if (threadIdx.x / WARPGROUP == CONSUMERS) {
        ptx::fewer_registers<56>();
        if (threadIdx.x / WARP == CONSUMER_WARPS && ptx::elected()) produce();
    } else {
        ptx::more_registers<224>();
        consume();
    }
    // The other block's copies and arrivals come here, as long as it works.
    if (BLOCKS > 1 && !broken(CLUSTER_ENDS_EARLY)) ring.meet();
}

} // namespace hopper
