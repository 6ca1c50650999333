//! What all rules share that let a Hopfield network relax: a free phase, its outcome, then an estimate of the gradient, then a step.

use super::probe::Probe;
use super::published::Magnitudes;
use super::rule::{BatchReport, LearningRule, RuleSettings, check_norm, check_outcome};
use crate::data::Batch;
use crate::error::Result;
use crate::network::{ModelState, Network};
use crate::optim::{OptimizerConfig, OptimizerState, clip_scale};
use crate::parallel::DataParallel;
use crate::phase::{Backend, CostFunction, PhaseReport, PhaseState, Relaxation, Start};
use ndarray::{ArrayD, IxDyn};

/// What a rule does after the free phase.
pub(super) trait Estimate {
    /// Leaves a gradient estimate of the present batch in the backend; how the phases went that it took. `step` counts the
    /// training steps of the run before this one.
    ///
    /// # Errors
    /// When the backend has no such phases, or fails.
    fn estimate(&mut self, backend: &mut dyn Backend, step: u64) -> Result<PhaseReport>;
}

/// A rule that relaxes, with its backend.
pub(super) struct Relaxing<E> {
    backend: Box<dyn Backend>,
    cost: CostFunction,
    free: Relaxation,
    clip_norm: Option<f64>,
    estimate: E,
    /// training steps so far, in all sessions of the run
    steps: u64,
}

impl<E: Estimate + 'static> Relaxing<E> {
    /// On the device of the settings, with all parameters at zero.
    pub fn boxed(
        settings: &RuleSettings,
        network: &Network,
        estimate: E,
    ) -> Result<Box<dyn LearningRule>> {
        let backend = settings.device.backend(network, settings.precision)?;
        let backend = match &settings.ranks {
            Some(ranks) => Box::new(DataParallel::new(backend, network, ranks.clone())),
            None => backend,
        };
        Ok(Box::new(Self {
            backend,
            cost: settings.cost,
            free: settings.free,
            clip_norm: settings.clip_norm,
            estimate,
            steps: 0,
        }))
    }
}

impl<E> Relaxing<E> {
    /// The free phase of a batch.
    fn relax(&mut self, batch: &Batch, start: Start) -> Result<BatchReport> {
        let backend = &mut self.backend;
        backend.load_batch(&batch.images, &batch.labels, start)?;
        let free = backend.free_phase(&self.free)?;
        let outcome = backend.outcome(self.cost)?;
        check_outcome(&outcome)?;
        Ok(BatchReport {
            outcome,
            free: Some(free),
            nudged: None,
        })
    }
}

impl<E: Estimate> LearningRule for Relaxing<E> {
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
        self.steps = state.steps;
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
        let report = self.relax(batch, Start::Kept)?;
        let nudged = self.estimate.estimate(&mut *self.backend, self.steps)?;
        check_norm(self.backend.gradient_norm()?)?;
        self.backend.step(rates, self.clip_norm)?;
        self.steps += 1;
        Ok(BatchReport {
            nudged: Some(nudged),
            ..report
        })
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<BatchReport> {
        self.relax(batch, Start::Zero)
    }

    fn probe_states(&self) -> Result<Probe> {
        Probe::states(&*self.backend)
    }

    fn probe(&self) -> Result<Probe> {
        Ok(self
            .probe_states()?
            .with_gradient(&self.backend.gradient()?))
    }

    fn magnitudes(&self, batch: &Batch, trained: bool) -> Result<Magnitudes> {
        // A machine without rows of this batch relaxed a blank image.
        let mut states = self.backend.states(PhaseState::Free)?;
        if batch.labels.is_empty() {
            states
                .iter_mut()
                .for_each(|state| *state = ArrayD::zeros(IxDyn(&[0])));
        }
        let images = batch.images.mapv(f64::from).into_dyn();
        let magnitudes = Magnitudes::of_states(&images, &states);
        if !trained {
            return Ok(magnitudes);
        }
        let gradient = self.backend.gradient()?;
        let scale = self
            .clip_norm
            .map_or(1.0, |most| clip_scale(gradient.norm(), most));
        Ok(magnitudes.with_gradient(gradient.tensors(), scale))
    }
}
