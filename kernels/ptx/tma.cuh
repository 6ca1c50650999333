// Copies of boxes of a tensor by Hopper's tensor memory accelerator (TMA), one function per instruction.
//
// A tensor map (CUtensorMap, 128 bytes, made by the host) says where a tensor lies, how large it is and which box is copied. What a box
// has outside of the tensor arrives as zeros and is never written. Copies read and write shared memory through the "async proxy":
// what threads wrote is seen by it only after `fence_proxy_async`.
#pragma once

#include "mbarrier.cuh"

namespace ptx {

// Where a box begins: innermost coordinate first.
struct Corner {
    int channel, x, y, image, component;
};

// The box arrives some time after this; its bytes count towards the barrier's phase.
__device__ __forceinline__ void tma_load(uint32_t shared, const void* map, const Corner& at, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5, %6}], [%7];"
        :: "r"(shared), "l"(map), "r"(at.channel), "r"(at.x), "r"(at.y), "r"(at.image), "r"(at.component), "r"(barrier)
        : "memory");
}

__device__ __forceinline__ void tma_load(uint32_t shared, const void* map, int column, int row, int slab, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
        :: "r"(shared), "l"(map), "r"(column), "r"(row), "r"(slab), "r"(barrier)
        : "memory");
}

__device__ __forceinline__ void tma_store(const void* map, const Corner& at, uint32_t shared) {
    asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4, %5}], [%6];"
                 :: "l"(map), "r"(at.channel), "r"(at.x), "r"(at.y), "r"(at.image), "r"(at.component), "r"(shared)
                 : "memory");
}

__device__ __forceinline__ void tma_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until this thread's stores have read their shared memory, which may be overwritten then.
__device__ __forceinline__ void tma_wait_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

// Until they have written.
__device__ __forceinline__ void tma_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// What threads wrote to shared memory before this may be read by copies and products after it.
__device__ __forceinline__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A tensor map that the host has written: once in every block, before the map's first use.
__device__ __forceinline__ void fence_tensor_map(const void* map) {
    asm volatile("fence.proxy.tensormap::generic.acquire.sys [%0], 128;" :: "l"(map) : "memory");
}

} // namespace ptx
