// What a layer's free state looks like, for the record of an epoch: its norm and its saturation. One block per example.
//
//   norm = sqrt(sum_units s^2)      saturated = number of units at a bound of the activation, as the state format holds it
//
// Sums have a fixed order. Bound by memory, and read once per epoch.
#include "values.cuh"

namespace statistics {

constexpr int THREADS = 256;

struct Shared {
    double squares[THREADS];
    uint32_t saturated[THREADS];
};

template <class S>
__device__ __forceinline__ void measure(const EqStatisticsArgs& args) {
    const S* state = static_cast<const S*>(args.state) + static_cast<size_t>(blockIdx.x) * args.units;
    const float low = rounded(args.low, S()), high = rounded(args.high, S());
    double squares = 0;
    uint32_t saturated = 0;
    for (uint32_t u = threadIdx.x; u < args.units; u += THREADS) {
        if (u % args.channels >= args.live_channels) continue; // padding
        const float s = value_of(state[u]);
        squares += static_cast<double>(s) * s;
        saturated += s <= low || s >= high;
    }
    auto& shared = *reinterpret_cast<Shared*>(shared_arena());
    shared.squares[threadIdx.x] = squares;
    shared.saturated[threadIdx.x] = saturated;
    __syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            shared.squares[threadIdx.x] += shared.squares[threadIdx.x + half];
            shared.saturated[threadIdx.x] += shared.saturated[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    args.norm[blockIdx.x] = sqrt(shared.squares[0]);
    args.saturated[blockIdx.x] = shared.saturated[0];
}

} // namespace statistics

EQ_KERNEL(statistics_f32, statistics::THREADS, EqStatisticsArgs) { statistics::measure<float>(args); }
EQ_KERNEL(statistics_f16, statistics::THREADS, EqStatisticsArgs) { statistics::measure<Fp16>(args); }
