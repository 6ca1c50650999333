// One thin function per PTX instruction. emulation/device.h has the same functions in plain C++.
#pragma once

#include <stdint.h>

// fp16 <-> fp32, round to nearest even.
struct Fp16 {
    uint16_t bits;
};

__device__ __forceinline__ float to_float(Fp16 value) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
    return out;
}

__device__ __forceinline__ Fp16 to_fp16(float value) {
    Fp16 out;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
    return out;
}

// Where something lies in shared memory, as instructions take it: half the registers of a pointer.
using SharedAddress = uint32_t;

__device__ __forceinline__ SharedAddress shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Four 8x8 matrices of 16-bit elements; lane i holds the address of row i%8 of matrix i/8.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(row) : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&out)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(row) : "memory");
}

// c += a b for a 16x16 by 16x8 product, fp16 operands and fp32 sums.
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A warp's whole tile: M x N of the above, with b as one ldmatrix brings it, two column fragments at a time. One call, so
// that the emulation meets once per tile.
template <int M, int N>
__device__ __forceinline__ void mma_tile(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N / 2][4]) {
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) mma_m16n8k16(c[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
}

// Sixteen bytes from global to shared memory, or sixteen zeros. By way of the L2 cache only, for what is read once; or kept in the L1
// cache, for what this multiprocessor soon reads again and nobody writes during the kernel.
__device__ __forceinline__ void cp_async_16(SharedAddress shared, const void* global, bool present) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared), "l"(global), "r"(present ? 16 : 0) : "memory");
}

__device__ __forceinline__ void cp_async_16_kept(SharedAddress shared, const void* global, bool present) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared), "l"(global), "r"(present ? 16 : 0) : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `Pending` of this thread's groups are still under way.
template <int Pending>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(Pending) : "memory");
}

// A load that the compiler may move across stores: of what nobody writes during the kernel.
template <class T>
__device__ __forceinline__ T read_only(const T* from) {
    return __ldg(from);
}

// a b + c, rounded once: written out where the compiler shall not choose what to contract.
__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }

template <class T>
__device__ __forceinline__ T shuffle_down(T value, int delta) {
    return __shfl_down_sync(0xffffffffu, value, delta);
}
