//! How a storage's numbers are written.

use crate::pickle::malformed::{Result, malformed};
use crate::shown::shown;
use half::{bf16, f16};

/// Format of a storage's numbers.
#[derive(Clone, Copy)]
pub(super) enum Format {
    F64,
    F32,
    F16,
    Bf16,
    I64,
}

impl Format {
    pub(super) fn of(kind: &str) -> Result<Self> {
        match kind {
            "torch.DoubleStorage" => Ok(Self::F64),
            "torch.FloatStorage" => Ok(Self::F32),
            "torch.HalfStorage" => Ok(Self::F16),
            "torch.BFloat16Storage" => Ok(Self::Bf16),
            "torch.LongStorage" => Ok(Self::I64),
            _ => malformed!(
                "its numbers are a {}; float tensors were expected",
                shown(kind)
            ),
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The number at the start of `bytes`.
    pub(super) fn decode(self, bytes: &[u8]) -> f64 {
        fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes[..N]
                .try_into()
                .expect("the number is inside of the storage")
        }
        match self {
            Self::F64 => f64::from_le_bytes(first(bytes)),
            Self::F32 => f32::from_le_bytes(first(bytes)).into(),
            Self::F16 => f16::from_le_bytes(first(bytes)).into(),
            Self::Bf16 => bf16::from_le_bytes(first(bytes)).into(),
            Self::I64 => i64::from_le_bytes(first(bytes)) as f64,
        }
    }
}
