//! Runs compiled CUDA kernels (PTX) on a CPU, and finds their memory errors and races.
