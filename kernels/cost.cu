// Nudging: what the output's pre-activation loses, beta dC/ds_L at the present output state.
//
//   MSE: dC/ds = s - y        CE: dC/ds = softmax(s) - y
//
// Of a pair with strengths b+- = bm +- bd and gradients g+- = gm +- gd at s+- = m +- d (m = s0 + q):
//
//   nudge of the mean = bm gm + bd gd        nudge of the half difference = bd gm + bm gd
//
// One warp per image; lanes share the classes. The output is tiny, so each lane forms softmax's sum by itself.
#include "gather.cuh"
#include "values.cuh"

namespace cost {

constexpr int THREADS = WARP;

// dC/ds_L of one class at the state that `state(class)` gives.
template <class State>
__device__ __forceinline__ float gradient(uint32_t cost, int c, int classes, int label, const State& state) {
    float value = state(c);
    if (cost == EQ_COST_CE) {
        float max = state(0), sum = 0;
        for (int i = 1; i < classes; ++i) max = fmaxf(max, state(i));
        for (int i = 0; i < classes; ++i) sum += expf(state(i) - max);
        value = expf(value - max) / sum;
    }
    return c == label ? value - 1.0f : value;
}

template <class S>
__device__ __forceinline__ void nudge(const EqNudgeArgs& args) {
    if (args.phase->done) return;
    const int image = blockIdx.x, classes = args.classes, label = args.labels[image];
    const size_t row = static_cast<size_t>(image) * args.channels;
    const size_t component = static_cast<size_t>(args.images) * args.channels;
    const S* first = static_cast<const S*>(args.phase->iterations & 1 ? args.sides[1] : args.sides[0]) + row;
    const S* second = first + component;
    const S* free_state = static_cast<const S*>(args.free_state) + row;
    for (int c = threadIdx.x; c < static_cast<int>(args.channels); c += THREADS) {
        float losses[2] = {0, 0}; // the padding of channels stays zero
        if (c < classes && args.form == EQ_FORM_STATES) {
            losses[0] = args.strengths[0] *
                        gradient(args.cost, c, classes, label, [&](int i) { return value_of(first[i]); });
            losses[1] = args.strengths[1] *
                        gradient(args.cost, c, classes, label, [&](int i) { return value_of(second[i]); });
        } else if (c < classes) {
            const auto mean_state = [&](int i) { return value_of(free_state[i]) + value_of(first[i]); };
            float mean, half;
            if (args.cost == EQ_COST_MSE) { // linear: no difference has to be formed
                mean = gradient(args.cost, c, classes, label, mean_state);
                half = value_of(second[c]);
            } else {
                const float plus = gradient(args.cost, c, classes, label,
                                            [&](int i) { return mean_state(i) + value_of(second[i]); });
                const float minus = gradient(args.cost, c, classes, label,
                                             [&](int i) { return mean_state(i) - value_of(second[i]); });
                mean = 0.5f * (plus + minus);
                half = 0.5f * (plus - minus);
                if (broken(HALF_OF_CROSS_ENTROPY_LOST)) half = 0.0f;
            }
            losses[0] = args.strengths[0] * mean + args.strengths[1] * half;
            losses[1] = args.strengths[1] * mean + args.strengths[0] * half;
            if (broken(NUDGING_HAS_WRONG_SIGN)) losses[1] -= 2 * args.strengths[1] * mean;
        }
        args.nudge[row + c] = losses[0];
        args.nudge[component + row + c] = losses[1];
    }
}

// Of a feed-forward network: where its backward pass begins.
template <class S>
__device__ __forceinline__ void loss_gradient(const EqLossArgs& args) {
    const int classes = args.classes;
    int label = args.labels[blockIdx.x];
    if (broken(LOSS_OF_NEXT_CLASS)) ++label;
    const float* logits = args.logits + static_cast<size_t>(blockIdx.x) * args.channels;
    S* out = static_cast<S*>(args.difference) + static_cast<size_t>(blockIdx.x) * args.channels;
    for (int c = 2 * threadIdx.x; c < static_cast<int>(args.channels); c += 2 * THREADS) {
        float two[2];
        for (int v = 0; v < 2; ++v) {
            const auto logit = [&](int i) { return logits[i]; };
            two[v] = c + v < classes ? args.scale * gradient(EQ_COST_CE, c + v, classes, label, logit) : 0.0f;
        }
        store(out + c, two);
    }
}

} // namespace cost

EQ_KERNEL(nudge_f32, cost::THREADS, EqNudgeArgs) { cost::nudge<float>(args); }
EQ_KERNEL(nudge_f16, cost::THREADS, EqNudgeArgs) { cost::nudge<Fp16>(args); }
EQ_KERNEL(loss_gradient_f32, cost::THREADS, EqLossArgs) { cost::loss_gradient<float>(args); }
EQ_KERNEL(loss_gradient_f16, cost::THREADS, EqLossArgs) { cost::loss_gradient<Fp16>(args); }
