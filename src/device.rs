//! Where a network is computed, and the one place that makes a backend.

use crate::choice::choices;
use crate::cpu;
use crate::cuda;
use crate::error::{Context, Error, Result};
use crate::feedforward::{self, FeedForward};
use crate::network::Network;
use crate::phase::{Backend, NudgedPhase};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

choices! {
/// The value of `--precision`: the format of what is multiplied, in fp16, fp32 and fp64 of the states, too. Sums are never
/// narrower than fp32.
pub enum Precision {
    /// CPU only: states in fp32, products of their changes (fp32 with max pooling); faster on processors with AVX512_BF16
    Bf16 = "bf16",
    /// tensor cores; the default on a GPU
    Fp16 = "fp16",
    /// the default on a CPU
    Fp32 = "fp32",
    /// CPU only
    Fp64 = "fp64",
}
}

impl Precision {
    /// How nudged phases are relaxed unless a user says otherwise. Direct phases, as published, lose most of the gradient
    /// in fp16 and bf16.
    pub fn default_nudged_phase(self) -> NudgedPhase {
        match self {
            Self::Bf16 | Self::Fp16 => NudgedPhase::SumDifference,
            Self::Fp32 | Self::Fp64 => NudgedPhase::Direct,
        }
    }
}

/// What the CPU computes in.
const CPU_FORMATS: &str = "bf16, fp32 or fp64";
/// And feed-forward networks.
const CPU_FEED_FORWARD_FORMATS: &str = "fp32 or fp64 for feed-forward networks";

/// The value of `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// the best that this build and machine have
    Auto,
    /// the ndarray backend
    Cpu,
    /// the CUDA device with this number
    Cuda(usize),
    /// the CUDA kernels on the CPU, in builds with the feature `emulation`: to check kernels, far too slow to train
    Emulated,
    /// the PTX that nvcc makes of the CUDA kernels, executed and checked on the CPU, in builds with the feature
    /// `interpreter`: to check kernels, slower still
    Interpreted,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "emulated" => Ok(Self::Emulated),
            "interpreted" => Ok(Self::Interpreted),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    format!(
                        "device {name:?}: expected auto, cpu, cuda, cuda:N, emulated or interpreted"
                    )
                }),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Emulated => f.write_str("emulated"),
            Self::Interpreted => f.write_str("interpreted"),
        }
    }
}

impl Device {
    /// The device that `auto` stands for: the first GPU, if this build has kernels and this machine a GPU that runs them;
    /// else the CPU.
    pub fn resolved(self) -> Self {
        match self {
            Self::Auto if cuda::kernel_architectures().is_none() => Self::Cpu,
            Self::Auto => match cuda::list_gpus() {
                Ok(gpus) if !gpus.is_empty() => Self::Cuda(0),
                _ => Self::Cpu,
            },
            device => device,
        }
    }

    /// The arithmetic that a user gets who names none: what is both trustworthy and fast there.
    pub fn default_precision(self) -> Precision {
        match self.resolved() {
            Self::Cuda(_) | Self::Emulated | Self::Interpreted => Precision::Fp16,
            _ => Precision::Fp32,
        }
    }

    /// Makes the backend, with all parameters at zero.
    ///
    /// # Errors
    /// When the device cannot be had, or cannot compute the network in this precision.
    pub fn backend(self, network: &Network, precision: Precision) -> Result<Box<dyn Backend>> {
        let device = self.resolved();
        match device {
            Self::Auto | Self::Cpu => match precision {
                Precision::Bf16 => Ok(cpu::bf16_backend(network)),
                Precision::Fp32 => Ok(cpu::backend::<f32>(network)),
                Precision::Fp64 => Ok(cpu::backend::<f64>(network)),
                Precision::Fp16 => Err(device.lacks(precision, CPU_FORMATS)),
            },
            Self::Cuda(ordinal) => cuda::backend(network, ordinal, device.format(precision)?)
                .with_context(|| format!("--device {self}")),
            #[cfg(feature = "emulation")]
            Self::Emulated => cuda::emulated_backend(network, device.format(precision)?),
            #[cfg(not(feature = "emulation"))]
            Self::Emulated => Err(no_emulation()),
            #[cfg(feature = "interpreter")]
            Self::Interpreted => cuda::interpreted_backend(network, device.format(precision)?),
            #[cfg(not(feature = "interpreter"))]
            Self::Interpreted => Err(no_interpreter()),
        }
    }

    /// Makes the backend of a feed-forward network, with all parameters at zero.
    ///
    /// # Errors
    /// When the device cannot be had, or cannot compute the network in this precision.
    pub fn feed_forward(
        self,
        model: &FeedForward,
        precision: Precision,
    ) -> Result<Box<dyn feedforward::Backend>> {
        let device = self.resolved();
        match device {
            Self::Auto | Self::Cpu => match precision {
                Precision::Fp32 => Ok(cpu::feed_forward::<f32>(model)),
                Precision::Fp64 => Ok(cpu::feed_forward::<f64>(model)),
                Precision::Bf16 | Precision::Fp16 => {
                    Err(device.lacks(precision, CPU_FEED_FORWARD_FORMATS))
                }
            },
            Self::Cuda(ordinal) => cuda::feed_forward(model, ordinal, device.format(precision)?)
                .with_context(|| format!("--device {self}")),
            #[cfg(feature = "emulation")]
            Self::Emulated => cuda::emulated_feed_forward(model, device.format(precision)?),
            #[cfg(not(feature = "emulation"))]
            Self::Emulated => Err(no_emulation()),
            #[cfg(feature = "interpreter")]
            Self::Interpreted => cuda::interpreted_feed_forward(model, device.format(precision)?),
            #[cfg(not(feature = "interpreter"))]
            Self::Interpreted => Err(no_interpreter()),
        }
    }

    fn format(self, precision: Precision) -> Result<cuda::Format> {
        match precision {
            Precision::Fp16 => Ok(cuda::Format::F16),
            Precision::Fp32 => Ok(cuda::Format::F32),
            Precision::Bf16 | Precision::Fp64 => Err(self.lacks(precision, "fp16 or fp32")),
        }
    }

    fn lacks(self, precision: Precision, expected: &str) -> Error {
        let name = precision.name();
        Error::Unavailable(format!(
            "--precision {name}: --device {self} computes in {expected}"
        ))
    }
}

#[cfg(not(feature = "emulation"))]
fn no_emulation() -> Error {
    Error::Unavailable(
        "--device emulated: this build has no emulation; build it with `cargo build --release --features emulation`"
            .to_string(),
    )
}

#[cfg(not(feature = "interpreter"))]
fn no_interpreter() -> Error {
    Error::Unavailable(
        "--device interpreted: this build has no interpreter; build it with `cargo build --release --features interpreter`"
            .to_string(),
    )
}
