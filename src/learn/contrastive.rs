//! Contrastive learning: the free state against the one with the output clamped to the target (Movellan 1991).
//!
//! With the squared error, whose slope is `s_L - y`, an output clamped at `s_L - dC/ds_L` is the target itself: coupled learning with a
//! step of one.

use super::ep::RATES;
use super::pair::{Pair, check_clamped};
use super::rule::{Alias, Description, Learning, LearningRule, RuleSettings, SavedAs};
use crate::network::{Network, presets};
use crate::usage::UsageError;
use crate::error::Result;

/// As it is registered.
pub const REGISTERED: ContrastiveLearning = ContrastiveLearning;

pub struct ContrastiveLearning;

impl Learning for ContrastiveLearning {
    fn description(&self) -> &'static Description {
        &Description {
            name: "contrastive",
            aliases: &[Alias {
                name: "CL",
                settings: "",
            }],
            about: "contrastive learning: the output clamped to the target",
            title: "contrastive learning",
            label: "contrastive",
            foreign: &["beta", "variant"],
            networks: &presets::NAMES,
            rates: RATES,
            relaxes: true,
            responds: false,
            saved_as: SavedAs::List,
        }
    }

    fn defaults(&self, _network: Option<&str>) -> &'static str {
        "variant = \"positive\""
    }

    fn check(&self, settings: &RuleSettings, network: &Network) -> Result<(), UsageError> {
        check_clamped("contrastive", settings, network)
    }

    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        Pair::clamped(settings, 1.0).rule(settings, network)
    }
}
