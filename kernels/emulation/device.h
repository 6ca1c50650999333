// CUDA on the CPU, for tests: the same kernel source, threads as fibres, instructions as plain C++.
//
// A block's threads are fibres that switch only where threads meet: at __syncthreads() and at the warp instructions
// (ldmatrix, mma, shuffles). Between two meetings each runs on alone, so a kernel that forgets to meet reads what nobody
// has written yet. To make that visible, shared memory and fresh device memory are poisoned with NaNs, cp.async delivers
// only when it is waited for (and poisons its destination until then), and allocations have guard zones (runtime.cpp).
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict

namespace emulation {

struct Index {
    unsigned x;
};

constexpr int MAX_PENDING_COPIES = 64;

struct PendingCopy {
    void* to;
    const void* from;
    bool present;
    unsigned group;
};

struct Fibre {
    void* stack_pointer;
    unsigned thread;
    int state;
    unsigned committed; // cp.async groups so far
    int pending;
    PendingCopy copies[MAX_PENDING_COPIES];
};

extern thread_local Fibre* current;
extern thread_local Index block;
extern thread_local Index block_size;
extern thread_local unsigned char* arena;

int mutation();
void barrier();
// Publishes `mine` and waits for the other lanes of the warp; the last one to arrive runs `act` on all 32.
void meet(void* mine, void (*act)(void** lanes));

using Kernel = void (*)(const void* args);
struct Registration {
    const char* name;
    Kernel kernel;
    unsigned threads;
    size_t args_bytes;
    Registration* next;
    Registration(const char* name, Kernel kernel, unsigned threads, size_t args_bytes);
};
const Registration* find_kernel(const char* name);

constexpr int LANES = 32;

} // namespace emulation

#define threadIdx (emulation::Index{emulation::current->thread})
#define blockIdx (emulation::block)
#define blockDim (emulation::block_size)

#define EQ_KERNEL(name, threads, Args)                                                                     \
    static void name(const Args& args);                                                                    \
    static emulation::Registration name##_registration(                                                    \
        #name, [](const void* args) { name(*static_cast<const Args*>(args)); }, threads, sizeof(Args));    \
    static void name(const Args& args)

#define EQ_KERNEL_RESIDENT(name, threads, blocks, Args) EQ_KERNEL(name, threads, Args)

inline void __syncthreads() { emulation::barrier(); }
inline unsigned char* shared_arena() { return emulation::arena; }

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Fp16 {
    uint16_t bits;
};

namespace emulation {
extern const float* const fp16_values; // all 65536
}

inline float to_float(Fp16 value) { return emulation::fp16_values[value.bits]; }

// Round to nearest even, as cvt.rn does.
inline Fp16 to_fp16(float value) {
    uint32_t x;
    memcpy(&x, &value, sizeof x);
    const uint16_t sign = static_cast<uint16_t>((x >> 16) & 0x8000u);
    x &= 0x7fffffffu;
    if (x > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7fffu)};
    if (x >= 0x47800000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
    if (x < 0x38800000u) { // subnormal: let the FPU round at the right place
        float magnitude;
        memcpy(&magnitude, &x, sizeof x);
        magnitude += 0.5f;
        uint32_t y;
        memcpy(&y, &magnitude, sizeof y);
        return {static_cast<uint16_t>(sign | (y - 0x3f000000u))};
    }
    const uint32_t odd = (x >> 13) & 1u;
    return {static_cast<uint16_t>(sign | ((x - 0x38000000u + 0xfffu + odd) >> 13))};
}

namespace emulation {

struct LdmatrixLane {
    const void* row;
    uint32_t* out;
};

template <bool TRANSPOSED>
void ldmatrix_act(void** lanes) {
    for (int matrix = 0; matrix < 4; ++matrix) {
        const uint16_t* rows[8];
        for (int r = 0; r < 8; ++r)
            rows[r] = static_cast<const uint16_t*>(static_cast<LdmatrixLane*>(lanes[matrix * 8 + r])->row);
        for (int lane = 0; lane < LANES; ++lane) {
            const int outer = lane / 4, inner = 2 * (lane % 4);
            const uint32_t low = TRANSPOSED ? rows[inner][outer] : rows[outer][inner];
            const uint32_t high = TRANSPOSED ? rows[inner + 1][outer] : rows[outer][inner + 1];
            static_cast<LdmatrixLane*>(lanes[lane])->out[matrix] = low | (high << 16);
        }
    }
}

struct MmaLane {
    float* c;
    const uint32_t* a;
    const uint32_t* b;
};

void mma_act(void** lanes, int m, int n);

template <class T>
struct ShuffleLane {
    T value, out;
    int delta;
};

template <class T>
void shuffle_down_act(void** lanes) {
    for (int lane = 0; lane < LANES; ++lane) {
        auto* mine = static_cast<ShuffleLane<T>*>(lanes[lane]);
        const int from = lane + mine->delta;
        mine->out = static_cast<ShuffleLane<T>*>(lanes[from < LANES ? from : lane])->value;
    }
}

} // namespace emulation

using SharedAddress = uintptr_t;
inline SharedAddress shared_address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

inline void ldmatrix_x4(uint32_t (&out)[4], SharedAddress row) {
    emulation::LdmatrixLane lane{reinterpret_cast<const void*>(row), out};
    emulation::meet(&lane, emulation::ldmatrix_act<false>);
}

inline void ldmatrix_x4_trans(uint32_t (&out)[4], SharedAddress row) {
    emulation::LdmatrixLane lane{reinterpret_cast<const void*>(row), out};
    emulation::meet(&lane, emulation::ldmatrix_act<true>);
}

template <int M, int N>
inline void mma_tile(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N / 2][4]) {
    emulation::MmaLane lane{&c[0][0][0], &a[0][0], &b[0][0]};
    emulation::meet(&lane, [](void** lanes) { emulation::mma_act(lanes, M, N); });
}

void cp_async_16(SharedAddress shared, const void* global, bool present);
inline void cp_async_16_kept(SharedAddress shared, const void* global, bool present) { cp_async_16(shared, global, present); }
void cp_async_commit();
void cp_async_wait_for(unsigned pending_groups);
template <int Pending>
inline void cp_async_wait() {
    cp_async_wait_for(Pending);
}

template <class T>
inline T read_only(const T* from) {
    return *from;
}

// Rounded twice: a processor without the instruction would emulate it slowly, and no test looks at the last bit.
inline float fused(float a, float b, float c) { return a * b + c; }

template <class T>
inline T shuffle_down(T value, int delta) {
    emulation::ShuffleLane<T> lane{value, value, delta};
    emulation::meet(&lane, emulation::shuffle_down_act<T>);
    return lane.out;
}
