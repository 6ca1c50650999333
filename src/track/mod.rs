//! A run's series for TensorBoard and for Weights & Biases, besides `metrics.jsonl`.
//!
//! After each epoch [`Tracking`] turns the epoch's [`Record`] into named values ([`series`]), and its parameters into distributions
//! ([`histogram`]), and hands them to the trackers that the run asked for: [`tensorboard`] writes event files, [`wandb`] talks to the
//! user's own `wandb` package. A tracker that cannot begin is an error before anything is trained; one that fails later is given up with a
//! warning, for training is worth more than its log. `docs/tracking.md` defines every series.

pub mod event;
pub mod histogram;
pub mod series;
pub mod tensorboard;
mod tracker;
pub mod wandb;

pub use tracker::Tracker;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::network::ParameterSet;
use crate::run::{Observer, Record, RunFolder};
use histogram::Histogram;
use series::Names;
use std::path::Path;

/// The trackers of a training session.
#[derive(Default)]
pub struct Tracking {
    names: Names,
    /// with the option that asked for it
    trackers: Vec<(&'static str, Box<dyn Tracker>)>,
}

impl Tracking {
    /// Begins what `config` asks for, for the run in `folder` that has come to the end of epoch `epochs`; `names` are those of its
    /// series. A tracker that
    /// knows nothing of the run yet gets its earlier epochs too. `client` is there when `config.wandb` is set.
    ///
    /// # Errors
    /// When a tracker cannot be had.
    pub fn begin(
        config: &Config,
        names: Names,
        folder: &Path,
        epochs: usize,
        client: Option<wandb::Client>,
    ) -> Result<Self> {
        let mut tracking = Self {
            names,
            trackers: Vec::new(),
        };
        // First what fails more often, so that nothing is left of the other.
        if let Some(client) = client {
            let (run, is_new) = client.begin(folder, config)?;
            tracking.add("--wandb", run, is_new, folder)?;
        }
        if config.tensorboard {
            let (file, is_new) = tensorboard::EventFile::create(folder, epochs, config)?;
            tracking.add("--tensorboard", file, is_new, folder)?;
        }
        Ok(tracking)
    }

    fn add(
        &mut self,
        option: &'static str,
        mut tracker: impl Tracker + 'static,
        is_new: bool,
        folder: &Path,
    ) -> Result<()> {
        let earlier = if is_new {
            RunFolder::records(folder)?
        } else {
            Vec::new()
        };
        for record in earlier {
            tracker.log(record.epoch, &series::values(&record, &self.names))?;
        }
        self.trackers.push((option, Box::new(tracker)));
        Ok(())
    }

    /// Hands something to every tracker; one that fails is given up.
    fn hand(&mut self, mut what: impl FnMut(&mut dyn Tracker) -> Result<()>) {
        self.trackers.retain_mut(|(option, tracker)| {
            let handed = what(&mut **tracker);
            if let Err(error) = &handed {
                warn(option, error);
            }
            handed.is_ok()
        });
    }
}

impl Observer for Tracking {
    /// Hands an epoch's values to every tracker.
    fn epoch_is_recorded(&mut self, record: &Record) {
        if self.trackers.is_empty() {
            return;
        }
        let values = series::values(record, &self.names);
        self.hand(|tracker| tracker.log(record.epoch, &values));
    }

    /// Hands the distributions of the parameters to those that take them.
    fn epoch_ends_with(&mut self, epoch: usize, parameters: &ParameterSet<f64>) {
        if !self.trackers.iter().any(|(_, t)| t.takes_histograms()) {
            return;
        }
        let tensors = self.names.parameters().iter().zip(parameters.tensors());
        let histograms: Vec<_> = tensors
            .filter_map(|(name, tensor)| {
                Some((format!("parameter/{name}"), Histogram::of(tensor)?))
            })
            .collect();
        self.hand(|tracker| tracker.log_histograms(epoch, &histograms));
    }

    fn run_ends(&mut self, exit_code: u8) {
        for (option, mut tracker) in self.trackers.drain(..) {
            if let Err(error) = tracker.finish(exit_code) {
                warn(option, &error);
            }
        }
    }
}

fn warn(option: &str, error: &Error) {
    log::warn!(
        "{option}: {error:#}; the run itself is not affected, and metrics.jsonl has everything"
    );
}
