// 2x2 max or average pooling with stride 2, of single states and of pairs, and its transpose.
//
//   up:    pooled = full[argmax]           argmax of each window of full = conv(s_pre), the first of equals
//   down:  unpooled[argmax] = s_post       all other positions zero
//
// A pair is s+- = m +- d with m = s0 + q, and each of the two has its own argmax. Where both agree with the free state's,
// which is nearly everywhere, the window is linear and nothing is subtracted; where they differ, the values are formed
// from s+ and s-. Both directions are relative to the free state when there is one (full_free, argmax_free, post_free):
// what they return is then the part that q and d add to the free state's. The maxima of a response are those that its free state had.
//
// One thread per pooled unit: the channel runs fastest, so that a warp reads whole lines. Bound by memory.
#include "gather.cuh"
#include "values.cuh"

namespace pool {

constexpr int THREADS = 256;
constexpr int WINDOW = EQ_POOL_WINDOW;

// A pooled unit: its index, and those of its window's four positions.
struct Unit {
    bool present;
    size_t pooled;
    size_t full[WINDOW];
};

__device__ __forceinline__ Unit unit_of_thread(const EqPoolArgs& args) {
    const uint32_t height = args.height / 2, width = args.width / 2;
    Unit unit;
    unit.pooled = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    const size_t pixel = unit.pooled / args.channels;
    const uint32_t channel = unit.pooled % args.channels;
    const uint32_t image = pixel / (height * width), within = pixel % (height * width);
    unit.present = image < args.images;
#pragma unroll
    for (int i = 0; i < WINDOW; ++i) {
        const size_t y = 2 * (within / width) + i / 2, x = 2 * (within % width) + i % 2;
        unit.full[i] = ((image * args.height + y) * args.width + x) * args.channels + channel;
    }
    return unit;
}

__device__ __forceinline__ size_t pooled_units(const EqPoolArgs& args) {
    return static_cast<size_t>(args.images) * (args.height / 2) * (args.width / 2) * args.channels;
}

__device__ __forceinline__ size_t full_units(const EqPoolArgs& args) {
    return static_cast<size_t>(args.images) * args.height * args.width * args.channels;
}

__device__ __forceinline__ int first_maximum(const float (&window)[WINDOW]) {
    int best = 0;
    float most = window[0];
#pragma unroll
    for (int i = 1; i < WINDOW; ++i)
        if (window[i] > most) {
            best = i;
            most = window[i];
        }
    return best;
}

__device__ __forceinline__ float pick(const float (&window)[WINDOW], int position) {
    float value = window[0];
#pragma unroll
    for (int i = 1; i < WINDOW; ++i)
        if (i == position) value = window[i];
    return value;
}

__device__ __forceinline__ void put(const EqPoolArgs& args, size_t at, float value) {
    if (args.accumulate) value += args.pooled[at];
    args.pooled[at] = value;
}

// The mean of a window is linear: a pair is pooled as two states are.
constexpr float SHARE = 1.0f / WINDOW;

__device__ __forceinline__ void up_average(const EqPoolArgs& args, const Unit& unit) {
    for (uint32_t k = 0; k < args.components; ++k) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < WINDOW; ++i) sum += args.full[k * full_units(args) + unit.full[i]];
        put(args, k * pooled_units(args) + unit.pooled, SHARE * sum);
    }
}

__device__ __forceinline__ void up(const EqPoolArgs& args) {
    if (phase_is_over(args.phase, args.within_phase)) return;
    const Unit unit = unit_of_thread(args);
    if (!unit.present) return;
    const size_t per_component = full_units(args), per_pooled = pooled_units(args);
    if (args.average) return up_average(args, unit);
    if (args.form != EQ_FORM_PAIR) {
        for (uint32_t k = 0; k < args.components; ++k) {
            float window[WINDOW];
#pragma unroll
            for (int i = 0; i < WINDOW; ++i) window[i] = args.full[k * per_component + unit.full[i]];
            bool given = args.form == EQ_FORM_RESPONSE;
            if (broken(RESPONSE_LOOKS_FOR_MAXIMA)) given = false;
            const int best = given ? args.argmax[k * per_pooled + unit.pooled] : first_maximum(window);
            if (!given) args.argmax[k * per_pooled + unit.pooled] = static_cast<uint8_t>(best);
            if (args.pooled) put(args, k * per_pooled + unit.pooled, pick(window, best));
        }
        return;
    }
    float q[WINDOW], d[WINDOW], free_window[WINDOW], plus[WINDOW], minus[WINDOW];
#pragma unroll
    for (int i = 0; i < WINDOW; ++i) {
        q[i] = args.full[unit.full[i]];
        d[i] = args.full[per_component + unit.full[i]];
        free_window[i] = args.full_free ? args.full_free[unit.full[i]] : 0.0f;
        plus[i] = free_window[i] + q[i] + d[i];
        minus[i] = free_window[i] + q[i] - d[i];
    }
    const int low = first_maximum(minus), high = first_maximum(plus);
    args.argmax[unit.pooled] = static_cast<uint8_t>(low);
    args.argmax[per_pooled + unit.pooled] = static_cast<uint8_t>(high);
    if (!args.pooled) return;
    const int free_best = args.full_free ? args.argmax_free[unit.pooled] : high;
    float mean, half;
    if (low == high && high == free_best) {
        mean = pick(q, high);
        half = pick(d, high);
    } else {
        const float s_plus = pick(plus, high), s_minus = pick(minus, low);
        mean = 0.5f * (s_plus + s_minus) - pick(free_window, free_best);
        half = low == high ? pick(d, high) : 0.5f * (s_plus - s_minus);
    }
    put(args, unit.pooled, mean);
    put(args, per_pooled + unit.pooled, half);
}

template <class S>
__device__ __forceinline__ S as_state(float value);
template <>
__device__ __forceinline__ float as_state<float>(float value) { return value; }
template <>
__device__ __forceinline__ Fp16 as_state<Fp16>(float value) { return to_fp16(value); }

template <class S>
__device__ __forceinline__ void down(const EqPoolArgs& args) {
    if (phase_is_over(args.phase, args.within_phase)) return;
    const Unit unit = unit_of_thread(args);
    if (!unit.present) return;
    const size_t per_component = full_units(args), per_pooled = pooled_units(args);
    const uint32_t iterations = args.phase ? args.phase->iterations : 0;
    const S* post = static_cast<const S*>(args.post[(iterations + args.updated) & 1]);
    S* unpooled = static_cast<S*>(args.unpooled);
    if (args.average) {
        for (uint32_t k = 0; k < args.components; ++k) {
            float value = value_of(post[k * per_pooled + unit.pooled]);
            if (!broken(MEAN_GOES_DOWN_WHOLE)) value *= SHARE;
#pragma unroll
            for (int i = 0; i < WINDOW; ++i) unpooled[k * per_component + unit.full[i]] = as_state<S>(value);
        }
        return;
    }
    if (args.form != EQ_FORM_PAIR) {
        for (uint32_t k = 0; k < args.components; ++k) {
            const int best = args.argmax[k * per_pooled + unit.pooled];
            const float value = value_of(post[k * per_pooled + unit.pooled]);
#pragma unroll
            for (int i = 0; i < WINDOW; ++i)
                unpooled[k * per_component + unit.full[i]] = as_state<S>(i == best ? value : 0.0f);
        }
        return;
    }
    const float q = value_of(post[unit.pooled]), d = value_of(post[per_pooled + unit.pooled]);
    const bool relative = args.post_free != nullptr;
    const float free_value = relative ? value_of(static_cast<const S*>(args.post_free)[unit.pooled]) : 0.0f;
    const int low = args.argmax[unit.pooled], high = args.argmax[per_pooled + unit.pooled];
    int free_best = relative ? args.argmax_free[unit.pooled] : high;
    if (broken(UNPOOLING_FORGETS_FREE_MAXIMUM)) free_best = high;
    const float mean = free_value + q;
#pragma unroll
    for (int i = 0; i < WINDOW; ++i) {
        float to_mean = 0, to_half = 0;
        if (low == high) {
            if (i == high) {
                to_mean = high == free_best ? q : mean;
                to_half = d;
            } else if (i == free_best) {
                to_mean = -free_value;
            }
        } else {
            const float plus = i == high ? 0.5f * (mean + d) : 0.0f, minus = i == low ? 0.5f * (mean - d) : 0.0f;
            to_mean = plus + minus - (i == free_best ? free_value : 0.0f);
            to_half = plus - minus;
        }
        unpooled[unit.full[i]] = as_state<S>(to_mean);
        unpooled[per_component + unit.full[i]] = as_state<S>(to_half);
    }
}

} // namespace pool

EQ_KERNEL(pool_up, pool::THREADS, EqPoolArgs) { pool::up(args); }
EQ_KERNEL(pool_down_f32, pool::THREADS, EqPoolArgs) { pool::down<float>(args); }
EQ_KERNEL(pool_down_f16, pool::THREADS, EqPoolArgs) { pool::down<Fp16>(args); }
