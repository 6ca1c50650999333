//! What the weights of an edge start from.

use serde::{Deserialize, Serialize};

/// A distribution of initial weights, scaled by an edge's gain. The formulas are those of the field's framework
/// (rain-neuromorphics/energy-based-learning, `model/variable/parameter.py`), which halves the usual scales of all but the
/// first. `fan_in` is the number of units of the lower layer that a unit of the upper one sees; `fan_out` is the number of
/// channels of the upper layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initial {
    /// uniform in `+-gain sqrt(1 / fan_in)`
    #[default]
    KaimingUniform,
    /// normal with deviation `gain/2 sqrt(1 / fan_in)`
    KaimingNormal,
    /// uniform in `+-gain/2 sqrt(6 / (fan_in + fan_out))`
    XavierUniform,
    /// normal with deviation `gain/2 sqrt(2 / (fan_in + fan_out))`
    XavierNormal,
    /// uniform in `+-gain`
    Uniform,
    /// normal with deviation `gain`
    Normal,
}

impl Initial {
    /// The bound of a uniform distribution, or the deviation of a normal one.
    pub fn scale(self, gain: f64, fan_in: usize, fan_out: usize) -> f64 {
        let (into, both) = (fan_in as f64, (fan_in + fan_out) as f64);
        match self {
            Self::KaimingUniform => gain / into.sqrt(),
            Self::KaimingNormal => gain / 2.0 / into.sqrt(),
            Self::XavierUniform => gain / 2.0 * (6.0 / both).sqrt(),
            Self::XavierNormal => gain / 2.0 * (2.0 / both).sqrt(),
            Self::Uniform | Self::Normal => gain,
        }
    }

    /// Whether the distribution is a normal one.
    pub fn is_normal(self) -> bool {
        matches!(
            self,
            Self::KaimingNormal | Self::XavierNormal | Self::Normal
        )
    }
}
