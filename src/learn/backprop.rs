//! Backpropagation in the feed-forward equivalent of a network.

use super::probe::Probe;
use super::rule::{
    BatchReport, Description, Learning, LearningRates, LearningRule, RuleSettings, SavedAs,
    TensorNames, check_norm, check_outcome,
};
use crate::cuda;
use crate::data::{Augmentation, Batch, DatasetName, Normalization};
use crate::feedforward::{Backend, FeedForward, NormMode, recipe};
use crate::network::presets::PAPER_CHANNELS;
use crate::network::{ActivationKind, Ends, ModelState, Network, NetworkError};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::parallel::DataParallelFeedForward;
use crate::phase::CostFunction;
use crate::usage::{UsageError, usage};
use crate::error::Result;
use ndarray::ArrayD;
use rand_chacha::ChaCha8Rng;

/// As it is registered.
pub const REGISTERED: Backpropagation = Backpropagation;

pub struct Backpropagation;

/// The published recipe of `resnet13` (`resnet.py`), and of networks that are not published.
const RESNET13: &str = r#"
dataset = "CIFAR10"
network = "resnet13"
epochs = 300
lossfn = "CE"
optimizer = "adam"
weight-decay = 2.5e-4
learning-rate-schedule = "constant"
"#;

/// That of `vgg5` (`vgg.py`).
const VGG5: &str = r#"
dataset = "CIFAR10"
network = "vgg5"
epochs = 300
lossfn = "CE"
optimizer = "sgd"
weight-decay = 5e-4
learning-rate-schedule = "cosine"
"#;

impl Learning for Backpropagation {
    fn description(&self) -> &'static Description {
        &Description {
            name: "backprop",
            aliases: &[],
            about: "backpropagation in its feed-forward equivalent",
            title: "backpropagation",
            label: "backpropagation",
            foreign: &[
                "activation",
                "clip-norm",
                "weight-gains",
                "gains",
                "learning-rates-weights",
                "learning-rates-biases",
                "beta",
                "num-iterations-inference",
                "num-iterations-training",
                "variant",
                "gradient-formula",
                "mode",
                "mode-nudged",
                "omega",
                "nudged-phase",
                "tolerance",
                "tolerance-nudged",
                "published-series",
            ],
            networks: &FeedForward::PRESETS,
            rates: LearningRates {
                sgd: 0.1,
                adam: 1e-3,
                for_each_tensor: false,
                end: 0.0,
                decoupled_decay: false,
            },
            relaxes: false,
            responds: false,
            saved_as: SavedAs::Dictionary,
        }
    }

    fn defaults(&self, network: Option<&str>) -> &'static str {
        match network {
            Some("vgg5") => VGG5,
            _ => RESNET13,
        }
    }

    fn check(&self, settings: &RuleSettings, _network: &Network) -> Result<(), UsageError> {
        if settings.cost != CostFunction::Ce {
            usage!(
                "--lossfn {}: backpropagation minimises the cross-entropy; leave it out, or use CE",
                settings.cost.name()
            );
        }
        Ok(())
    }

    fn network(
        &self,
        name: &str,
        ends: Ends,
        widths: Option<&[usize]>,
        _activation: ActivationKind,
        _rng: &mut ChaCha8Rng,
    ) -> Result<Network, NetworkError> {
        let widths = widths.unwrap_or(&PAPER_CHANNELS);
        let widths = widths.try_into().map_err(|_| {
            NetworkError(format!("{} widths were given, but {name} has 4", widths.len()))
        })?;
        let model = FeedForward::preset(name, ends.input.channels, ends.classes, widths)?;
        Ok(model.network().clone())
    }

    fn augmentation(&self, network: &str, dataset: DatasetName) -> Augmentation {
        recipe::augmentation(network, dataset)
    }

    fn normalization(&self, network: &str, dataset: DatasetName) -> Normalization {
        recipe::normalization(network, dataset)
    }

    fn names(&self, network: &Network) -> Result<TensorNames, NetworkError> {
        let model = FeedForward::of(network);
        Ok(TensorNames {
            titles: model.parameter_titles(),
            parameters: model.parameter_names().to_vec(),
            statistics: model.statistic_names().to_vec(),
        })
    }

    fn initial(&self, network: &Network, seed: u64) -> Result<ModelState, NetworkError> {
        Ok(FeedForward::of(network).initialise(seed))
    }

    fn state(
        &self,
        network: &Network,
        parameters: Vec<ArrayD<f64>>,
        statistics: Vec<ArrayD<f64>>,
    ) -> Result<ModelState, NetworkError> {
        FeedForward::of(network).state(parameters, statistics)
    }

    fn memory_need(
        &self,
        _settings: &RuleSettings,
        network: &Network,
        format: cuda::Format,
        images: usize,
        optimizer: OptimizerConfig,
    ) -> Result<usize> {
        let model = FeedForward::of(network);
        cuda::feed_forward_memory_need(&model, format, images, optimizer)
    }

    fn rule(&self, settings: &RuleSettings, network: &Network) -> Result<Box<dyn LearningRule>> {
        let model = FeedForward::of(network);
        let backend = settings.device.feed_forward(&model, settings.precision)?;
        let backend = match &settings.ranks {
            Some(ranks) => Box::new(DataParallelFeedForward::new(
                backend,
                network,
                ranks.clone(),
            )),
            None => backend,
        };
        Ok(Box::new(Rule(backend)))
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
        let report = self.forward(batch, NormMode::Train)?;
        self.0.backward()?;
        check_norm(self.0.gradient_norm()?)?;
        self.0.step(rates)?;
        Ok(report)
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<BatchReport> {
        self.forward(batch, NormMode::Evaluate)
    }

    fn probe_states(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    fn probe(&self) -> Result<Probe> {
        Ok(Probe::default().with_gradient(&self.0.gradient()?))
    }
}

impl Rule {
    fn forward(&mut self, batch: &Batch, mode: NormMode) -> Result<BatchReport> {
        let outcome = self.0.forward(&batch.images, &batch.labels, mode)?;
        check_outcome(&outcome)?;
        Ok(BatchReport {
            outcome,
            ..BatchReport::default()
        })
    }
}
