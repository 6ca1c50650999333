//! Equilibrium propagation: the gradient lies between two nudged phases that start from the free state.

use super::rule::{check_norm, check_outcome};
use super::{BatchReport, Learning, LearningRule, Probe, TensorNames};
use crate::config::Config;
use crate::cuda;
use crate::data::Batch;
use crate::network::parameters::initialise;
use crate::network::{ModelState, Network, NetworkError, ParameterSet};
use crate::optim::{MAX_NORM, OptimizerConfig, OptimizerState};
use crate::phase::{Backend, CostFunction, Nudging, Relaxation, Start};
use anyhow::Result;
use ndarray::ArrayD;

/// As it is registered.
pub struct EquilibriumPropagation;

impl Learning for EquilibriumPropagation {
    fn names(&self, network: &Network) -> Result<TensorNames, NetworkError> {
        Ok(TensorNames {
            parameters: network.parameter_names(),
            statistics: Vec::new(),
            titles: network.parameter_titles(),
        })
    }

    fn initial(&self, network: &Network, seed: u64) -> Result<ModelState, NetworkError> {
        Ok(ModelState {
            parameters: initialise(network, seed),
            statistics: Vec::new(),
        })
    }

    fn state(
        &self,
        network: &Network,
        parameters: Vec<ArrayD<f64>>,
        statistics: Vec<ArrayD<f64>>,
    ) -> Result<ModelState, NetworkError> {
        Ok(ModelState {
            parameters: ParameterSet::from_tensors(network, parameters)?,
            statistics,
        })
    }

    fn memory_need(
        &self,
        network: &Network,
        precision: cuda::Precision,
        images: usize,
        optimizer: OptimizerConfig,
    ) -> Result<usize> {
        cuda::memory_need(network, precision, images, optimizer)
    }

    fn rule(&self, config: &Config, network: &Network) -> Result<Box<dyn LearningRule>> {
        Ok(Box::new(Rule {
            backend: config.device.backend(network, config.precision)?,
            cost: config.lossfn,
            free: config.free_relaxation(),
            nudged: config.nudged_relaxation(),
            nudging: config.nudging(),
        }))
    }
}

struct Rule {
    backend: Box<dyn Backend>,
    cost: CostFunction,
    free: Relaxation,
    nudged: Relaxation,
    nudging: Nudging,
}

impl LearningRule for Rule {
    fn describe(&self) -> String {
        self.backend.describe()
    }

    fn state(&self) -> Result<ModelState> {
        Ok(ModelState {
            parameters: self.backend.parameters()?,
            statistics: Vec::new(),
        })
    }

    fn set_state(&mut self, state: &ModelState) -> Result<()> {
        self.backend.set_parameters(&state.parameters)
    }

    fn set_optimizer(&mut self, config: OptimizerConfig, state: &OptimizerState) -> Result<()> {
        self.backend.set_optimizer(config)?;
        match state.steps {
            0 => Ok(()),
            _ => self.backend.set_optimizer_state(state.clone()),
        }
    }

    fn optimizer_state(&self) -> Result<OptimizerState> {
        self.backend.optimizer_state()
    }

    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        self.backend.kept_state()
    }

    fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        self.backend.set_kept_state(state)
    }

    fn train(&mut self, batch: &Batch, rates: &[f64]) -> Result<BatchReport> {
        let backend = &mut self.backend;
        backend.load_batch(&batch.images, &batch.labels, Start::Kept)?;
        let free = backend.free_phase(&self.free)?;
        let outcome = backend.outcome(self.cost)?;
        check_outcome(&outcome)?;
        let nudged = backend.nudged_phases(&self.nudging, self.cost, &self.nudged)?;
        backend.estimate_gradient()?;
        check_norm(backend.gradient_norm()?)?;
        backend.step(rates, Some(MAX_NORM))?;
        Ok(BatchReport {
            outcome,
            free: Some(free),
            nudged: Some(nudged),
        })
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<BatchReport> {
        let backend = &mut self.backend;
        backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
        let free = backend.free_phase(&self.free)?;
        let outcome = backend.outcome(self.cost)?;
        check_outcome(&outcome)?;
        Ok(BatchReport {
            outcome,
            free: Some(free),
            nudged: None,
        })
    }

    fn probe_states(&self) -> Result<Probe> {
        Probe::states(&*self.backend)
    }

    fn probe(&self) -> Result<Probe> {
        Ok(self
            .probe_states()?
            .with_gradient(&self.backend.gradient()?))
    }
}
