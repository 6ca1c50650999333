//! Where a network is computed, and the one place that makes a backend.

use crate::ep::Backend;
use crate::network::Network;
use crate::reference::{self, Precision};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The value of `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// the best that this build and machine have
    Auto,
    Cpu,
    /// the CUDA device with this number
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("device {name:?}: expected auto, cpu, cuda or cuda:N")),
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
        }
    }
}

impl Device {
    /// Makes the backend, with all parameters at zero.
    pub fn backend(self, network: &Network, precision: Precision) -> Result<Box<dyn Backend>> {
        match self {
            Self::Auto | Self::Cpu => Ok(reference::backend(network, precision)),
            Self::Cuda(_) => bail!(
                "--device {self}: this build has no CUDA kernels; install the CUDA toolkit (nvcc) and build a version \
                 with the CUDA backend, or use --device cpu"
            ),
        }
    }
}
