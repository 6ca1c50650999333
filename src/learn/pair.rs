//! Two phases from the free state that the cost pulls apart, and the gradient between them: what equilibrium propagation, contrastive and
//! coupled learning have in common.

use super::relaxing::{Estimate, Relaxing};
use super::rule::{LearningRule, RuleSettings, check_over_relaxation};
use crate::choice::{Choice, choices};
use crate::data::rng::{Draw, Purpose};
use crate::network::Network;
use crate::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, PhaseReport, Relaxation, Variant,
};
use crate::usage::{UsageError, usage};
use anyhow::Result;

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

/// Two phases, and the gradient between them.
pub(super) struct Pair {
    /// strength of the pull
    beta: f64,
    /// what is pulled
    output: OutputCondition,
    /// how the two are represented
    form: NudgedPhase,
    variant: VariantChoice,
    formula: GradientFormula,
    cost: CostFunction,
    relaxation: Relaxation,
    seed: u64,
}

impl Pair {
    /// Nudged with the strength, variant, form and formula of the settings.
    pub fn nudged(settings: &RuleSettings) -> Self {
        Self {
            beta: settings.beta,
            output: OutputCondition::Nudged,
            form: settings.nudged_phase,
            variant: settings.variant,
            formula: settings.gradient_formula,
            cost: settings.cost,
            relaxation: settings.nudged,
            seed: settings.seed,
        }
    }

    /// The same with an output that is clamped.
    pub fn clamped(settings: &RuleSettings, beta: f64) -> Self {
        Self {
            beta,
            output: OutputCondition::Clamped,
            ..Self::nudged(settings)
        }
    }

    /// The linear response, which is that of both formulas.
    pub fn response(settings: &RuleSettings) -> Self {
        Self {
            form: NudgedPhase::Linear,
            formula: GradientFormula::Standard,
            ..Self::nudged(settings)
        }
    }

    /// The rule on the device of the settings.
    pub fn rule(self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        Relaxing::boxed(settings, network, self)
    }
}

impl Estimate for Pair {
    fn estimate(&mut self, backend: &mut dyn Backend, step: u64) -> Result<PhaseReport> {
        // A function of the step, so that a resumed run throws the same coins.
        let coin = || Draw::new(self.seed, step, Purpose::Sign).coin();
        let nudging = Nudging {
            beta: self.beta,
            variant: self.variant.variant(coin),
            form: self.form,
            output: self.output,
        };
        let report = backend.nudged_phases(&nudging, self.cost, &self.relaxation)?;
        match self.formula {
            GradientFormula::Standard => backend.estimate_gradient()?,
            GradientFormula::Alternative => backend.estimate_gradient_at_free_state()?,
        }
        Ok(report)
    }
}

/// What goes for each rule that clamps the output.
///
/// # Errors
/// A linear response, for there is none: at the clamped output the two states differ by a finite step.
pub(super) fn check_clamped(
    name: &str,
    settings: &RuleSettings,
    network: &Network,
) -> Result<(), UsageError> {
    if settings.nudged_phase == NudgedPhase::Linear {
        usage!(
            "--nudged-phase linear: --algorithm {name} clamps its output, and a linear response is one to nudging; \
             use direct or sum-difference, or --algorithm rbp"
        );
    }
    check_over_relaxation(&settings.free, network)?;
    check_over_relaxation(&settings.nudged, network)
}
