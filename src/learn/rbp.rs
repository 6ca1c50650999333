//! Recurrent backpropagation (Almeida 1987, Pineda 1987): the linear response of the free state, which is equilibrium propagation with an
//! infinitesimal nudging.

use super::ep::RATES;
use super::pair::Pair;
use super::rule::{Description, Learning, LearningRule, RuleSettings, SavedAs};
use crate::network::{Network, presets};
use crate::error::Result;

/// As it is registered.
pub const REGISTERED: RecurrentBackpropagation = RecurrentBackpropagation;

pub struct RecurrentBackpropagation;

impl Learning for RecurrentBackpropagation {
    fn description(&self) -> &'static Description {
        &Description {
            name: "rbp",
            aliases: &[],
            about: "recurrent backpropagation: the linear response of the free state",
            title: "recurrent backpropagation",
            label: "RBP",
            foreign: &["beta", "variant", "nudged-phase", "gradient-formula"],
            networks: &presets::NAMES,
            rates: RATES,
            relaxes: true,
            responds: true,
            saved_as: SavedAs::List,
        }
    }

    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        Pair::response(settings).rule(settings, network)
    }
}
