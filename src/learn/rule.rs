//! The interfaces of a learning rule, and what all rules check.

use super::formula::{GradientFormula, VariantChoice};
use super::probe::Probe;
use super::published::Magnitudes;
use crate::cuda;
use crate::data::{Augmentation, Batch, DatasetName, Normalization};
use crate::device::{Device, Precision};
use crate::error::{Result, bail};
use crate::network::parameters::initialise;
use crate::network::presets;
use crate::network::{ActivationKind, Ends, ModelState, Network, NetworkError, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::parallel::Ranks;
use crate::phase::{
    BatchOutcome, CostFunction, NudgedPhase, Nudging, OutputCondition, PhaseReport, Relaxation,
};
use crate::usage::{UsageError, usage};
use ndarray::ArrayD;
use rand_chacha::ChaCha8Rng;
use std::rc::Rc;

/// A cost per example beyond this means that the output ran away, though no number overflowed yet.
const RUNAWAY_COST: f64 = 1e6;

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

/// What is fixed about an algorithm.
#[derive(Debug)]
pub struct Description {
    /// as users write it
    pub name: &'static str,
    /// other names, which may choose settings too
    pub aliases: &'static [Alias],
    /// what it is, for `--help`
    pub about: &'static str,
    /// what it is called in a sentence
    pub title: &'static str,
    /// the same in a legend
    pub label: &'static str,
    /// settings that mean nothing to it, and are left out of `config.toml`
    pub foreign: &'static [&'static str],
    /// names of the published networks that it trains
    pub networks: &'static [&'static str],
    /// learning rates
    pub rates: LearningRates,
    /// whether states relax: there are phases to watch, and the gradient is an estimate
    pub relaxes: bool,
    /// whether what follows the free phase may be a linear response
    pub responds: bool,
    /// how the published program saves what it trained
    pub saved_as: SavedAs,
}

/// A name of the literature for an algorithm with certain settings.
#[derive(Debug)]
pub struct Alias {
    /// as users write it, in upper or lower case
    pub name: &'static str,
    /// the text of a configuration file
    pub settings: &'static str,
}

/// Which learning rates an algorithm takes, and how they end.
#[derive(Debug)]
pub struct LearningRates {
    /// that of SGD where none is given
    pub sgd: f64,
    /// that of Adam or AdamW
    pub adam: f64,
    /// whether each tensor has one of its own; else there is one for all
    pub for_each_tensor: bool,
    /// at the end of an annealing
    pub end: f64,
    /// whether `adam` is AdamW, which decouples weight decay from the gradient
    pub decoupled_decay: bool,
}

/// What is in a file of `torch.save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedAs {
    /// biases, then weights
    List,
    /// a `state_dict`
    Dictionary,
}

/// What a rule may know of a run's settings.
#[derive(Debug, Clone)]
pub struct RuleSettings {
    /// where to compute
    pub device: Device,
    /// in which arithmetic
    pub precision: Precision,
    /// what is minimised
    pub cost: CostFunction,
    /// a free phase
    pub free: Relaxation,
    /// a phase after it
    pub nudged: Relaxation,
    /// strength of the nudging
    pub beta: f64,
    /// the two phases that an estimate lies between
    pub variant: VariantChoice,
    /// how they are represented
    pub nudged_phase: NudgedPhase,
    /// largest norm that the gradient keeps; `None`: any
    pub clip_norm: Option<f64>,
    /// the processes that train together; `None`: this one alone
    pub ranks: Option<Rc<dyn Ranks>>,
    /// what the gradient is made of
    pub gradient_formula: GradientFormula,
    /// of the run
    pub seed: u64,
}

impl RuleSettings {
    /// The pair of phases with a nudged output that has these settings: what pictures and studies watch, whichever rule it is.
    pub fn nudging(&self) -> Nudging {
        Nudging {
            beta: self.beta,
            variant: self.variant.variant(|| true),
            form: match self.nudged_phase {
                NudgedPhase::Linear => NudgedPhase::SumDifference,
                form => form,
            },
            output: OutputCondition::Nudged,
        }
    }
}

/// An algorithm as far as it is known without a device. What is not said is as for a Hopfield network that relaxes.
pub trait Learning: Sync {
    /// What is fixed about it.
    fn description(&self) -> &'static Description;

    /// What goes without saying where nobody chose it, as the text of a configuration file; it may depend on the network that
    /// a user named.
    fn defaults(&self, _network: Option<&str>) -> &'static str {
        ""
    }

    /// Whether the algorithm can do with these settings.
    ///
    /// # Errors
    /// An option that it cannot train `network` with.
    fn check(&self, settings: &RuleSettings, network: &Network) -> Result<(), UsageError> {
        check_over_relaxation(settings, network)
    }

    /// Builds one of its published networks, with its published widths where none are given. `rng` draws the bounds of activations.
    ///
    /// # Errors
    /// When it is none of [`Description::networks`], or cannot be built so.
    fn network(
        &self,
        name: &str,
        ends: Ends,
        widths: Option<&[usize]>,
        activation: ActivationKind,
        rng: &mut ChaCha8Rng,
    ) -> Result<Network, NetworkError> {
        let preset = presets::find(name)
            .ok_or_else(|| NetworkError(format!("there is no network {name:?}")))?;
        let widths = widths.unwrap_or(preset.widths);
        preset.build(ends.input, ends.classes, widths, activation, rng)
    }

    /// The published augmentation of a dataset's images for this network.
    fn augmentation(&self, _network: &str, dataset: DatasetName) -> Augmentation {
        dataset.augmentation()
    }

    /// The published normalisation of a dataset's images for this network.
    fn normalization(&self, _network: &str, dataset: DatasetName) -> Normalization {
        dataset.normalization()
    }

    /// What the tensors of a network are called.
    ///
    /// # Errors
    /// When the algorithm does not train such a network.
    fn names(&self, network: &Network) -> Result<TensorNames, NetworkError> {
        Ok(TensorNames {
            parameters: network.parameter_names(),
            statistics: Vec::new(),
            titles: network.parameter_titles(),
        })
    }

    /// A fresh network.
    ///
    /// # Errors
    /// As for [`names`](Self::names).
    fn initial(&self, network: &Network, seed: u64) -> Result<ModelState, NetworkError> {
        Ok(ModelState {
            parameters: initialise(network, seed),
            statistics: Vec::new(),
        })
    }

    /// Takes tensors in the order of the names.
    ///
    /// # Errors
    /// When their number or a shape is wrong, besides those of [`names`](Self::names).
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

    /// Bytes of GPU memory that training with batches of `images` takes.
    ///
    /// # Errors
    /// When the kernels do not compute the network, besides those of [`names`](Self::names).
    fn memory_need(
        &self,
        _settings: &RuleSettings,
        network: &Network,
        format: cuda::Format,
        images: usize,
        optimizer: OptimizerConfig,
    ) -> Result<usize> {
        cuda::memory_need(network, format, images, optimizer, None)
    }

    /// Makes the rule on the device of the settings, with all parameters at zero.
    ///
    /// # Errors
    /// When the device cannot be had, besides those of [`names`](Self::names).
    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>>;
}

/// Over-relaxation converges when the layers of a group are not joined; otherwise the order is like Jacobi's.
///
/// # Errors
/// When it diverges in this order of updates.
pub(super) fn check_over_relaxation(
    settings: &RuleSettings,
    network: &Network,
) -> Result<(), UsageError> {
    for Relaxation { omega, mode, .. } in [&settings.free, &settings.nudged] {
        if *omega <= 1.0 {
            continue;
        }
        if let Some(edge) = network.joined_in(*mode) {
            usage!(
                "--omega {omega}: the mode {} updates the joined layers {} and {} together, which diverges when over-relaxed; \
                 use --mode coloured, or --omega 1",
                mode.name(),
                network.layers()[edge.pre].name,
                network.layers()[edge.post].name,
            );
        }
    }
    Ok(())
}

/// A learning rule on a device: trains and evaluates batches.
///
/// # Errors
/// Of every method: the device fails, or the training has [diverged](crate::error::Error::Diverged).
#[expect(clippy::missing_errors_doc, reason = "said once for the trait")]
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

    /// What the field's framework sums up of every batch: of the free states of `batch`, which is the present one, and, when `trained`,
    /// of the gradient of its training step. Nothing where the rule relaxes no states.
    ///
    /// # Errors
    /// When no batch was relaxed, or the device fails.
    fn magnitudes(&self, _batch: &Batch, _trained: bool) -> Result<Magnitudes> {
        Ok(Magnitudes::default())
    }
}

/// An error when the means over a batch say that numbers ran away.
pub(super) fn check_outcome(outcome: &BatchOutcome) -> Result<()> {
    if outcome.cost.is_empty() {
        // The part of a rank without rows.
        return Ok(());
    }
    let n = outcome.cost.len() as f64;
    let energy = outcome.energy.iter().sum::<f64>() / n;
    let cost = outcome.cost.iter().sum::<f64>() / n;
    for (name, value) in [("energy", energy), ("cost", cost)] {
        if !value.is_finite() {
            bail!(Diverged, "the {name} is {value}");
        }
    }
    if cost > RUNAWAY_COST {
        bail!(Diverged, "the cost is {cost:.3e}");
    }
    Ok(())
}

/// The same of the gradient's global norm.
pub(super) fn check_norm(norm: f64) -> Result<()> {
    if !norm.is_finite() {
        bail!(Diverged, "the norm of the gradient is {norm}");
    }
    Ok(())
}
