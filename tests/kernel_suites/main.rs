//! The CUDA kernels, run on the CPU, against the CPU backend (feature `emulation` or `interpreter`), or on the machine that
//! EQPROP_TEST_DEVICE names.

#[path = "../support/mod.rs"]
mod support;

#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod batch_norm;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod feedforward;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod golden;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod half;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod phases;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod precision;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod statistics;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod stopping;

#[cfg(not(any(feature = "emulation", feature = "interpreter")))]
#[test]
#[ignore = "skipped: the kernels run on the CPU with `--features emulation`, or what nvcc made of them with `--features interpreter`"]
fn the_kernels() {}
