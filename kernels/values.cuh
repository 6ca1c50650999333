// State formats: loads and stores of a few neighbouring channels, always in fp32 registers.
#pragma once

#include "device.cuh"

template <int V>
__device__ __forceinline__ void load(float (&out)[V], const float* from) {
#pragma unroll
    for (int v = 0; v < V; ++v) out[v] = from[v];
}

template <int V>
__device__ __forceinline__ void load(float (&out)[V], const Fp16* from) {
    static_assert(V % 2 == 0, "16-bit states are loaded in pairs");
#pragma unroll
    for (int v = 0; v < V; v += 2) {
        const uint32_t two = *reinterpret_cast<const uint32_t*>(from + v);
        out[v] = to_float(Fp16{static_cast<uint16_t>(two & 0xffffu)});
        out[v + 1] = to_float(Fp16{static_cast<uint16_t>(two >> 16)});
    }
}

template <int V>
__device__ __forceinline__ void store(float* to, const float (&values)[V]) {
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = values[v];
}

template <int V>
__device__ __forceinline__ void store(Fp16* to, const float (&values)[V]) {
    static_assert(V % 2 == 0, "16-bit states are stored in pairs");
#pragma unroll
    for (int v = 0; v < V; v += 2) {
        const uint32_t low = to_fp16(values[v]).bits, high = to_fp16(values[v + 1]).bits;
        *reinterpret_cast<uint32_t*>(to + v) = low | (high << 16);
    }
}

// Two neighbouring fp32 values that nobody writes during the kernel, in one access of 8 bytes.
__device__ __forceinline__ float2 load_two(const float* from) { return read_only(reinterpret_cast<const float2*>(from)); }
__device__ __forceinline__ void store_two(float* to, float2 two) { *reinterpret_cast<float2*>(to) = two; }

// A value as the state format will hold it.
__device__ __forceinline__ float rounded(float value, float) { return value; }
__device__ __forceinline__ float rounded(float value, Fp16) { return to_float(to_fp16(value)); }

// The nearest value that is finite in the state format; NaN stays NaN.
__device__ __forceinline__ float bounded(float value, float) { return value; }
__device__ __forceinline__ float bounded(float value, Fp16) {
    constexpr float MOST = 65504.0f;
    return value > MOST ? MOST : (value < -MOST ? -MOST : value);
}

__device__ __forceinline__ float value_of(float value) { return value; }
__device__ __forceinline__ float value_of(Fp16 value) { return to_float(value); }
