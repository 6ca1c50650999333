//! The CUDA kernels, run on the CPU, against the CPU backend (feature `emulation`).

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "emulation")]
mod batch_norm;
#[cfg(feature = "emulation")]
mod feedforward;
#[cfg(feature = "emulation")]
mod golden;
#[cfg(feature = "emulation")]
mod half;
#[cfg(feature = "emulation")]
mod phases;
#[cfg(feature = "emulation")]
mod precision;
#[cfg(feature = "emulation")]
mod statistics;
#[cfg(feature = "emulation")]
mod stopping;

/// Sums are rounded; tests/truncating_sums.rs has the other choice.
#[cfg(feature = "emulation")]
fn arrange_sums() {}

#[cfg(not(feature = "emulation"))]
#[test]
#[ignore = "skipped: the kernels run on the CPU with `--features emulation`"]
fn the_kernels() {}
