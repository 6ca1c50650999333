//! What the tests share.

#![allow(
    dead_code,
    unused_imports,
    reason = "each group of tests uses its part"
)]

pub mod data;
pub mod golden;
pub mod kernels;
pub mod naive;
pub mod networks;
pub mod program;
pub mod ranks;
pub mod steps;
