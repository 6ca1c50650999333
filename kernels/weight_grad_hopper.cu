// The weight gradient on Hopper: the interface and the arithmetic of weight_grad_mma.cu, by TMA and wgmma.
//
//   dW[tap][post][pre] = sum_pixels m_pre[pixel stride + offset] d_post[pixel] + d_pre[..] m_post[pixel]
//
// K is pixels: one slot of the ring holds 64 of them, a box of the post layer and, for each 64 columns, the pixels that a tap joins to them,
// a box of a strided view of the pre layer (hopper/gradient.cuh has the picture). States lie in memory with channels side by side, so both
// operands lie across: two bits of the instruction, and nothing is transposed. Both products, m x d and d x m, go to the same sums.
//
// A block of the roles of relax_hopper.cu computes 128 post channels x 256 columns over a piece of the pixels (split K), tile after tile of a
// list that the host has balanced; gather_gradient adds the pieces in order. Columns are 64 pre channels of one tap after another: an edge
// with fewer is left to weight_grad_mma.cu.
//
// weight_grad_hopper_cluster is the same for a cluster of two blocks, whose neighbouring tiles have columns or post channels in common.
//
// Shared memory: that of relax_hopper.cu. Limit: L2, which brings 48 KB for 4.2 MFLOP; 32 KB where two blocks share columns.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "hopper/block.cuh"
#include "hopper/gradient.cuh"

namespace hopper {

template <int BLOCKS>
__device__ __forceinline__ void weight_grad(const EqHopperGradArgs& args) {
    const Ring<BLOCKS> ring;
    share_out(
        ring, args.maps, args.map_count, [&] { GradProducer<BLOCKS>{args, ring}.run(); }, [&] { consume_gradient(args, ring); });
}

} // namespace hopper

EQ_KERNEL_RESIDENT(weight_grad_hopper, EQ_HOPPER_THREADS, 1, EqHopperGradArgs) { hopper::weight_grad<1>(args); }
EQ_KERNEL_CLUSTER(weight_grad_hopper_cluster, EQ_HOPPER_THREADS, 2, EqHopperGradArgs) { hopper::weight_grad<2>(args); }
#endif
