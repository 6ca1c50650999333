//! Which two states a gradient is estimated from, and how.

use crate::choice::{Choice, choices};
use crate::phase::Variant;

choices! {
/// Which two phases the gradient estimate is taken between, batch by batch.
pub enum VariantChoice {
    /// -beta and +beta: the bias is second order in beta
    Centered = "centered",
    /// 0 and +beta
    Positive = "positive",
    /// -beta and 0
    Negative = "negative",
    /// positive or negative, as a coin falls for each batch (Laborieux et al. 2021)
    RandomSign = "random-sign",
}
}

impl VariantChoice {
    /// The variant of a batch, for which `coin` is thrown where chance decides.
    pub fn variant(self, coin: impl FnOnce() -> bool) -> Variant {
        match self {
            Self::Centered => Variant::Centered,
            Self::Positive => Variant::Positive,
            Self::Negative => Variant::Negative,
            Self::RandomSign if coin() => Variant::Positive,
            Self::RandomSign => Variant::Negative,
        }
    }
}

choices! {
/// What the gradient is made of, once there are two states.
pub enum GradientFormula {
    /// the difference of `dE/dtheta` between them
    Standard = "standard",
    /// the derivative of `dE/dtheta` along their difference, at the free state (Scellier et al. 2023)
    Alternative = "alternative",
}
}

impl Default for GradientFormula {
    fn default() -> Self {
        Self::CHOICES[0].0
    }
}
