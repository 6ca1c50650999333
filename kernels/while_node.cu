// The end of a loop's body: whether the phase goes on. One thread.
//
// A phase with a tolerance is a graph of one node, `while (condition)`, whose body is some iterations and, last, this kernel: the GPU ends
// the phase on its own. `cudaGraphSetConditional` is part of the driver, which resolves it, like printf's `vprintf`, when it loads the module.
// One from before CUDA 12.4 does not know it, and would load nothing of the module: so this kernel is a module of its own.
#include "device.cuh"

#if defined(EQPROP_EMULATION) || defined(EQPROP_INTERPRETED)
// A GPU that is played has no such driver: its condition is a word in memory.
__device__ __forceinline__ void set_condition(uint64_t condition, uint32_t value) { *reinterpret_cast<uint32_t*>(condition) = value; }
#else
__device__ __forceinline__ void set_condition(uint64_t condition, uint32_t value) { cudaGraphSetConditional(condition, value); }
#endif

EQ_KERNEL(continue_phase, WARP, EqLoopArgs) {
    if (threadIdx.x != 0) return;
    bool goes_on = !args.phase->done;
    if (broken(LOOP_NEVER_ENDS)) goes_on = true;
    if (broken(LOOP_ENDS_HALF_WAY) && 2 * args.phase->iterations >= args.phase->limit) goes_on = false;
    set_condition(args.condition, goes_on);
}
