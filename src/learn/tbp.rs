//! Truncated backpropagation: the last iterations of the relaxation are differentiated, one after the other, backwards.

use super::ep::RATES;
use super::relaxing::{Estimate, Relaxing};
use super::rule::{Description, Learning, LearningRule, RuleSettings, SavedAs};
use crate::cuda;
use crate::network::{Network, presets};
use crate::optim::OptimizerConfig;
use crate::phase::{Backend, CostFunction, PhaseReport, Relaxation};
use crate::error::Result;

/// As it is registered.
pub const REGISTERED: TruncatedBackpropagation = TruncatedBackpropagation;

pub struct TruncatedBackpropagation;

impl Learning for TruncatedBackpropagation {
    fn description(&self) -> &'static Description {
        &Description {
            name: "tbp",
            aliases: &[],
            about: "truncated backpropagation through the last iterations of the relaxation",
            title: "truncated backpropagation",
            label: "TBP",
            foreign: &["beta", "variant", "nudged-phase", "gradient-formula"],
            networks: &presets::NAMES,
            rates: RATES,
            relaxes: true,
            responds: false,
            saved_as: SavedAs::List,
        }
    }

    fn memory_need(
        &self,
        settings: &RuleSettings,
        network: &Network,
        format: cuda::Format,
        images: usize,
        optimizer: OptimizerConfig,
    ) -> Result<usize> {
        let iterations = settings.nudged.iterations;
        cuda::memory_need(network, format, images, optimizer, Some(iterations))
    }

    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        let estimate = Truncated {
            cost: settings.cost,
            relaxation: settings.nudged,
        };
        Relaxing::boxed(settings, network, estimate)
    }
}

struct Truncated {
    cost: CostFunction,
    relaxation: Relaxation,
}

impl Estimate for Truncated {
    fn estimate(&mut self, backend: &mut dyn Backend, _step: u64) -> Result<PhaseReport> {
        backend.truncated_backpropagation(self.cost, &self.relaxation)
    }
}
