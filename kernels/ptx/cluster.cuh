// Clusters: blocks that run together, on neighbouring multiprocessors, and reach each other's shared memory; one function per instruction.
//
// An address of shared memory names the same place in every block; `in_block` makes it one of the block with that rank. A block may use
// another's memory once it knows that the other has begun, and must not end while others may use its own: all meet before and after.
#pragma once

#include "mbarrier.cuh"
#include "tma.cuh"

namespace ptx {

__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ __forceinline__ uint32_t in_block(uint32_t shared, uint32_t rank) {
    uint32_t mapped;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(shared), "r"(rank));
    return mapped;
}

// All threads of all blocks of the cluster; what they wrote before is known to all after.
__device__ __forceinline__ void meet_cluster() {
    asm volatile("barrier.cluster.arrive.release;\n"
                 "barrier.cluster.wait.acquire;" ::: "memory");
}

// Barriers that this thread has made are there for the copies of other blocks, once they have met it.
__device__ __forceinline__ void fence_barriers_made() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// So many arrivals at a barrier of another block (`in_block`), whose copies may then overwrite what products or stores of this thread have
// read. What threads wrote is not handed over: that would take `.release.cluster`, and a wait for all of the GPU's memory in every slot.
__device__ __forceinline__ void mbarrier_arrive_other(uint32_t mapped, uint32_t count) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0], %1;" :: "r"(mapped), "r"(count) : "memory");
}

// The same where threads have written there, and who waits is to know of it.
__device__ __forceinline__ void mbarrier_arrive_other_release(uint32_t mapped, uint32_t count) {
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0], %1;" :: "r"(mapped), "r"(count) : "memory");
}

// As `mbarrier_wait`; what threads of other blocks wrote before they arrived by `mbarrier_arrive_other_release` is known after it.
__device__ __forceinline__ void mbarrier_wait_acquire(uint32_t barrier, uint32_t parity) {
    uint32_t complete;
    do {
        asm volatile(
            "{\n"
            ".reg .pred complete;\n"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 complete, [%1], %2;\n"
            "selp.u32 %0, 1, 0, complete;\n"
            "}\n"
            : "=r"(complete) : "r"(barrier), "r"(parity) : "memory");
    } while (complete == 0);
}

// The box arrives at the same place in each block of the mask, and counts at the same barrier there.
__device__ __forceinline__ void tma_load_to(uint16_t blocks, uint32_t shared, const void* map, const Corner& at, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8;"
        :: "r"(shared), "l"(map), "r"(at.channel), "r"(at.x), "r"(at.y), "r"(at.image), "r"(at.component), "r"(barrier), "h"(blocks)
        : "memory");
}

__device__ __forceinline__ void tma_load_to(uint16_t blocks, uint32_t shared, const void* map, int column, int row, int slab,
                                            uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%2, %3, %4}], [%5], %6;"
        :: "r"(shared), "l"(map), "r"(column), "r"(row), "r"(slab), "r"(barrier), "h"(blocks)
        : "memory");
}

} // namespace ptx
