//! Command line of the benchmarks that run the kernels, and the machine that it names.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use eqprop_cuda::cuda::{self, Gpu};
use eqprop_cuda::device::{Device, Precision};
use eqprop_cuda::network::presets::PAPER_CHANNELS;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    Ep,
    Backprop,
}

#[derive(Debug, Args)]
pub struct Options {
    /// cuda, cuda:N, or, in a build with the feature `emulation`, emulated: to see that the benchmark works, on a tiny
    /// network; its times say nothing about a GPU. Training steps run on cpu, too
    #[arg(long, default_value = "cuda")]
    pub device: Device,
    /// default: both
    #[arg(long)]
    algorithm: Option<Algorithm>,
    /// default: fp16 with kernels, fp32 on the CPU
    #[arg(long)]
    precision: Option<Precision>,
    /// images; default: 128, emulated 2
    #[arg(long)]
    batch: Option<usize>,
    /// of the four stages; default: the paper's, emulated 8,8,8,8
    #[arg(long, value_delimiter = ',')]
    channels: Option<Vec<usize>>,
}

impl Options {
    pub fn is_tiny(&self) -> bool {
        self.device == Device::Emulated
    }

    pub fn batch(&self) -> usize {
        self.batch.unwrap_or(if self.is_tiny() { 2 } else { 128 })
    }

    pub fn precision(&self) -> Precision {
        self.precision.unwrap_or(self.device.default_precision())
    }

    pub fn includes(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm)
    }

    pub fn channels(&self) -> Result<[usize; 4]> {
        match &self.channels {
            Some(channels) => match channels[..] {
                [a, b, c, d] => Ok([a, b, c, d]),
                _ => bail!("--channels {channels:?}: expected four numbers"),
            },
            None if self.is_tiny() => Ok([8; 4]),
            None => Ok(PAPER_CHANNELS),
        }
    }

    /// What runs kernels; none for `--device cpu`.
    pub fn kernels(&self) -> Result<Option<Arc<dyn cuda::Device>>> {
        match self.device {
            Device::Cpu => Ok(None),
            Device::Auto => Ok(Some(gpu(0))),
            Device::Cuda(number) => Ok(Some(gpu(number))),
            Device::Interpreted => {
                bail!("--device interpreted: it is for tests, far too slow to time")
            }
            #[cfg(feature = "emulation")]
            Device::Emulated => Ok(Some(Arc::new(cuda::emulated::EmulatedDevice::new()))),
            #[cfg(not(feature = "emulation"))]
            Device::Emulated => bail!("--device emulated needs a build with --features emulation"),
        }
    }

    pub fn format(&self) -> Result<cuda::Format> {
        match self.precision() {
            Precision::Fp16 => Ok(cuda::Format::F16),
            Precision::Fp32 => Ok(cuda::Format::F32),
            precision @ (Precision::Bf16 | Precision::Fp64) => {
                bail!("--precision {precision}: the kernels compute in fp16 or fp32")
            }
        }
    }
}

/// Without a GPU there is nothing to measure, and `cargo bench` goes on.
fn gpu(number: usize) -> Arc<dyn cuda::Device> {
    match Gpu::open(number) {
        Ok(gpu) => Arc::new(gpu),
        Err(error) => {
            println!("nothing to measure: {error:#}");
            std::process::exit(0)
        }
    }
}
