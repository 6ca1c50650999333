//! Which arithmetic a backend computes in.

use super::machine::kernels::Format;
use serde::{Deserialize, Serialize};

/// Arithmetic of the CUDA backend. Sums and master weights are fp32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// fp16 states and operands on tensor cores; trustworthy with nudged phases in sum-and-difference form
    Fp16,
    /// fp32 on ordinary cores: the parity anchor, several times slower
    Fp32,
}

impl Precision {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Fp32 => "fp32",
        }
    }

    pub(super) fn format(self) -> Format {
        match self {
            Self::Fp16 => Format::F16,
            Self::Fp32 => Format::F32,
        }
    }
}
