// Elementwise passes between phases. One thread per pair of units, or per byte of a mask.
#include "values.cuh"

namespace state {

constexpr int THREADS = 256;
constexpr int PER_THREAD = 2;

// What a unit's first and second nudged state are: s0 + q -+ d, or themselves.
template <class S>
__device__ __forceinline__ bool pair_of(const EqStateArgs& args, uint64_t i, float (&mean)[2], float (&half)[2]) {
    if (i >= args.count) return false;
    float first[2], second[2];
    load(first, static_cast<const S*>(args.first) + i);
    load(second, static_cast<const S*>(args.second) + i);
    if (args.pair) {
        float free_state[2];
        load(free_state, static_cast<const S*>(args.free_state) + i);
        for (int v = 0; v < 2; ++v) {
            mean[v] = free_state[v] + first[v];
            half[v] = second[v];
        }
    } else {
        for (int v = 0; v < 2; ++v) {
            mean[v] = 0.5f * (second[v] + first[v]);
            half[v] = 0.5f * (second[v] - first[v]);
        }
    }
    return true;
}

// m and d, the operands of the gradient.
template <class S>
__device__ __forceinline__ void mean_and_half(const EqStateArgs& args) {
    const uint64_t i = (static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x) * PER_THREAD;
    float mean[2], half[2];
    if (!pair_of<S>(args, i, mean, half)) return;
    store(static_cast<S*>(args.out_first) + i, mean);
    store(static_cast<S*>(args.out_second) + i, half);
}

// The second nudged state, m + d: what the next batch starts from.
template <class S>
__device__ __forceinline__ void second_state(const EqStateArgs& args) {
    const uint64_t i = (static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x) * PER_THREAD;
    float mean[2], half[2];
    if (!pair_of<S>(args, i, mean, half)) return;
    for (int v = 0; v < 2; ++v) mean[v] += half[v];
    store(static_cast<S*>(args.out_first) + i, mean);
}

// Eight units' bits: strictly inside of the bounds, as the format of the values holds these.
template <class S>
__device__ __forceinline__ void inside(const EqMaskArgs& args) {
    constexpr int BITS = 8;
    const uint64_t byte = static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (byte >= args.count) return;
    const float low = rounded(args.low, S()), high = rounded(args.high, S());
    const uint32_t channel = byte * BITS % args.channels;
    float values[BITS];
    load(values, static_cast<const S*>(args.values) + byte * BITS);
    uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < BITS; ++i)
        if (channel + i < args.live_channels && low < values[i] && values[i] < high) bits |= 1u << i;
    args.mask[byte] = static_cast<uint8_t>(bits);
}

} // namespace state

EQ_KERNEL(mean_and_half_f32, state::THREADS, EqStateArgs) { state::mean_and_half<float>(args); }
EQ_KERNEL(mean_and_half_f16, state::THREADS, EqStateArgs) { state::mean_and_half<Fp16>(args); }
EQ_KERNEL(second_state_f32, state::THREADS, EqStateArgs) { state::second_state<float>(args); }
EQ_KERNEL(second_state_f16, state::THREADS, EqStateArgs) { state::second_state<Fp16>(args); }
EQ_KERNEL(inside_f32, state::THREADS, EqMaskArgs) { state::inside<float>(args); }
EQ_KERNEL(inside_f16, state::THREADS, EqMaskArgs) { state::inside<Fp16>(args); }
