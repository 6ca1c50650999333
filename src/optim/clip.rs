//! Clipping of the global gradient norm.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Largest global L2 norm that a gradient keeps in equilibrium propagation, as published.
pub const MAX_NORM: f64 = 1.0;
/// Keeps the scale finite, as `torch.nn.utils.clip_grad_norm_` has it.
pub const NORM_EPSILON: f64 = 1e-6;

/// The factor for every gradient so that their global norm `norm` does not exceed `max_norm`:
/// `max_norm / (norm + 1e-6)`, or 1.
///
/// ```
/// use eqprop_cuda::optim::clip_scale;
/// assert_eq!(clip_scale(0.5, 1.0), 1.0);
/// assert!((4.0 * clip_scale(4.0, 1.0) - 1.0).abs() < 1e-6);
/// ```
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    if norm > max_norm {
        max_norm / (norm + NORM_EPSILON)
    } else {
        1.0
    }
}

/// The largest norm as a user says it: a number, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ClipNorm(pub Option<f64>);

impl Default for ClipNorm {
    fn default() -> Self {
        Self(Some(MAX_NORM))
    }
}

impl FromStr for ClipNorm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let norm = text
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite() && *n > 0.0);
        norm.map(|norm| Self(Some(norm)))
            .ok_or_else(|| "expected a positive number, or off".into())
    }
}

impl fmt::Display for ClipNorm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(norm) => write!(f, "{norm}"),
        }
    }
}

impl TryFrom<String> for ClipNorm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ClipNorm> for String {
    fn from(norm: ClipNorm) -> Self {
        norm.to_string()
    }
}
