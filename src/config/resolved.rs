//! A run's configuration, with everything decided.

use super::settings::{self, OptimizerKind, ScheduleKind, is_network_file, overlay};
use super::{FileSettings, Settings, presets};
use crate::data::{Augmentation, DatasetName, Normalization, SIDE, Source};
use crate::device::{Device, Precision};
use crate::learn::{Algorithm, LearningRule, RuleSettings};
use crate::network::presets::{PAPER_CHANNELS, PresetOptions};
use crate::network::{ActivationKind, Mode, Network, NetworkDescription};
use crate::optim::{OptimizerConfig, RESTART_PERIOD, Schedule};
use crate::parallel::Ranks;
use crate::phase::{CostFunction, NudgedPhase, Relaxation, Variant};
use crate::usage::{UsageError, usage};
use anyhow::{Context, Result, anyhow, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use toml::Table;

/// Widths above this are a slip of the finger, and would exhaust the memory before anything could be said about it.
const MAX_CHANNELS: usize = 8192;
const MAX_THREADS: usize = 1024;

/// The resolved settings of a run: what `config.toml` in its folder says. The keys are those of [`Settings`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub dataset: DatasetName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    pub offline: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_train: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_test: Option<usize>,
    pub batch_size: usize,
    // Left out where they are the default: checkpoints of older versions keep their checksum.
    #[serde(default, skip_serializing_if = "settings::is_default")]
    pub algorithm: Algorithm,
    pub network: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<usize>>,
    pub activation: ActivationKind,
    /// one per weight tensor
    #[serde(default)]
    pub weight_gains: Vec<f64>,
    pub epochs: usize,
    pub lossfn: CostFunction,
    pub optimizer: OptimizerKind,
    /// the one of all tensors, in backpropagation
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learning_rate: Option<f64>,
    /// one per weight tensor
    #[serde(default)]
    pub learning_rates_weights: Vec<f64>,
    /// one per layer above the input
    #[serde(default)]
    pub learning_rates_biases: Vec<f64>,
    pub momentum: f64,
    pub weight_decay: f64,
    #[serde(default, skip_serializing_if = "settings::is_default")]
    pub learning_rate_schedule: ScheduleKind,
    pub use_warm_restarts: bool,
    pub seed: u64,
    pub beta: f64,
    pub num_iterations_inference: usize,
    pub num_iterations_training: usize,
    pub variant: Variant,
    pub mode: Mode,
    pub omega: f64,
    pub nudged_phase: NudgedPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance_nudged: Option<f64>,
    pub device: Device,
    pub precision: Precision,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_every: Option<usize>,
    // Left out where they are off: the checkpoints of older versions keep their checksum.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wandb: bool,
}

/// Settings that do not decide what is computed, and may change when a run is resumed. `epochs` is among them because a
/// finished run may be given more; that stretches its cosine schedule.
const MAY_CHANGE: [&str; 9] = [
    "epochs",
    "data-dir",
    "offline",
    "mirror",
    "device",
    "threads",
    "save-every",
    "tensorboard",
    "wandb",
];

impl Config {
    /// Puts the layers on top of each other, fills in what depends on other settings, and checks everything.
    ///
    /// `preset` and `file` are the values of `--preset` and `--config`; `given` holds the other options.
    pub fn resolve(
        preset: Option<&str>,
        file: Option<FileSettings>,
        given: &Settings,
    ) -> Result<(Self, Network)> {
        let file = file.unwrap_or_default();
        let mut layers = Vec::new();
        if let Some(name) = preset.or(file.preset.as_deref()) {
            layers.push(presets::find(name)?);
        }
        layers.push(file.settings.spelled_out()?);
        layers.push(given.spelled_out()?);
        // What goes without saying depends on the algorithm.
        let said = layers.iter().cloned().reduce(overlay).unwrap_or_default();
        let algorithm: Algorithm = match said.contains_key("algorithm") {
            true => decided(&said, "algorithm"),
            false => Algorithm::default(),
        };
        check_foreign(algorithm, &said)?;
        let network = said.get("network").and_then(|network| network.as_str());
        let defaults = FileSettings::parse(algorithm.learning().defaults(network))
            .map_err(|e| anyhow!("defaults of --algorithm {algorithm}: {e}"))?;
        let table = overlay(settings::defaults().table(), defaults.settings.table());
        Self::from_table(layers.into_iter().fold(table, overlay))
    }

    fn from_table(mut table: Table) -> Result<(Self, Network)> {
        fill_in_arithmetic(&mut table);
        let mut config: Self = table.try_into().expect("every key has a type already");
        config.check_ranges()?;
        if let Some(folder) = &config.data_dir {
            config.data_dir = Some(std::path::absolute(folder).context("--data-dir")?);
        }
        let network = config.build_network()?;
        let learning = config.algorithm.learning();
        learning.check(&config.rule_settings(), &network)?;
        if !config.algorithm.description().rates.for_each_tensor {
            let rate = config.default_rate();
            config.learning_rate.get_or_insert(rate);
            return Ok((config, network));
        }
        config.complete(&network)?;
        let network = with_gains(&network, &config.weight_gains)?;
        Ok((config, network))
    }

    /// The configuration of a run that is resumed with further options. One that would change what is computed is an
    /// error that names it; one that repeats what the run has is fine.
    pub fn resumed(
        &self,
        preset: Option<&str>,
        file: Option<FileSettings>,
        given: &Settings,
    ) -> Result<Self> {
        let file = file.unwrap_or_default();
        let mut said = Table::new();
        if let Some(name) = preset.or(file.preset.as_deref()) {
            said = presets::find(name)?;
        }
        said = overlay(said, file.settings.spelled_out()?);
        said = overlay(said, given.spelled_out()?);
        check_foreign(self.algorithm, &said)?;
        let mine = self.table();
        let mut merged = mine.clone();
        for (key, value) in said {
            if MAY_CHANGE.contains(&key.as_str()) {
                merged.insert(key, value);
            } else if !self.says(&key, &value) {
                let mine = mine
                    .get(&key)
                    .map_or("unset".to_string(), ToString::to_string);
                usage!(
                    "--{key} {value}: the run was started with {mine}, and a resumed run may change only {}",
                    MAY_CHANGE.map(|key| format!("--{key}")).join(", ")
                );
            }
        }
        let config: Self = merged.try_into().expect("every key has a type already");
        config.check_ranges()?;
        Ok(config)
    }

    /// The same with other settings for an evaluation of its network.
    pub fn evaluated(&self, given: &Settings, network: &Network) -> Result<Self> {
        let mut mine = self.table();
        if given.dataset.is_some_and(|dataset| dataset != self.dataset) {
            mine.remove("limit-test");
        }
        let config: Self = overlay(mine, given.table())
            .try_into()
            .expect("every key has a type already");
        config.check_ranges()?;
        let learning = config.algorithm.learning();
        learning.check(&config.rule_settings(), network)?;
        Ok(config)
    }

    /// Whether a setting that the user repeats is what this configuration has.
    fn says(&self, key: &str, value: &toml::Value) -> bool {
        match (key, value.as_float()) {
            ("learning-rate", Some(rate)) if self.learning_rate.is_none() => {
                let all = self
                    .learning_rates_biases
                    .iter()
                    .chain(&self.learning_rates_weights);
                all.into_iter().all(|&mine| mine == rate)
            }
            // May be the published list with one value per weight tensor.
            ("learning-rates-biases", _) => value.as_array().is_some_and(|given| {
                let mine = |i: usize| {
                    self.learning_rates_biases
                        .get(i.min(self.learning_rates_biases.len() - 1))
                };
                (given.iter().enumerate()).all(|(i, rate)| rate.as_float().as_ref() == mine(i))
            }),
            // Left out of the table.
            ("algorithm", _) => value.as_str() == Some(self.algorithm.name()),
            ("learning-rate-schedule", _) => {
                value.as_str() == Some(self.learning_rate_schedule.name())
            }
            _ => self.table().get(key) == Some(value),
        }
    }

    pub fn table(&self) -> Table {
        Table::try_from(self).expect("a configuration is numbers, strings and lists")
    }

    /// The text of `config.toml`, which `--config` reads again.
    pub fn to_toml(&self) -> String {
        let mut table = self.table();
        let foreign = self.algorithm.description().foreign;
        table.retain(|key, _| !foreign.contains(&key));
        let table = toml::to_string(&table).expect("a configuration is numbers, strings and lists");
        format!(
            "# Every setting of this run; `eqprop-cuda train --config` takes this file.\n{table}"
        )
    }

    pub fn source(&self) -> Source {
        Source {
            data_dir: self.data_dir.clone(),
            offline: self.offline,
            mirror: self.mirror.clone(),
        }
    }

    pub fn free_relaxation(&self) -> Relaxation {
        Relaxation {
            mode: self.mode,
            iterations: self.num_iterations_inference,
            omega: self.omega,
            tolerance: self.tolerance,
        }
    }

    pub fn nudged_relaxation(&self) -> Relaxation {
        Relaxation {
            iterations: self.num_iterations_training,
            tolerance: self.tolerance_nudged.or(self.tolerance),
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

    pub fn optimizer_config(&self) -> OptimizerConfig {
        match self.optimizer {
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

    pub fn schedule(&self) -> Schedule {
        match self.learning_rate_schedule {
            _ if self.use_warm_restarts => Schedule::WarmRestarts {
                period: RESTART_PERIOD,
            },
            ScheduleKind::Constant => Schedule::Constant,
            ScheduleKind::Cosine => Schedule::Cosine {
                epochs: self.epochs,
            },
        }
    }

    /// Learning rates during epoch `epoch` (from 0): one per parameter tensor, biases first, or one for all, as the algorithm has it.
    pub fn learning_rates(&self, epoch: usize) -> Vec<f64> {
        let schedule = self.schedule();
        let end = self.algorithm.description().rates.end;
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

    /// What is done to training images: the published augmentation.
    pub fn augmentation(&self) -> Augmentation {
        let learning = self.algorithm.learning();
        learning.augmentation(&self.network, self.dataset)
    }

    /// What is done to all images: the published normalisation.
    pub fn normalization(&self) -> Normalization {
        let learning = self.algorithm.learning();
        learning.normalization(&self.network, self.dataset)
    }

    /// The network as a name for folders and titles.
    pub fn network_name(&self) -> String {
        let stem = Path::new(&self.network).file_stem();
        stem.map_or(self.network.clone(), |stem| {
            stem.to_string_lossy().into_owned()
        })
    }

    fn build_network(&self) -> Result<Network> {
        // Draws the clips of `reluclip` layers only; parameters have streams of their own.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        if is_network_file(&self.network) {
            if self.channels.is_some() {
                usage!(
                    "--channels: the widths of {} are in that file; --channels goes with {}",
                    self.network,
                    self.algorithm.description().networks.join(" or ")
                );
            }
            return self.read_network(&mut rng);
        }
        let known = self.algorithm.description().networks;
        if !known.contains(&self.network.as_str()) {
            usage!(
                "--network {}: expected {} or the path of a .toml file for --algorithm {}",
                self.network,
                known.join(", "),
                self.algorithm
            );
        }
        let channels = self.channels.as_deref().unwrap_or(&PAPER_CHANNELS);
        let options = PresetOptions {
            input_channels: self.dataset.channels(),
            classes: self.dataset.classes(),
            channels: channels.try_into().expect("the length was checked"),
            activation: self.activation,
            gains: None,
        };
        let learning = self.algorithm.learning();
        Ok(learning.network(&self.network, &options, &mut rng)?)
    }

    fn read_network(&self, rng: &mut ChaCha8Rng) -> Result<Network> {
        let path = &self.network;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the network {path}"))?;
        let network = NetworkDescription::from_toml(&text)
            .and_then(|description| description.build(self.activation, rng))
            .with_context(|| format!("the network {path}"))?;
        let input = network.input().shape;
        let expected = (self.dataset.channels(), SIDE, SIDE);
        ensure!(
            (input.channels, input.height, input.width) == expected
                && network.classes() == self.dataset.classes(),
            UsageError(format!(
                "--network {path}: its input is {input} with {} classes, but {} has {}x{SIDE}x{SIDE} images of {} classes",
                network.classes(),
                self.dataset,
                expected.0,
                self.dataset.classes()
            ))
        );
        Ok(network)
    }

    /// The learning rate that goes with the optimizer.
    fn default_rate(&self) -> f64 {
        let rates = &self.algorithm.description().rates;
        match self.optimizer {
            OptimizerKind::Sgd => rates.sgd,
            OptimizerKind::Adam => rates.adam,
        }
    }

    /// Fills in gains and learning rates, and checks what depends on the network.
    fn complete(&mut self, network: &Network) -> Result<()> {
        let edges = network.edges();
        if self.weight_gains.is_empty() {
            self.weight_gains = edges.iter().map(|edge| edge.gain).collect();
        }
        check_length(
            "weight-gains",
            &self.weight_gains,
            edges.len(),
            "weight tensor",
            network,
        )?;
        if let (Some(rate), false) = (self.learning_rate, self.learning_rates_weights.is_empty()) {
            usage!(
                "--learning-rate {rate}: give either this or --learning-rates-weights, not both"
            );
        }
        if self.learning_rates_weights.is_empty() {
            let rate = self.learning_rate.unwrap_or(self.default_rate());
            self.learning_rates_weights = vec![rate; edges.len()];
        }
        self.learning_rate = None;
        let rates = &self.learning_rates_weights;
        check_length(
            "learning-rates-weights",
            rates,
            edges.len(),
            "weight tensor",
            network,
        )?;
        self.learning_rates_biases = self.bias_rates(network)?;
        Ok(())
    }

    /// One learning rate per bias. The published program takes a list with one value per *weight tensor*, whose first
    /// values go to the biases and whose others slide onto weights; only when all are equal does that list mean
    /// something.
    fn bias_rates(&self, network: &Network) -> Result<Vec<f64>> {
        let given = &self.learning_rates_biases;
        let (biases, weights) = (network.free_layers().len(), network.edges().len());
        if given.is_empty() {
            let first_edge = |l| network.edges_into(l).map(|(e, _)| e).next();
            let rate = |l| first_edge(l).map_or(0.0, |e| self.learning_rates_weights[e]);
            return Ok(network.free_layers().map(rate).collect());
        }
        if given.len() == weights && biases != weights {
            if given.iter().any(|rate| *rate != given[0]) {
                usage!(
                    "--learning-rates-biases has {weights} unequal values, one per weight tensor, but {} has {biases} biases; \
                     give {biases} values, one per layer above the input",
                    network.name()
                );
            }
            return Ok(vec![given[0]; biases]);
        }
        check_length("learning-rates-biases", given, biases, "bias", network)?;
        Ok(given.clone())
    }

    fn check_ranges(&self) -> Result<()> {
        at_least_one("epochs", self.epochs)?;
        at_least_one("batch-size", self.batch_size)?;
        at_least_one("num-iterations-inference", self.num_iterations_inference)?;
        at_least_one("num-iterations-training", self.num_iterations_training)?;
        for (name, value) in [
            ("limit-train", self.limit_train),
            ("limit-test", self.limit_test),
            ("threads", self.threads),
            ("save-every", self.save_every),
        ] {
            value.map_or(Ok(()), |value| at_least_one(name, value))?;
        }
        let threads = self.threads.unwrap_or(1);
        check(threads <= MAX_THREADS, "threads", threads, "at most 1024")?;
        check(
            self.seed <= i64::MAX as u64,
            "seed",
            self.seed,
            "at most 9223372036854775807",
        )?;
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let not_negative = |v: f64| v.is_finite() && v >= 0.0;
        check(positive(self.beta), "beta", self.beta, "a positive number")?;
        let momentum = (0.0..1.0).contains(&self.momentum);
        check(
            momentum,
            "momentum",
            self.momentum,
            "a number from 0 to below 1",
        )?;
        let decay = self.weight_decay;
        check(
            not_negative(decay),
            "weight-decay",
            decay,
            "0 or a positive number",
        )?;
        let omega = positive(self.omega) && self.omega < 2.0;
        check(
            omega,
            "omega",
            self.omega,
            "a number between 0 and 2 (1.6 is a good one)",
        )?;
        for (name, value) in [
            ("tolerance", self.tolerance),
            ("tolerance-nudged", self.tolerance_nudged),
        ] {
            let value = value.unwrap_or(0.5);
            let fits = positive(value) && value < 1.0;
            check(fits, name, value, "a number between 0 and 1, such as 1e-3")?;
        }
        let rate = self.learning_rate.unwrap_or(0.0);
        check(
            not_negative(rate),
            "learning-rate",
            rate,
            "0 or a positive number",
        )?;
        for (name, list) in [
            ("weight-gains", &self.weight_gains),
            ("learning-rates-weights", &self.learning_rates_weights),
            ("learning-rates-biases", &self.learning_rates_biases),
        ] {
            for &value in list {
                check(not_negative(value), name, value, "0 or positive numbers")?;
            }
        }
        if let Some(channels) = &self.channels {
            let fits = channels.len() == PAPER_CHANNELS.len()
                && channels.iter().all(|c| (1..=MAX_CHANNELS).contains(c));
            let given: Vec<String> = channels.iter().map(ToString::to_string).collect();
            let expected = "4 widths from 1 to 8192, such as 128,256,512,512";
            check(fits, "channels", given.join(","), expected)?;
        }
        Ok(())
    }
}

/// Settings that were given for an algorithm that has no use for them are a mistake.
fn check_foreign(algorithm: Algorithm, said: &Table) -> Result<()> {
    let foreign = algorithm.description().foreign;
    let Some(key) = foreign.iter().find(|key| said.contains_key(**key)) else {
        return Ok(());
    };
    let others = Algorithm::ALL.iter().map(|other| other.description());
    let others = others.filter(|other| !other.foreign.contains(key));
    let titles: Vec<_> = others.map(|other| other.title).collect();
    usage!(
        "--{key} {}: belongs to {}; leave it out with --algorithm {algorithm}",
        said[*key],
        titles.join(", ")
    )
}

/// Precision goes with the device, and the form of the nudged phases with the precision, where nobody chose them.
fn fill_in_arithmetic(table: &mut Table) {
    let set = |table: &mut Table, key: &str, value: toml::Value| {
        table.entry(key).or_insert(value);
    };
    let device: Device = decided(table, "device");
    set(table, "precision", device.default_precision().name().into());
    let precision: Precision = decided(table, "precision");
    set(
        table,
        "nudged-phase",
        precision.default_nudged_phase().name().into(),
    );
}

/// A key of a resolved table.
fn decided<T: serde::de::DeserializeOwned>(table: &Table, key: &str) -> T {
    let value = table[key].clone();
    value.try_into().expect("every key has a type already")
}

/// The same network with other initial gains.
fn with_gains(network: &Network, gains: &[f64]) -> Result<Network> {
    let mut edges = network.edges().to_vec();
    for (edge, &gain) in edges.iter_mut().zip(gains) {
        edge.gain = gain;
    }
    Ok(Network::new(
        network.name(),
        network.layers().to_vec(),
        edges,
    )?)
}

fn check(holds: bool, name: &str, value: impl std::fmt::Display, expected: &str) -> Result<()> {
    ensure!(
        holds,
        UsageError(format!("--{name} {value}: expected {expected}"))
    );
    Ok(())
}

fn at_least_one(name: &str, value: usize) -> Result<()> {
    let fits = (1..=i64::MAX as usize).contains(&value);
    check(fits, name, value, "a whole number of at least 1")
}

fn check_length(
    name: &str,
    list: &[f64],
    expected: usize,
    each: &str,
    network: &Network,
) -> Result<()> {
    if list.len() != expected {
        usage!(
            "--{name} has {} values: {} needs {expected}, one per {each}",
            list.len(),
            network.name()
        );
    }
    Ok(())
}
