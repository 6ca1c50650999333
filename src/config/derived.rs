//! A configuration in the words of the rooms below it.

use super::settings::Config;
use crate::data::{
    Augment, Augmentation, DataError, DatasetName, Normalization, Plan, Profile, Source,
};
use crate::error::Result;
use crate::learn::{LearningRule, RuleSettings};
use crate::network::Network;
use crate::optim::{OptimizerConfig, OptimizerKind, RESTART_PERIOD, Schedule, ScheduleKind};
use crate::parallel::Ranks;
use crate::phase::Relaxation;
use crate::usage::{UsageError, usage};
use std::path::Path;
use std::rc::Rc;

impl Config {
    /// Where the dataset is looked for and fetched from.
    pub fn source(&self) -> Source {
        Source {
            data_dir: self.data_dir.clone(),
            offline: self.offline,
            mirror: self.mirror.clone(),
        }
    }

    /// What the images are like.
    ///
    /// # Errors
    /// When they are in a folder that is not there, or do not go together.
    pub fn profile(&self) -> Result<Profile> {
        match Plan::published(self.dataset, &self.source()).profile() {
            Err(DataError::NoOwn) => usage!("{}", DataError::NoOwn),
            profile => Ok(profile?),
        }
    }

    /// How the free phase relaxes.
    pub fn free_relaxation(&self) -> Relaxation {
        Relaxation {
            mode: self.mode,
            iterations: self.num_iterations_inference,
            omega: self.omega,
            tolerance: self.tolerance.and_then(|tolerance| tolerance.0),
        }
    }

    /// How the nudged phases relax: as the free one, but for what was set for them alone.
    pub fn nudged_relaxation(&self) -> Relaxation {
        Relaxation {
            mode: self.mode_nudged.unwrap_or(self.mode),
            iterations: self.num_iterations_training,
            tolerance: (self.tolerance_nudged.or(self.tolerance)).and_then(|tolerance| tolerance.0),
            ..self.free_relaxation()
        }
    }

    /// What the learning rule may know.
    pub fn rule_settings(&self) -> RuleSettings {
        RuleSettings {
            device: self.device,
            precision: self.precision,
            cost: self.lossfn,
            free: self.free_relaxation(),
            nudged: self.nudged_relaxation(),
            beta: self.beta,
            variant: self.variant,
            nudged_phase: self.nudged_phase,
            clip_norm: self.clip_norm.0,
            gradient_formula: self.gradient_formula,
            seed: self.seed,
            ranks: None,
        }
    }

    /// Makes the learning rule on the configured device, with all parameters at zero.
    ///
    /// # Errors
    /// When the device cannot be had, or the algorithm does not train such a network.
    pub fn rule(
        &self,
        network: &Network,
        ranks: Option<Rc<dyn Ranks>>,
    ) -> Result<Box<dyn LearningRule>> {
        let learning = self.algorithm.learning();
        let settings = RuleSettings {
            ranks,
            ..self.rule_settings()
        };
        learning.rule(&settings, network)
    }

    /// The optimizer with its constants. The weight decay of Adam is decoupled (AdamW) where the algorithm's recipe says so.
    pub fn optimizer_config(&self) -> OptimizerConfig {
        match self.optimizer {
            OptimizerKind::Sgd if self.no_nesterov => OptimizerConfig::HeavyBall {
                momentum: self.momentum,
                weight_decay: self.weight_decay,
            },
            OptimizerKind::Sgd => OptimizerConfig::Sgd {
                momentum: self.momentum,
                weight_decay: self.weight_decay,
            },
            OptimizerKind::Adam => {
                let weight_decay = self.weight_decay;
                match self.algorithm.description().rates.decoupled_decay {
                    true => OptimizerConfig::AdamW { weight_decay },
                    false => OptimizerConfig::Adam { weight_decay },
                }
            }
        }
    }

    /// How the learning rates change by epoch.
    pub fn schedule(&self) -> Schedule {
        match self.learning_rate_schedule {
            _ if self.use_warm_restarts => Schedule::WarmRestarts {
                period: self.restart_every.unwrap_or(RESTART_PERIOD),
            },
            ScheduleKind::Exponential => Schedule::Exponential,
            ScheduleKind::Constant => Schedule::Constant,
            ScheduleKind::Cosine => Schedule::Cosine {
                epochs: self.epochs,
            },
        }
    }

    /// Learning rates during epoch `epoch` (from 0): one per parameter tensor, biases first, or one for all, as the algorithm has it.
    pub fn learning_rates(&self, epoch: usize) -> Vec<f64> {
        let schedule = self.schedule();
        let published = self.algorithm.description().rates.end;
        let end = self.eta_min.unwrap_or(published);
        if let Some(rate) = self.learning_rate {
            return vec![schedule.rate_between(rate, end, epoch)];
        }
        let initial = self
            .learning_rates_biases
            .iter()
            .chain(&self.learning_rates_weights);
        initial
            .map(|&rate| schedule.rate_between(rate, end, epoch))
            .collect()
    }

    /// What is done to training images of `(height, width)` pixels. The published recipe leaves those alone that keep the size in
    /// their files but for flips; who asks for crops gets them at any size.
    pub fn augmentation(&self, size: (usize, usize)) -> Augmentation {
        let learning = self.algorithm.learning();
        let recipe = learning.augmentation(&self.network, self.dataset);
        match self.augment {
            Augment::FlipCrop if self.dataset == DatasetName::Folder => {
                Augmentation::flip_crop(size)
            }
            Augment::Published => self.dataset.fitted(recipe, size),
            augment => augment.of(recipe),
        }
    }

    /// What is done to all images, of `channels`. Constants of a folder's images are known once these were read: see `load_data` in `run/`.
    ///
    /// # Errors
    /// When the constants are those of another number of channels.
    pub fn normalization(&self, channels: usize) -> Result<Normalization, UsageError> {
        let learning = self.algorithm.learning();
        let published = learning.normalization(&self.network, self.dataset);
        match self.normalize.constants(channels) {
            Ok(given) => Ok(given.unwrap_or(published)),
            Err(error) => usage!("--normalize {}: {error}", self.normalize),
        }
    }

    /// The network as a name for folders and titles.
    pub fn network_name(&self) -> String {
        let stem = Path::new(&self.network).file_stem();
        stem.map_or(self.network.clone(), |stem| {
            stem.to_string_lossy().into_owned()
        })
    }
}
