// After each iteration: how much changed, whether the phase is done, and the safeguard on omega. One block.
//
//   change = |s_new - s_old| / |s_new|          done once change < tolerance, or after `limit` iterations
//   change > growth * smallest so far, and not falling: omega falls half-way back to 1, then is left alone for a while
#include "device.cuh"

namespace advance {

constexpr int THREADS = 256;

} // namespace advance

EQ_KERNEL(advance_phase, advance::THREADS, EqAdvanceArgs) {
    EqPhase& phase = *args.phase;
    if (phase.done) return;
    auto* sums = reinterpret_cast<EqChange*>(shared_arena());
    EqChange mine = {0, 0};
    for (uint32_t i = threadIdx.x; i < args.count; i += advance::THREADS) {
        mine.delta += args.changes[i].delta;
        mine.norm += args.changes[i].norm;
    }
    sums[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned half = advance::THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            sums[threadIdx.x].delta += sums[threadIdx.x + half].delta;
            sums[threadIdx.x].norm += sums[threadIdx.x + half].norm;
        }
        if (!broken(NO_BARRIER_IN_SUM_OF_CHANGE)) __syncthreads();
    }
    if (threadIdx.x != 0) return;
    const EqChange sum = sums[0];
    const double change = sum.delta == 0 ? 0.0 : sqrt(sum.delta / sum.norm);
    phase.change = change;
    ++phase.iterations;
    if (change < phase.tolerance) {
        phase.done = 1;
        return;
    }
    const bool growing = change > args.growth * phase.smallest && change >= phase.previous;
    if (phase.patience > 0) {
        --phase.patience;
    } else if (growing && phase.omega > 1.0) {
        const double excess = (phase.omega - 1.0) / 2.0;
        phase.omega = excess < args.negligible ? 1.0 : 1.0 + excess;
        phase.keep = 1.0 - phase.omega;
        phase.patience = args.settling;
    }
    if (change < phase.smallest) phase.smallest = change;
    phase.previous = change;
    if (phase.iterations == phase.limit) phase.done = 1;
}
