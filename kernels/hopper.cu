// The kernels for Hopper alone, as one translation unit: a part of kernels.cu, and what the interpreter plays a Hopper with.
#include "relax_hopper.cu"
#include "weight_grad_hopper.cu"
