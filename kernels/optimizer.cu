// One update of all parameters, fused over all tensors: clip the global norm, SGD with momentum, Adam or AdamW as PyTorch
// defines them, and write the fp32 master and its 16-bit copy.
//
//   g <- g * min(1, 1/(norm + 1e-6))                        (an infinite max_norm: g as it is)
//   SGD:    g += wd w       m <- mu m + g       w <- w - lr (g + mu m)     (a heavy ball: w <- w - lr m)
//   Adam:   g += wd w             then as AdamW without decay
//   AdamW:  w <- w (1 - lr wd)    m <- b1 m + (1-b1) g    v <- b2 v + (1-b2) g^2    w <- w - lr c1 m / (sqrt(v) c2 + eps)
//
// Tensors start at multiples of EQ_PARAMETER_BLOCK, so that a block has one learning rate. The padding's gradient is zero
// and its parameters stay zero. Bound by memory: 16 (SGD) or 24 bytes read and written per parameter, and 2 for the copy.
#include "values.cuh"

namespace optimizer {

constexpr int THREADS = 256;
constexpr int PER_THREAD = 4;
static_assert(PER_THREAD * THREADS == EQ_PARAMETER_BLOCK, "a block updates one block of parameters");

// Zero in the place of a subnormal number, as on the CPU: what nothing but weight decay moves would end as one. NaN stays NaN.
__device__ __forceinline__ float flushed(float value) {
    constexpr float LEAST = 1.17549435e-38f; // of the normal numbers
    return fabsf(value) < LEAST ? 0.0f : value;
}

} // namespace optimizer

EQ_KERNEL(optimizer_step, optimizer::THREADS, EqOptimizerArgs) {
    using namespace optimizer;
    const size_t at = static_cast<size_t>(blockIdx.x) * EQ_PARAMETER_BLOCK + threadIdx.x * PER_THREAD;
    const float rate = args.rates[args.tensor_of_block[blockIdx.x]];
    const double norm = *args.norm;
    const float scale = norm > args.max_norm ? static_cast<float>(args.max_norm / (norm + args.norm_epsilon)) : 1.0f;
    float w[PER_THREAD], g[PER_THREAD], m[PER_THREAD];
    load(w, args.parameters + at);
    load(g, args.gradient + at);
    load(m, args.first + at);
    if (args.kind == EQ_OPTIMIZER_SGD || args.kind == EQ_OPTIMIZER_HEAVY_BALL) {
        const bool nesterov = args.kind == EQ_OPTIMIZER_SGD;
#pragma unroll
        for (int i = 0; i < PER_THREAD; ++i) {
            const float step = scale * g[i] + args.weight_decay * w[i];
            m[i] = flushed(args.momentum * m[i] + step);
            w[i] = flushed(w[i] - rate * (nesterov ? step + args.momentum * m[i] : m[i]));
        }
    } else {
        float v[PER_THREAD];
        load(v, args.second + at);
        const bool in_gradient = args.kind == EQ_OPTIMIZER_ADAM;
        float l2 = in_gradient ? args.weight_decay : 0.0f;
        if (broken(ADAM_FORGETS_WEIGHT_DECAY)) l2 = 0.0f;
        const float keep = in_gradient ? 1.0f : 1.0f - rate * args.weight_decay;
#pragma unroll
        for (int i = 0; i < PER_THREAD; ++i) {
            const float step = scale * g[i] + l2 * w[i];
            m[i] = flushed(args.beta1 * m[i] + (1.0f - args.beta1) * step);
            v[i] = flushed(args.beta2 * v[i] + (1.0f - args.beta2) * step * step);
            w[i] = flushed(w[i] * keep - rate * args.correction1 * m[i] / (sqrtf(v[i]) * args.correction2 + args.epsilon));
        }
        store(args.second + at, v);
    }
    store(args.first + at, m);
    store(args.parameters + at, w);
    if (args.packed) store(static_cast<Fp16*>(args.packed) + at, w);
}

// The 16-bit copy alone, after parameters were set from outside.
EQ_KERNEL(pack_parameters, optimizer::THREADS, EqPackArgs) {
    using namespace optimizer;
    const size_t at = static_cast<size_t>(blockIdx.x) * EQ_PARAMETER_BLOCK + threadIdx.x * PER_THREAD;
    if (at >= args.count) return;
    float w[PER_THREAD];
    load(w, args.parameters + at);
    store(static_cast<Fp16*>(args.packed) + at, w);
}
