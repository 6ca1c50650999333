// The part of CUDA that the kernels use, for both compilers.
//
// nvcc takes the language as it is and the instructions from ptx.cuh. The C++ compiler takes both from
// emulation/device.h, where a block's threads are fibres on one stack each. A kernel includes this file and nothing
// else of CUDA.
#pragma once

#include "abi.h"

#ifdef EQPROP_EMULATION
#include "emulation/device.h"
#else

// A kernel is `extern "C"` under its own name, which is how the host finds it.
#define EQ_KERNEL(name, threads, Args) \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Args args)

// The same, with the number of blocks that shall fit on a multiprocessor: the compiler limits registers to that.
#define EQ_KERNEL_RESIDENT(name, threads, blocks, Args) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Args args)

// The same for clusters of so many blocks, which the driver makes of a launch's blocks in their order.
#define EQ_KERNEL_CLUSTER(name, threads, blocks, Args) \
    extern "C" __global__ void __cluster_dims__(blocks, 1, 1) __launch_bounds__(threads, 1) name(const __grid_constant__ Args args)

// Shared memory is one dynamic arena per block. Its size is the launch wrapper's business.
__device__ __forceinline__ unsigned char* shared_arena() {
    extern __shared__ __align__(128) unsigned char arena[];
    return arena;
}

#include "ptx.cuh"
#endif

#include "defects.cuh"

constexpr int WARP = 32;

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
