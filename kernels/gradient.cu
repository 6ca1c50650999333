// Around the weight gradient: bias sums, gathering of split sums, and the global norm. All sums have a fixed order.
#include "values.cuh"

namespace gradient {

constexpr int THREADS = 256;
constexpr int PER_THREAD = EQ_PARAMETER_BLOCK / THREADS;
static_assert(PER_THREAD * THREADS == EQ_PARAMETER_BLOCK, "a block gathers one block of parameters");

// Sums `value` over the block's threads in a tree; the result is thread 0's.
__device__ __forceinline__ double block_sum(double value) {
    auto* sums = reinterpret_cast<double*>(shared_arena());
    sums[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

// A piece of the bias gradient's sum over pixels: sum_rows d[row][channel].
template <class S>
__device__ __forceinline__ void bias(const EqBiasArgs& args) {
    const EqBiasTile tile = args.tiles[blockIdx.x];
    const S* rows = static_cast<const S*>(tile.half) + tile.first_row * tile.channels;
    for (uint32_t c = threadIdx.x; c < tile.channels; c += THREADS) {
        float sum = 0;
        for (uint32_t r = 0; r < tile.row_count; ++r) sum += value_of(rows[static_cast<size_t>(r) * tile.channels + c]);
        args.workspace[tile.out + c] = sum;
    }
}

} // namespace gradient

EQ_KERNEL(bias_grad_f32, gradient::THREADS, EqBiasArgs) { gradient::bias<float>(args); }
EQ_KERNEL(bias_grad_f16, gradient::THREADS, EqBiasArgs) { gradient::bias<Fp16>(args); }

// gradient = scale * sum of the splits, or that added to it, and the sum of its squares per block of parameters.
EQ_KERNEL(gather_gradient, gradient::THREADS, EqGatherArgs) {
    const EqGatherBlock block = args.blocks[blockIdx.x];
    uint32_t splits = block.splits;
    if (broken(LAST_SPLIT_FORGOTTEN) && splits > 1) --splits;
    double squares = 0;
    for (int i = 0; i < gradient::PER_THREAD; ++i) {
        const uint32_t element = i * gradient::THREADS + threadIdx.x;
        float sum = 0;
        if (element < block.count)
            for (uint32_t split = 0; split < splits; ++split)
                sum += args.workspace[block.from + split * block.stride + element];
        float& at = args.gradient[static_cast<size_t>(blockIdx.x) * EQ_PARAMETER_BLOCK + element];
        bool adds = args.accumulate;
        if (broken(LAST_TERM_REPLACES_OTHERS)) adds = false;
        const float value = adds ? fused(args.scale, sum, at) : args.scale * sum;
        at = value;
        squares += static_cast<double>(value) * value;
    }
    const double sum = gradient::block_sum(squares);
    if (threadIdx.x == 0) args.squares[blockIdx.x] = sum;
}

// |gradient| over all tensors. One block.
EQ_KERNEL(gradient_norm, gradient::THREADS, EqNormArgs) {
    double mine = 0;
    for (uint32_t i = threadIdx.x; i < args.count; i += gradient::THREADS) mine += args.squares[i];
    const double sum = gradient::block_sum(mine);
    if (threadIdx.x == 0) *args.norm = sqrt(sum);
}
