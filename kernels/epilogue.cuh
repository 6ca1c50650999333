// What happens to a unit once its pre-activation is accumulated: bias, drive, nudging, over-relaxation, clip, store.
//
//   states:  u = s + omega (p - s)                               s <- clip(u)
//   pair:    u+- = (um +- ud),  um = m + omega (pm - m),  ud = d + omega (pd - d),  m = s0 + q
//            a = clip(u+), b = clip(u-)      q <- (a + b)/2 - s0      d <- (a - b)/2
//
// Where neither side of a pair is clipped, q and d follow um and ud themselves: forming (u+ - u-)/2 would round the
// signal d to the precision of the state.
//
// The same thread holds both components of a unit, so nothing here is exchanged between threads.
#pragma once

#include "gather.cuh"
#include "values.cuh"

struct Change {
    float delta = 0, norm = 0;
};

__device__ __forceinline__ float clip(float value, float low, float high) {
    // Written so that NaN stays NaN, and a diverged run is noticed.
    return value < low ? low : (value > high ? high : value);
}

// Finishes V neighbouring channels of one pixel. S is the state format, p the accumulated taps.
template <class S, int COMPONENTS, int V>
__device__ __forceinline__ void finish(const EqRelaxArgs& args, const EqTarget& target, const ClassPixel& at,
                                       int channel, float (&p)[COMPONENTS][V], Change& change) {
    if (!at.present() || channel >= static_cast<int>(target.channels)) return;
    const size_t unit = layer_unit(target, at) + channel;
    const bool pair = args.form == EQ_FORM_PAIR;
    float extra[V];
#pragma unroll
    for (int k = 0; k < COMPONENTS; ++k) {
        const bool has_constant = k == 0 || !pair; // it cancels in the half difference
        if (target.bias && has_constant) {
            load(extra, target.bias + channel);
#pragma unroll
            for (int v = 0; v < V; ++v) p[k][v] += extra[v];
        }
        if (target.drive && has_constant) {
            load(extra, target.drive + unit);
#pragma unroll
            for (int v = 0; v < V; ++v) p[k][v] += extra[v];
        }
        if (target.addend) {
            load(extra, target.addend + k * target.component_stride + unit);
#pragma unroll
            for (int v = 0; v < V; ++v) p[k][v] += extra[v];
        }
        if (target.nudge) {
            load(extra, target.nudge + (static_cast<size_t>(k) * args.images + at.image) * target.channels + channel);
#pragma unroll
            for (int v = 0; v < V; ++v) p[k][v] -= extra[v];
        }
        if (args.form == EQ_FORM_RAW) store(target.raw + k * target.component_stride + unit, p[k]);
    }
    if (args.form == EQ_FORM_RAW) return;

    const bool odd = args.phase->iterations & 1;
    const S* before = static_cast<const S*>(odd ? target.sides[1] : target.sides[0]) + unit;
    S* after = static_cast<S*>(odd ? target.sides[0] : target.sides[1]) + unit;
    const float omega = static_cast<float>(args.phase->omega);
    const float keep = 1.0f - omega;
    float old[COMPONENTS][V];
#pragma unroll
    for (int k = 0; k < COMPONENTS; ++k) load(old[k], before + k * target.component_stride);

    const int live_channels = target.live_channels;

    if (!pair) {
#pragma unroll
        for (int k = 0; k < COMPONENTS; ++k) {
            float fresh[V];
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const float u = clip(keep * old[k][v] + omega * p[k][v], target.low, target.high);
                fresh[v] = channel + v < live_channels ? rounded(u, S()) : 0.0f;
                change.delta += (fresh[v] - old[k][v]) * (fresh[v] - old[k][v]);
                change.norm += fresh[v] * fresh[v];
            }
            store(after + k * target.component_stride, fresh);
        }
        return;
    }

    if constexpr (COMPONENTS == 2) {
        float free_state[V];
        load(free_state, static_cast<const S*>(target.origin) + unit);
        float q[V], d[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
            // Relative to s0 throughout: where nothing is clipped, q is never the difference of two large numbers.
            const float uq = keep * old[0][v] + omega * (p[0][v] - free_state[v]);
            const float ud = keep * old[1][v] + omega * p[1][v];
            const float plus = free_state[v] + uq + ud, minus = free_state[v] + uq - ud;
            const float a = clip(plus, target.low, target.high), b = clip(minus, target.low, target.high);
            const bool unclipped = (a == plus && b == minus) || EQ_MUTATION(3);
            const bool live = channel + v < live_channels;
            q[v] = live ? rounded(unclipped ? uq : 0.5f * ((a - free_state[v]) + (b - free_state[v])), S()) : 0.0f;
            d[v] = live ? rounded(unclipped ? ud : 0.5f * (a - b), S()) : 0.0f;
            change.delta += (d[v] - old[1][v]) * (d[v] - old[1][v]);
            change.norm += d[v] * d[v];
        }
        store(after, q);
        store(after + target.component_stride, d);
    }
}

// Sums a block's change in a fixed order and writes it to this block's slot. `scratch` holds one EqChange per warp.
__device__ __forceinline__ void report_change(EqChange* changes, const Change& mine, EqChange* scratch) {
    double delta = mine.delta, norm = mine.norm;
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        delta += shuffle_down(delta, offset);
        norm += shuffle_down(norm, offset);
    }
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = {delta, norm};
    __syncthreads();
    if (threadIdx.x == 0) {
        EqChange sum = {0, 0};
        for (unsigned w = 0; w < blockDim.x / WARP; ++w) {
            sum.delta += scratch[w].delta;
            sum.norm += scratch[w].norm;
        }
        changes[blockIdx.x] = sum;
    }
}
