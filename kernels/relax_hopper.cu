// The relaxation step on Hopper: the interface and the arithmetic of relax_mma.cu, by TMA and wgmma.
//
//   p[pixel][c] = sum_taps sum_k view[pixel + shift][k] * w_tap[c][k]    then hopper/finish.cuh
//
// A block of three warpgroups: one thread of the last one fetches, the other two multiply and finish.
//
//      producer   --- full --->   ring of four slots   --- full --->   consumer 0: 64 pixels x 128 channels, twice
//                 <-- empty ---   48 KB each           <-- empty ---   consumer 1: 64 pixels x 128 channels, twice
//
// A consumer's two sums are both components of its pixels (q and d), or two boxes of pixels where there is one component: both
// components of a unit sit in one thread, and the epilogue exchanges nothing. A box of 64 pixels is a piece of a strided view of a
// state: the views are tensor maps that the host makes of the tap tables, so that a tap only moves the corner of a box, and what lies
// in the padding arrives as zeros. A block takes tile after tile: the next one's first slices arrive while the epilogue runs.
//
// In the kernels for clusters (.._cluster) two blocks take neighbouring tiles, and fetch for one another what both need (hopper/ring.cuh).
//
// Shared memory: 4 x 48 KB and 1.1 KB; registers: 56 of a producing thread, 224 of a consuming one. Limit: tensor cores, where K is
// long; the epilogue's loads of the constant part and the bias are not overlapped yet.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "hopper/block.cuh"
#include "hopper/finish.cuh"
#include "hopper/producer.cuh"

namespace hopper {

template <int FORM, int COMPONENTS, int BLOCKS>
__device__ __forceinline__ void relax(const EqHopperArgs& args) {
    if (phase_is_over(args.relax.phase, args.relax.within_phase)) return;
    const Ring<BLOCKS> ring;
    share_out(
        ring, args.maps, args.map_count, [&] { Producer<BLOCKS>{args, ring}.template run<FORM, COMPONENTS>(); },
        [&] { consume<FORM, COMPONENTS>(args, ring); });
}

} // namespace hopper

#define EQ_RELAX_HOPPER(name, form, components) \
    EQ_KERNEL_RESIDENT(relax_hopper_##name, EQ_HOPPER_THREADS, 1, EqHopperArgs) { hopper::relax<form, components, 1>(args); } \
    EQ_KERNEL_CLUSTER(relax_hopper_##name##_cluster, EQ_HOPPER_THREADS, 2, EqHopperArgs) { hopper::relax<form, components, 2>(args); }

EQ_RELAX_HOPPER(raw_1, EQ_FORM_RAW, 1)
EQ_RELAX_HOPPER(raw_2, EQ_FORM_RAW, 2)
EQ_RELAX_HOPPER(states_1, EQ_FORM_STATES, 1)
EQ_RELAX_HOPPER(states_2, EQ_FORM_STATES, 2)
EQ_RELAX_HOPPER(pair, EQ_FORM_PAIR, 2)
EQ_RELAX_HOPPER(response, EQ_FORM_RESPONSE, 1)
#endif
