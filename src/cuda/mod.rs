//! The CUDA backend: training on one GPU with the project's own kernels (`kernels/`, and its README).
//!
//! From the outside in: [`CudaBackend`] is the [`Backend`](crate::ep::Backend); `batch.rs` holds the memory of a batch and
//! turns phases into launches; `sweep.rs` and `gradient.rs` build the tables that a launch reads, from the tap tables of
//! `geometry.rs` and the parameter layout of `layout.rs`; `kernels.rs` is the only place that knows block sizes; and
//! [`Device`] is the machine, a GPU or the emulation of one on the CPU (cargo feature `emulation`).
//!
//! The structs that host and kernels share are declared once, in `kernels/abi.h`; [`abi`] is generated from it by
//! `kernels/generate_abi.sh` and checked in, so that building needs no libclang.

pub mod abi;
mod backend;
mod batch;
mod device;
mod driver;
#[cfg(feature = "emulation")]
pub mod emulated;
mod geometry;
mod gradient;
mod kernels;
mod layout;
pub mod measure;
mod sweep;

pub use backend::CudaBackend;
pub use device::{Device, KernelSpec};
pub use driver::{Gpu, GpuInfo, driver_version, kernel_architectures, list_gpus};

use crate::ep::Backend;
use crate::network::Network;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Arithmetic of the CUDA backend. Sums and master weights are fp32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// fp16 states and operands on tensor cores; trustworthy with nudged phases in sum-and-difference form
    Fp16,
    /// fp32 on ordinary cores: the parity anchor, several times slower
    Fp32,
}

/// Makes the backend for a network on GPU number `ordinal`, with all parameters at zero.
pub fn backend(
    network: &Network,
    ordinal: usize,
    precision: Precision,
) -> Result<Box<dyn Backend>> {
    let device: Arc<dyn Device> = Arc::new(Gpu::open(ordinal)?);
    Ok(Box::new(CudaBackend::new(network, device, precision)?))
}

/// The same on the emulated GPU.
#[cfg(feature = "emulation")]
pub fn emulated_backend(network: &Network, precision: Precision) -> Result<Box<dyn Backend>> {
    let device: Arc<dyn Device> = Arc::new(emulated::EmulatedDevice::new());
    Ok(Box::new(CudaBackend::new(network, device, precision)?))
}
