//! The tests of the fp16 kernels with sums that are truncated as a tensor core truncates them, within the same tolerances.
//!
//! A process of its own, because the switch is global.
#![cfg(feature = "emulation")]

#[path = "kernel_suites/half.rs"]
mod half;
mod support;

fn arrange_sums() {
    eqprop_cuda::cuda::emulated::set_truncating_sums(true);
}
