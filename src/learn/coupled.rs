//! Coupled learning: the output is clamped a step `beta` towards the target (Stern et al. 2021), or away from it.

use super::ep::RATES;
use super::pair::{Pair, check_clamped};
use super::rule::{Alias, Description, Learning, LearningRule, RuleSettings, SavedAs};
use crate::network::{Network, presets};
use crate::usage::UsageError;
use crate::error::Result;

/// As it is registered.
pub const REGISTERED: CoupledLearning = CoupledLearning;

pub struct CoupledLearning;

impl Learning for CoupledLearning {
    fn description(&self) -> &'static Description {
        &Description {
            name: "coupled",
            aliases: &[
                Alias {
                    name: "PCpL",
                    settings: "variant = \"positive\"",
                },
                Alias {
                    name: "NCpL",
                    settings: "variant = \"negative\"",
                },
                Alias {
                    name: "CCpL",
                    settings: "variant = \"centered\"",
                },
            ],
            about: "coupled learning: the output clamped a step --beta towards the target",
            title: "coupled learning",
            label: "coupled",
            foreign: &[],
            networks: &presets::NAMES,
            rates: RATES,
            relaxes: true,
            responds: false,
            saved_as: SavedAs::List,
        }
    }

    fn check(&self, settings: &RuleSettings, network: &Network) -> Result<(), UsageError> {
        check_clamped("coupled", settings, network)
    }

    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        Pair::clamped(settings, settings.beta).rule(settings, network)
    }
}
