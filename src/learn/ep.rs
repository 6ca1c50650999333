//! Equilibrium propagation: the gradient lies between two nudged phases that start from the free state.

use super::relaxing::{Estimate, Relaxing};
use super::rule::{Description, Learning, LearningRates, LearningRule, RuleSettings, SavedAs};
use crate::data::Batch;
use crate::network::{Network, presets};
use crate::optim::ETA_MIN;
use crate::phase::{Backend, CostFunction, Nudging, PhaseReport, Relaxation};
use anyhow::Result;

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
            aliases: &[],
            about: "equilibrium propagation in a Hopfield network",
            title: "equilibrium propagation",
            label: "EP",
            foreign: &[],
            networks: &presets::PRESETS,
            rates: RATES,
            relaxes: true,
            saved_as: SavedAs::List,
        }
    }

    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        let pair = Pair {
            cost: settings.cost,
            relaxation: settings.nudged,
            nudging: settings.nudging(),
        };
        Relaxing::boxed(settings, network, pair)
    }
}

/// Two nudged phases, and the difference between them.
struct Pair {
    cost: CostFunction,
    relaxation: Relaxation,
    nudging: Nudging,
}

impl Estimate for Pair {
    fn estimate(&mut self, backend: &mut dyn Backend, _batch: &Batch) -> Result<PhaseReport> {
        let report = backend.nudged_phases(&self.nudging, self.cost, &self.relaxation)?;
        backend.estimate_gradient()?;
        Ok(report)
    }
}
