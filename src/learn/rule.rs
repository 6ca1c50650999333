//! The interfaces of a learning rule, and what all rules check.

use super::Probe;
use crate::config::Config;
use crate::cuda;
use crate::data::Batch;
use crate::network::{ModelState, Network, NetworkError};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{BatchOutcome, PhaseReport};
use anyhow::{Result, bail};
use ndarray::ArrayD;

/// A cost per example beyond this means that the output ran away, though no number overflowed yet.
const RUNAWAY_COST: f64 = 1e6;

/// Numbers that training cannot go on from.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Diverged(pub String);

/// What a batch said, and how its phases went. There are no phases in backpropagation, and no nudged ones in a test.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchReport {
    /// one entry per example
    pub outcome: BatchOutcome,
    /// the free phase
    pub free: Option<PhaseReport>,
    /// the nudged phases
    pub nudged: Option<PhaseReport>,
}

/// What the tensors of a checkpoint are called.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorNames {
    /// the trained tensors
    pub parameters: Vec<String>,
    /// running statistics
    pub statistics: Vec<String>,
    /// the trained tensors in pictures
    pub titles: Vec<String>,
}

/// An algorithm as far as it is known without a device.
pub trait Learning: Sync {
    /// What the tensors of a network are called.
    ///
    /// # Errors
    /// When the algorithm does not train such a network.
    fn names(&self, network: &Network) -> Result<TensorNames, NetworkError>;

    /// A fresh network.
    ///
    /// # Errors
    /// As for [`names`](Self::names).
    fn initial(&self, network: &Network, seed: u64) -> Result<ModelState, NetworkError>;

    /// Takes tensors in the order of the names.
    ///
    /// # Errors
    /// When their number or a shape is wrong, besides those of [`names`](Self::names).
    fn state(
        &self,
        network: &Network,
        parameters: Vec<ArrayD<f64>>,
        statistics: Vec<ArrayD<f64>>,
    ) -> Result<ModelState, NetworkError>;

    /// Bytes of GPU memory that training with batches of `images` takes.
    ///
    /// # Errors
    /// When the kernels do not compute in this precision, besides those of [`names`](Self::names).
    fn memory_need(
        &self,
        network: &Network,
        precision: cuda::Precision,
        images: usize,
        optimizer: OptimizerConfig,
    ) -> Result<usize>;

    /// Makes the rule on the configured device, with all parameters at zero.
    ///
    /// # Errors
    /// When the device cannot be had, besides those of [`names`](Self::names).
    fn rule(&self, config: &Config, network: &Network) -> Result<Box<dyn LearningRule>>;
}

/// A learning rule on a device: trains and evaluates batches.
///
/// Every error is one of the device, or [`Diverged`].
pub trait LearningRule {
    /// What a log should call the backend.
    fn describe(&self) -> String;

    /// Parameters and running statistics, in the order of [`Learning::names`].
    fn state(&self) -> Result<ModelState>;
    /// Takes what [`state`](Self::state) gave.
    fn set_state(&mut self, state: &ModelState) -> Result<()>;

    /// Prepares the optimizer, and gives it what it remembers of earlier steps.
    fn set_optimizer(&mut self, config: OptimizerConfig, state: &OptimizerState) -> Result<()>;
    /// What the optimizer remembers.
    fn optimizer_state(&self) -> Result<OptimizerState>;

    /// The state that the next training batch starts from, one tensor per layer above the input, if the rule keeps one.
    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        Ok(None)
    }
    /// Takes what [`kept_state`](Self::kept_state) gave; `None`: the next batch starts afresh.
    fn set_kept_state(&mut self, _state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        Ok(())
    }

    /// A training step, with one learning rate per trained tensor.
    fn train(&mut self, batch: &Batch, rates: &[f64]) -> Result<BatchReport>;

    /// What the network makes of a batch of test images.
    fn evaluate(&mut self, batch: &Batch) -> Result<BatchReport>;

    /// A look at the states of the present batch; at nothing where the rule relaxes none.
    fn probe_states(&self) -> Result<Probe>;

    /// The same, and at the gradient of the training step.
    fn probe(&self) -> Result<Probe>;
}

/// An error when the means over a batch say that numbers ran away.
pub(super) fn check_outcome(outcome: &BatchOutcome) -> Result<()> {
    let n = outcome.cost.len() as f64;
    let energy = outcome.energy.iter().sum::<f64>() / n;
    let cost = outcome.cost.iter().sum::<f64>() / n;
    for (name, value) in [("energy", energy), ("cost", cost)] {
        if !value.is_finite() {
            bail!(Diverged(format!("the {name} is {value}")));
        }
    }
    if cost > RUNAWAY_COST {
        bail!(Diverged(format!("the cost is {cost:.3e}")));
    }
    Ok(())
}

/// The same of the gradient's global norm.
pub(super) fn check_norm(norm: f64) -> Result<()> {
    if !norm.is_finite() {
        bail!(Diverged(format!("the norm of the gradient is {norm}")));
    }
    Ok(())
}
