//! Two phases from the free state that the cost pulls apart, and the gradient between them: what equilibrium propagation, contrastive and
//! coupled learning have in common.

use super::formula::{GradientFormula, VariantChoice};
use super::relaxing::{Estimate, Relaxing};
use super::rule::{LearningRule, RuleSettings, check_over_relaxation};
use crate::data::rng::{Draw, Purpose};
use crate::error::Result;
use crate::network::Network;
use crate::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, PhaseReport, Relaxation,
};
use crate::usage::{UsageError, usage};

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
    check_over_relaxation(settings, network)
}
