//! What learns: a backend of either algorithm behind what the training loop asks of it, batch by batch.

use crate::data::Batch;
use crate::feedforward;
use crate::network::{ModelState, Network};
use crate::optim::{MAX_NORM, OptimizerState};
use crate::phase::{self, BatchOutcome, PhaseReport, Start};
use crate::run::{Config, Diverged, Probe};
use anyhow::{Result, bail};
use ndarray::ArrayD;

/// A cost per example beyond this means that the output ran away, though no number overflowed yet.
const RUNAWAY_COST: f64 = 1e6;

/// A backend, with all parameters at zero until [`Learner::set_learned`].
pub enum Learner {
    EquilibriumPropagation(Box<dyn phase::Backend>),
    Backpropagation(Box<dyn feedforward::Backend>),
}

/// What a batch said, and how its phases went. There are no phases in backpropagation, and no nudged ones in a test.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchReport {
    pub outcome: BatchOutcome,
    pub free: Option<PhaseReport>,
    pub nudged: Option<PhaseReport>,
}

impl Learner {
    /// Makes the backend that a configuration asks for.
    pub fn new(config: &Config, network: &Network) -> Result<Self> {
        let (device, precision) = (config.device, config.precision);
        Ok(match config.feed_forward(network)? {
            None => Self::EquilibriumPropagation(device.backend(network, precision)?),
            Some(model) => Self::Backpropagation(device.feed_forward(&model, precision)?),
        })
    }

    /// What a log should call the backend.
    pub fn describe(&self) -> String {
        match self {
            Self::EquilibriumPropagation(backend) => backend.describe(),
            Self::Backpropagation(backend) => backend.describe(),
        }
    }

    pub fn learned(&self) -> Result<ModelState> {
        Ok(match self {
            Self::EquilibriumPropagation(backend) => ModelState {
                parameters: backend.parameters()?,
                statistics: Vec::new(),
            },
            Self::Backpropagation(backend) => backend.state()?,
        })
    }

    pub fn set_learned(&mut self, learned: &ModelState) -> Result<()> {
        match self {
            Self::EquilibriumPropagation(backend) => backend.set_parameters(&learned.parameters),
            Self::Backpropagation(backend) => backend.set_state(learned),
        }
    }

    /// Prepares the optimizer, and gives it what it remembers of earlier steps.
    pub fn set_optimizer(&mut self, config: &Config, state: &OptimizerState) -> Result<()> {
        let optimizer = config.optimizer_config();
        let remembers = state.steps > 0;
        match self {
            Self::EquilibriumPropagation(backend) => {
                backend.set_optimizer(optimizer)?;
                match remembers {
                    true => backend.set_optimizer_state(state.clone()),
                    false => Ok(()),
                }
            }
            Self::Backpropagation(backend) => {
                backend.set_optimizer(optimizer)?;
                match remembers {
                    true => backend.set_optimizer_state(state.clone()),
                    false => Ok(()),
                }
            }
        }
    }

    pub fn optimizer_state(&self) -> Result<OptimizerState> {
        match self {
            Self::EquilibriumPropagation(backend) => backend.optimizer_state(),
            Self::Backpropagation(backend) => backend.optimizer_state(),
        }
    }

    /// The state that the next training batch starts from, if the algorithm keeps one.
    pub fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        match self {
            Self::EquilibriumPropagation(backend) => backend.kept_state(),
            Self::Backpropagation(_) => Ok(None),
        }
    }

    pub fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        match self {
            Self::EquilibriumPropagation(backend) => backend.set_kept_state(state),
            Self::Backpropagation(_) => Ok(()),
        }
    }

    /// A training step; an error when numbers run away.
    pub fn train(&mut self, batch: &Batch, config: &Config, rates: &[f64]) -> Result<BatchReport> {
        let (images, labels) = (&batch.images, &batch.labels);
        match self {
            Self::EquilibriumPropagation(backend) => {
                backend.load_batch(images, labels, Start::Kept)?;
                let free = backend.free_phase(&config.free_relaxation())?;
                let outcome = backend.outcome(config.lossfn)?;
                check_outcome(&outcome)?;
                let relaxation = config.nudged_relaxation();
                let nudged =
                    backend.nudged_phases(&config.nudging(), config.lossfn, &relaxation)?;
                backend.estimate_gradient()?;
                check_norm(backend.gradient_norm()?)?;
                backend.step(rates, Some(MAX_NORM))?;
                Ok(BatchReport {
                    outcome,
                    free: Some(free),
                    nudged: Some(nudged),
                })
            }
            Self::Backpropagation(backend) => {
                let outcome = backend.forward(images, labels, feedforward::Mode::Train)?;
                check_outcome(&outcome)?;
                backend.backward()?;
                check_norm(backend.gradient_norm()?)?;
                backend.step(rates)?;
                Ok(BatchReport {
                    outcome,
                    ..BatchReport::default()
                })
            }
        }
    }

    /// What the network makes of a batch of test images; an error when numbers run away.
    pub fn test(&mut self, batch: &Batch, config: &Config) -> Result<BatchReport> {
        let (images, labels) = (&batch.images, &batch.labels);
        let report = match self {
            Self::EquilibriumPropagation(backend) => {
                backend.load_batch(images, labels, Start::Zero)?;
                let free = backend.free_phase(&config.free_relaxation())?;
                BatchReport {
                    outcome: backend.outcome(config.lossfn)?,
                    free: Some(free),
                    nudged: None,
                }
            }
            Self::Backpropagation(backend) => BatchReport {
                outcome: backend.forward(images, labels, feedforward::Mode::Evaluate)?,
                ..BatchReport::default()
            },
        };
        check_outcome(&report.outcome)?;
        Ok(report)
    }

    /// A look at the free state of the present batch; at nothing in backpropagation.
    pub fn probe_states(&self) -> Result<Probe> {
        match self {
            Self::EquilibriumPropagation(backend) => Probe::states(&**backend),
            Self::Backpropagation(_) => Ok(Probe::default()),
        }
    }

    /// The same, and at the gradient of the training step.
    pub fn probe(&self) -> Result<Probe> {
        let gradient = match self {
            Self::EquilibriumPropagation(backend) => backend.gradient()?,
            Self::Backpropagation(backend) => backend.gradient()?,
        };
        Ok(self.probe_states()?.with_gradient(&gradient))
    }
}

fn check_outcome(outcome: &BatchOutcome) -> Result<()> {
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

fn check_norm(norm: f64) -> Result<()> {
    if !norm.is_finite() {
        bail!(Diverged(format!("the norm of the gradient is {norm}")));
    }
    Ok(())
}
