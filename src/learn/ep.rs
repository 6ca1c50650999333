//! Equilibrium propagation: the gradient lies between two nudged phases that start from the free state (Scellier & Bengio 2017).

use super::formula::GradientFormula;
use super::pair::Pair;
use super::rule::{
    Alias, Description, Learning, LearningRates, LearningRule, RuleSettings, SavedAs,
    check_over_relaxation,
};
use crate::network::{Network, presets};
use crate::optim::ETA_MIN;
use crate::phase::NudgedPhase;
use crate::usage::{UsageError, usage};
use crate::error::Result;

/// As it is registered.
pub const REGISTERED: EquilibriumPropagation = EquilibriumPropagation;

pub struct EquilibriumPropagation;

/// The published learning rates.
pub const RATES: LearningRates = LearningRates {
    sgd: 3e-2,
    adam: 1e-4,
    for_each_tensor: true,
    end: ETA_MIN,
    decoupled_decay: true,
};

impl Learning for EquilibriumPropagation {
    fn description(&self) -> &'static Description {
        &Description {
            name: "ep",
            aliases: &[
                Alias {
                    name: "PEP",
                    settings: "variant = \"positive\"",
                },
                Alias {
                    name: "NEP",
                    settings: "variant = \"negative\"",
                },
                Alias {
                    name: "CEP",
                    settings: "variant = \"centered\"",
                },
            ],
            about: "equilibrium propagation in a Hopfield network",
            title: "equilibrium propagation",
            label: "EP",
            foreign: &[],
            networks: &presets::NAMES,
            rates: RATES,
            relaxes: true,
            responds: true,
            saved_as: SavedAs::List,
        }
    }

    fn check(&self, settings: &RuleSettings, network: &Network) -> Result<(), UsageError> {
        let formula = settings.gradient_formula;
        if settings.nudged_phase == NudgedPhase::Linear && formula == GradientFormula::Alternative {
            usage!(
                "--gradient-formula {formula}: with --nudged-phase linear both formulas are one; leave it out"
            );
        }
        check_over_relaxation(settings, network)
    }

    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        Pair::nudged(settings).rule(settings, network)
    }
}
