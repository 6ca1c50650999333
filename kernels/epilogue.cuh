// What happens to a unit once its pre-activation is accumulated: constant part, nudging, over-relaxation, clip.
//
//   states:  u = s + omega (p - s)                               s <- clip(u)
//   pair:    u+- = (um +- ud),  um = m + omega (pm - m),  ud = d + omega (pd - d),  m = s0 + q
//            a = clip(u+), b = clip(u-)      q <- (a + b)/2 - s0      d <- (a - b)/2
//   response: d <- mask (keep d + omega p)    mask: a bit for each unit, 1 where the update that is linearised did not clip
//
// Where neither side of a pair is clipped, q and d follow um and ud themselves: forming (u+ - u-)/2 would round the
// signal d to the precision of the state.
//
// The form is a template parameter, so that a kernel holds the code of one. The same thread holds both components of a unit:
// nothing here is exchanged between threads. Multiply-adds are written out: which tile computes a unit does not decide how it
// is rounded.
#pragma once

#include "gather.cuh"
#include "values.cuh"

// Squared norms of the change, and of the state after it.
struct Change {
    float delta = 0, norm = 0;

    __device__ __forceinline__ void add(float before, float after) {
        delta = fused(after - before, after - before, delta);
        norm = fused(after, after, norm);
    }
};

__device__ __forceinline__ float clip(float value, float low, float high) {
    // Written so that NaN stays NaN, and a diverged run is noticed.
    return value < low ? low : (value > high ? high : value);
}

// What the constant part of a pre-activation is added to: it cancels in the half difference of a pair.
template <int FORM>
__host__ __device__ constexpr bool has_constant(int component) {
    return FORM != EQ_FORM_PAIR || component == 0;
}

// How a layer's units are updated in this iteration.
struct Update {
    float omega, keep, low, high;
    float kept; // of a response

    __device__ Update(const EqTarget& target, const EqPhase& phase)
        : omega(static_cast<float>(phase.omega)), keep(1.0f - omega), low(target.low), high(target.high),
          kept(static_cast<float>(phase.keep)) {}

    // A state, from its old value and pre-activation.
    __device__ __forceinline__ float state(float old, float p) const { return clip(fused(keep, old, omega * p), low, high); }

    // A response, likewise, of a unit that responds or does not.
    __device__ __forceinline__ float response(float old, float p, bool responds) const {
        if (broken(RESPONSE_FORGETS_MASK)) responds = true;
        return responds ? fused(kept, old, omega * p) : 0.0f;
    }

    // A pair, likewise; `free_state` is s0.
    __device__ __forceinline__ void pair(float& q, float& d, float p_mean, float p_half, float free_state) const {
        // Relative to s0 throughout: where nothing is clipped, q is never the difference of two large numbers.
        const float uq = fused(keep, q, omega * (p_mean - free_state));
        const float ud = fused(keep, d, omega * p_half);
        const float plus = free_state + uq + ud, minus = free_state + uq - ud;
        const float a = clip(plus, low, high), b = clip(minus, low, high);
        bool unclipped = a == plus && b == minus;
        if (broken(CLIPPED_PAIR_TAKEN_FOR_FREE)) unclipped = true;
        q = unclipped ? uq : 0.5f * ((a - free_state) + (b - free_state));
        d = unclipped ? ud : 0.5f * (a - b);
    }
};

// The bits of a response's mask from `unit` on, to the end of its eight units.
__device__ __forceinline__ uint32_t responding(const EqTarget& target, size_t unit) {
    return static_cast<uint32_t>(target.mask[unit / 8]) >> unit % 8;
}

// The two sides of a target's state: what is there, and where the update goes.
template <class S>
__device__ __forceinline__ const S* old_side(const EqTarget& target, const EqPhase& phase) {
    return static_cast<const S*>(phase.iterations & 1 ? target.sides[1] : target.sides[0]);
}
template <class S>
__device__ __forceinline__ S* new_side(const EqTarget& target, const EqPhase& phase) {
    return static_cast<S*>(phase.iterations & 1 ? target.sides[0] : target.sides[1]);
}

// Sum over a warp's lanes in a fixed order; lane 0 has the result.
__device__ __forceinline__ EqChange warp_sum(const Change& mine) {
    double delta = mine.delta, norm = mine.norm;
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        delta += shuffle_down(delta, offset);
        norm += shuffle_down(norm, offset);
    }
    return {delta, norm};
}

// Sum of `count` neighbouring partial sums, in order.
__device__ __forceinline__ EqChange ordered_sum(const EqChange* parts, int count, int apart) {
    EqChange sum = {0, 0};
    for (int i = 0; i < count; ++i) {
        sum.delta += parts[i * apart].delta;
        sum.norm += parts[i * apart].norm;
    }
    return sum;
}
