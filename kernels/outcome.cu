// What the free state says about each example: energy, cost, prediction, top-5. One block per example.
//
// Every edge appears in the pre-activations of both of its ends, so with P_l the pre-activation and D_l its constant part
// (bias and the input's edges)
//
//   E = -sum_l <b_l, s_l> - sum_edges <s_post, Op(s_pre)> = -1/2 sum_l <s_l, P_l + D_l>
#include "values.cuh"

namespace outcome {

constexpr int THREADS = 256;
constexpr int TOP = 5;

// The constant part of a pre-activation: of a layer that the input does not reach it is the bias, which lies there once.
__device__ __forceinline__ float constant_of(const EqEnergyLayer& layer, uint64_t image, uint64_t unit) {
    if (broken(ENERGY_LACKS_CONSTANT)) return 0.0f;
    if (layer.constant) return layer.constant[image * layer.units + unit];
    return layer.bias[static_cast<uint32_t>(unit) % static_cast<uint32_t>(layer.channels)];
}

template <class S>
__device__ __forceinline__ void measure(const EqOutcomeArgs& args) {
    double sum = 0;
    for (uint32_t l = 0; l < args.layer_count; ++l) {
        const EqEnergyLayer layer = args.layers[l];
        const uint64_t first = blockIdx.x * layer.units;
        for (uint64_t u = threadIdx.x; u < layer.units; u += THREADS)
            sum += value_of(static_cast<const S*>(layer.state)[first + u]) *
                   (layer.pre_activation[first + u] + constant_of(layer, blockIdx.x, u));
    }
    auto* sums = reinterpret_cast<double*>(shared_arena());
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    args.energy[blockIdx.x] = -0.5 * sums[0];

    const S* row = static_cast<const S*>(args.output) + static_cast<size_t>(blockIdx.x) * args.classes_padded;
    const int label = args.labels[blockIdx.x];
    const double labelled = value_of(row[label]);
    double max = value_of(row[0]), square = 0;
    int best = 0, ahead = 0;
    for (int c = 0; c < static_cast<int>(args.classes); ++c) {
        const double s = value_of(row[c]);
        const double error = s - (c == label ? 1.0 : 0.0);
        square += error * error;
        if (s > max) {
            max = s;
            best = c;
        }
        ahead += s > labelled || (s == labelled && c < label);
    }
    double cost = 0.5 * square;
    if (args.cost_function == EQ_COST_CE) {
        double exponentials = 0;
        for (uint32_t c = 0; c < args.classes; ++c) exponentials += exp(value_of(row[c]) - max);
        cost = max + log(exponentials) - labelled;
    }
    args.cost[blockIdx.x] = cost;
    args.prediction[blockIdx.x] = best;
    args.in_top5[blockIdx.x] = ahead < TOP;
}

} // namespace outcome

EQ_KERNEL(outcome_f32, outcome::THREADS, EqOutcomeArgs) { outcome::measure<float>(args); }
EQ_KERNEL(outcome_f16, outcome::THREADS, EqOutcomeArgs) { outcome::measure<Fp16>(args); }
