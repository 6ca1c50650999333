// All kernels as one translation unit: one fat binary for nvcc, one object for the emulation.
#include "relax_simt.cu"
#include "relax_mma.cu"
#include "hopper.cu"
#include "cost.cu"
#include "phase.cu"
#if defined(EQPROP_EMULATION) || defined(EQPROP_INTERPRETED) // on a GPU it is a module of its own
#include "while_node.cu"
#endif
#include "pool.cu"
#include "state.cu"
#include "outcome.cu"
#include "statistics.cu"
#include "weight_grad_simt.cu"
#include "weight_grad_mma.cu"
#include "gradient.cu"
#include "batch_norm.cu"
#include "optimizer.cu"
#include "roofline.cu"

#ifdef EQPROP_EMULATION
// Kernels register themselves when the program starts; the launcher calls this so that the linker keeps them.
extern "C" void eqprop_emulation_keep_kernels() {}
#endif
