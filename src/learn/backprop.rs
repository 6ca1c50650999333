//! Backpropagation in the feed-forward equivalent of a network.

use super::rule::{check_norm, check_outcome};
use super::{BatchReport, Learning, LearningRule, Probe, TensorNames};
use crate::config::Config;
use crate::cuda;
use crate::data::Batch;
use crate::feedforward::{Backend, FeedForward, Mode};
use crate::network::{ModelState, Network, NetworkError};
use crate::optim::{OptimizerConfig, OptimizerState};
use anyhow::Result;
use ndarray::ArrayD;

/// As it is registered.
pub struct Backpropagation;

impl Learning for Backpropagation {
    fn names(&self, network: &Network) -> Result<TensorNames, NetworkError> {
        let model = FeedForward::of(network)?;
        let parameters = model.parameter_names().to_vec();
        Ok(TensorNames {
            titles: parameters.clone(),
            parameters,
            statistics: model.statistic_names().to_vec(),
        })
    }

    fn initial(&self, network: &Network, seed: u64) -> Result<ModelState, NetworkError> {
        Ok(FeedForward::of(network)?.initialise(seed))
    }

    fn state(
        &self,
        network: &Network,
        parameters: Vec<ArrayD<f64>>,
        statistics: Vec<ArrayD<f64>>,
    ) -> Result<ModelState, NetworkError> {
        FeedForward::of(network)?.state(parameters, statistics)
    }

    fn memory_need(
        &self,
        network: &Network,
        precision: cuda::Precision,
        images: usize,
        optimizer: OptimizerConfig,
    ) -> Result<usize> {
        let model = FeedForward::of(network)?;
        cuda::feed_forward_memory_need(&model, precision, images, optimizer)
    }

    fn rule(&self, config: &Config, network: &Network) -> Result<Box<dyn LearningRule>> {
        let model = FeedForward::of(network)?;
        Ok(Box::new(Rule(
            config.device.feed_forward(&model, config.precision)?,
        )))
    }
}

struct Rule(Box<dyn Backend>);

impl LearningRule for Rule {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn state(&self) -> Result<ModelState> {
        self.0.state()
    }

    fn set_state(&mut self, state: &ModelState) -> Result<()> {
        self.0.set_state(state)
    }

    fn set_optimizer(&mut self, config: OptimizerConfig, state: &OptimizerState) -> Result<()> {
        self.0.set_optimizer(config)?;
        match state.steps {
            0 => Ok(()),
            _ => self.0.set_optimizer_state(state.clone()),
        }
    }

    fn optimizer_state(&self) -> Result<OptimizerState> {
        self.0.optimizer_state()
    }

    fn train(&mut self, batch: &Batch, rates: &[f64]) -> Result<BatchReport> {
        let report = self.forward(batch, Mode::Train)?;
        self.0.backward()?;
        check_norm(self.0.gradient_norm()?)?;
        self.0.step(rates)?;
        Ok(report)
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<BatchReport> {
        self.forward(batch, Mode::Evaluate)
    }

    fn probe_states(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    fn probe(&self) -> Result<Probe> {
        Ok(Probe::default().with_gradient(&self.0.gradient()?))
    }
}

impl Rule {
    fn forward(&mut self, batch: &Batch, mode: Mode) -> Result<BatchReport> {
        let outcome = self.0.forward(&batch.images, &batch.labels, mode)?;
        check_outcome(&outcome)?;
        Ok(BatchReport {
            outcome,
            ..BatchReport::default()
        })
    }
}
