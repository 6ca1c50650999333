//! What a user may say about a run, in all the places where it can be said.
//!
//! [`Settings`] is at once the options of the command line and the keys of a configuration file. Presets are such
//! files too, built into the program. The layers are put on top of each other as tables of keys, command line over
//! `--config` over `--preset` over [`defaults`]; [`Config`](super::Config) is what results.

use crate::choice::{Choice, choices};
use crate::data::DatasetName;
use crate::network::ActivationKind;
use crate::network::Mode;
use crate::phase::{CostFunction, NudgedPhase, Variant};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::Table;

use crate::device::{Device, Precision};
use crate::learn::Algorithm;
use crate::usage::UsageError;

choices! {
/// How the learning rates change from epoch to epoch.
pub enum ScheduleKind {
    /// cosine annealing over all epochs
    Cosine = "cosine",
    /// the same in every epoch
    Constant = "constant",
}
}

impl Default for ScheduleKind {
    fn default() -> Self {
        Self::CHOICES[0].0
    }
}

choices! {
/// The published optimizers.
pub enum OptimizerKind {
    /// SGD with Nesterov momentum
    Sgd = "sgd",
    /// AdamW; in backpropagation Adam with L2 weight decay
    Adam = "adam",
}
}

/// One layer of settings: the options that were given, or the keys that a file has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Data")]
pub struct Settings {
    /// Dataset to train on [default: FashionMNIST; backprop: CIFAR10]
    #[arg(long, ignore_case = true, value_name = "NAME")]
    pub dataset: Option<DatasetName>,
    /// Folder that holds the dataset, or that it is downloaded into [default: the usual cache folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Never download
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub offline: Option<bool>,
    /// Download from URL/FILE instead of the published addresses
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Use only the first N training images
    #[arg(long, value_parser = count, value_name = "N", allow_hyphen_values = true)]
    pub limit_train: Option<usize>,
    /// Use only the first N test images
    #[arg(long, value_parser = count, value_name = "N", allow_hyphen_values = true)]
    pub limit_test: Option<usize>,
    /// Images per batch [default: 128]
    #[arg(long, value_parser = count, value_name = "N", allow_hyphen_values = true)]
    pub batch_size: Option<usize>,

    /// Equilibrium propagation, or backpropagation in the feed-forward equivalent [default: ep]
    #[arg(long, value_name = "NAME", value_parser = algorithm_name, help_heading = "Network")]
    pub algorithm: Option<String>,
    /// hopfieldresnet13 (backprop: resnet13), vgg5, or the path of a .toml file that describes another network [default:
    /// hopfieldresnet13, backprop: resnet13]
    #[arg(long, value_name = "NAME|FILE", help_heading = "Network")]
    pub network: Option<String>,
    /// Widths of the four blocks of a published network [default: 128,256,512,512]
    #[arg(long, value_parser = count, value_delimiter = ',', action = clap::ArgAction::Set, allow_hyphen_values = true, value_name = "A,B,C,D", help_heading = "Network")]
    pub channels: Option<Vec<usize>>,
    /// Activation of the hidden layers [default: relu6]
    #[arg(long, help_heading = "Network")]
    pub activation: Option<ActivationKind>,
    /// Initial gain of each weight tensor (13 for hopfieldresnet13, 5 for vgg5)
    #[arg(
        long,
        value_delimiter = ',',
        action = clap::ArgAction::Set,
        allow_hyphen_values = true,
        value_name = "LIST",
        help_heading = "Network"
    )]
    pub weight_gains: Option<Vec<f64>>,

    /// Passes over the training images [default: 100; backprop: 300]
    #[arg(long, value_parser = count, value_name = "N", allow_hyphen_values = true, help_heading = "Learning")]
    pub epochs: Option<usize>,
    /// Cost: mean squared error or cross-entropy [default: MSE; backprop: CE]
    #[arg(long, ignore_case = true, help_heading = "Learning")]
    pub lossfn: Option<CostFunction>,
    /// SGD with Nesterov momentum, or AdamW (backprop: Adam) [default: sgd; backprop: adam for resnet13, sgd for vgg5]
    #[arg(long, help_heading = "Learning")]
    pub optimizer: Option<OptimizerKind>,
    /// One initial learning rate for all tensors [default: 3e-2 with sgd, 1e-4 with adam; backprop: 0.1, 1e-3]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "RATE",
        help_heading = "Learning"
    )]
    pub learning_rate: Option<f64>,
    /// Initial learning rate of each weight tensor
    #[arg(
        long,
        value_delimiter = ',',
        action = clap::ArgAction::Set,
        allow_hyphen_values = true,
        value_name = "LIST",
        help_heading = "Learning"
    )]
    pub learning_rates_weights: Option<Vec<f64>>,
    /// Initial learning rate of each bias, one per layer above the input [default: that of the layer's first weight]
    ///
    /// The published program takes one per weight tensor here; such a list is accepted when all its values are equal.
    #[arg(
        long,
        value_delimiter = ',',
        action = clap::ArgAction::Set,
        allow_hyphen_values = true,
        value_name = "LIST",
        help_heading = "Learning"
    )]
    pub learning_rates_biases: Option<Vec<f64>>,
    /// Momentum of sgd [default: 0.9]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "X",
        help_heading = "Learning"
    )]
    pub momentum: Option<f64>,
    /// Weight decay, of biases too [default: 3.5e-4; backprop: 2.5e-4 for resnet13, 5e-4 for vgg5]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "X",
        help_heading = "Learning"
    )]
    pub weight_decay: Option<f64>,
    /// Whether the learning rates are annealed [default: cosine; backprop of resnet13: constant]
    #[arg(long, value_name = "NAME", help_heading = "Learning")]
    pub learning_rate_schedule: Option<ScheduleKind>,
    /// Restart the cosine annealing of the learning rates every 5 epochs
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true, help_heading = "Learning")]
    pub use_warm_restarts: Option<bool>,
    /// Fixes the initial parameters, the order of the images and their augmentation [default: 0]
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), value_name = "N", allow_hyphen_values = true, help_heading = "Learning")]
    pub seed: Option<u64>,

    /// Strength of the nudging [default: 0.1]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "X",
        help_heading = "Equilibrium propagation"
    )]
    pub beta: Option<f64>,
    /// Iterations of a free phase [default: 120]
    #[arg(long, value_parser = count, value_name = "N", allow_hyphen_values = true, help_heading = "Equilibrium propagation")]
    pub num_iterations_inference: Option<usize>,
    /// Iterations of the nudged phases [default: 50]
    #[arg(long, value_parser = count, value_name = "N", allow_hyphen_values = true, help_heading = "Equilibrium propagation")]
    pub num_iterations_training: Option<usize>,
    /// The two phases that the gradient is taken between [default: centered]
    #[arg(long, help_heading = "Equilibrium propagation")]
    pub variant: Option<Variant>,
    /// Order in which layers are updated [default: asynchronous]
    #[arg(long, help_heading = "Equilibrium propagation")]
    pub mode: Option<Mode>,
    /// Over-relaxation, between 0 and 2 [default: 1]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "X",
        help_heading = "Equilibrium propagation"
    )]
    pub omega: Option<f64>,
    /// Relax the two nudged states themselves, or their mean and difference [default: direct, in fp16 sum-difference]
    #[arg(long, help_heading = "Equilibrium propagation")]
    pub nudged_phase: Option<NudgedPhase>,
    /// End a phase when the relative change of the states in an iteration falls below this [default: never]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "X",
        help_heading = "Equilibrium propagation"
    )]
    pub tolerance: Option<f64>,
    /// The same for the nudged phases alone [default: that of --tolerance]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "X",
        help_heading = "Equilibrium propagation"
    )]
    pub tolerance_nudged: Option<f64>,

    /// Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:N, emulated or interpreted [default: auto]
    #[arg(long, help_heading = "Machine")]
    pub device: Option<Device>,
    /// Arithmetic [default: fp32 on a CPU, fp16 on a GPU]
    #[arg(long, help_heading = "Machine")]
    pub precision: Option<Precision>,
    /// Threads of the CPU [default: one per core]
    #[arg(long, value_parser = count, value_name = "N", allow_hyphen_values = true, help_heading = "Machine")]
    pub threads: Option<usize>,

    /// Save a checkpoint every N batches besides at each end of an epoch [default: every ten minutes]
    #[arg(long, value_parser = count, value_name = "BATCHES", allow_hyphen_values = true, help_heading = "Record")]
    pub save_every: Option<usize>,
    /// Write TensorBoard event files into the run's folder
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true, help_heading = "Record")]
    pub tensorboard: Option<bool>,
    /// Send the measures to Weights & Biases; needs Python 3 with its package wandb
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true, help_heading = "Record")]
    pub wandb: Option<bool>,
}

impl Settings {
    /// The keys that are set.
    pub fn table(&self) -> Table {
        Table::try_from(self).expect("settings are numbers, strings and lists")
    }

    /// The keys that are set, and under them those that the name of the algorithm implies.
    pub fn spelled_out(&self) -> anyhow::Result<Table> {
        let mut table = self.table();
        let Some(name) = &self.algorithm else {
            return Ok(table);
        };
        let (algorithm, implied) =
            Algorithm::named(name).map_err(|e| UsageError(format!("--algorithm: {e}")))?;
        table.insert("algorithm".into(), algorithm.name().into());
        let implied = FileSettings::parse(implied)
            .map_err(|e| anyhow::anyhow!("settings of --algorithm {name}: {e}"))?;
        Ok(overlay(implied.settings.table(), table))
    }

    /// Reads a configuration file. Relative paths in it are relative to its folder.
    pub fn read(path: &Path) -> anyhow::Result<FileSettings> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            anyhow::anyhow!("cannot read the configuration {}: {e}", path.display())
        })?;
        let mut file = FileSettings::parse(&text)
            .map_err(|e| UsageError(format!("{}: {e}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if let Some(network) = &mut file.settings.network
            && is_network_file(network)
        {
            *network = folder.join(&*network).display().to_string();
        }
        if let Some(data_dir) = &mut file.settings.data_dir {
            *data_dir = folder.join(&*data_dir);
        }
        Ok(file)
    }
}

/// A configuration file: settings, and possibly the preset that they modify.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileSettings {
    pub preset: Option<String>,
    pub settings: Settings,
}

impl FileSettings {
    /// Parses TOML; the error is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Not serde's `flatten`, which would give up the check for unknown keys.
        let mut table: Table = text.parse().map_err(|e| in_line(&e, text))?;
        let preset = match table.remove("preset") {
            None => None,
            Some(toml::Value::String(name)) => Some(name),
            Some(other) => return Err(format!("preset = {other}: expected a name in quotes")),
        };
        // Parsed again from the text where possible, so that an error knows its line.
        let settings = match &preset {
            None => toml::from_str(text).map_err(|e| in_line(&e, text))?,
            Some(_) => table.try_into().map_err(|e| in_line(&e, ""))?,
        };
        Ok(Self { preset, settings })
    }
}

/// Checks the name of an algorithm, and leaves it as it is: it may imply more.
fn algorithm_name(name: &str) -> Result<String, String> {
    name.parse::<Algorithm>().map(|_| name.to_string())
}

/// Parses an option that counts something. TOML's whole numbers have 63 bits.
pub fn count(text: &str) -> Result<usize, String> {
    let number = text
        .parse::<i64>()
        .ok()
        .and_then(|n| usize::try_from(n).ok());
    (number.filter(|&n| n > 0)).ok_or_else(|| "expected a whole number of at least 1".to_string())
}

/// TOML's errors are pictures over several lines; ours are one line.
fn in_line(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().replace('\n', " ");
    match error.span().filter(|_| !text.is_empty()) {
        Some(span) => {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            format!("line {line}: {message}")
        }
        None => message,
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether `--network` names a file rather than a published network.
pub fn is_network_file(network: &str) -> bool {
    network.ends_with(".toml")
}

/// The published defaults, but for those that depend on other settings.
pub fn defaults() -> Settings {
    Settings {
        algorithm: Some(Algorithm::default().name().into()),
        dataset: Some(DatasetName::FashionMnist),
        offline: Some(false),
        batch_size: Some(128),
        network: Some("hopfieldresnet13".into()),
        activation: Some(ActivationKind::Relu6),
        epochs: Some(100),
        lossfn: Some(CostFunction::Mse),
        optimizer: Some(OptimizerKind::Sgd),
        momentum: Some(0.9),
        weight_decay: Some(3.5e-4),
        learning_rate_schedule: Some(ScheduleKind::Cosine),
        use_warm_restarts: Some(false),
        seed: Some(0),
        beta: Some(0.1),
        num_iterations_inference: Some(120),
        num_iterations_training: Some(50),
        variant: Some(Variant::Centered),
        mode: Some(Mode::Asynchronous),
        omega: Some(1.0),
        device: Some(Device::Auto),
        ..Settings::default()
    }
}

/// Keys that were chosen for the value of another key, and go when a layer above changes it.
const BELONGS: [(&str, &[&str]); 5] = [
    (
        "network",
        &[
            "weight-gains",
            "learning-rates-weights",
            "learning-rates-biases",
        ],
    ),
    (
        "optimizer",
        &[
            "learning-rate",
            "learning-rates-weights",
            "learning-rates-biases",
        ],
    ),
    (
        "learning-rate",
        &["learning-rates-weights", "learning-rates-biases"],
    ),
    (
        "learning-rates-weights",
        &["learning-rate", "learning-rates-biases"],
    ),
    ("tolerance", &["tolerance-nudged"]),
];

/// Puts `upper` on top of `lower`.
pub fn overlay(mut lower: Table, upper: Table) -> Table {
    for (key, dependent) in BELONGS {
        if upper
            .get(key)
            .is_some_and(|value| lower.get(key) != Some(value))
        {
            for key in dependent {
                lower.remove(*key);
            }
        }
    }
    // A network file has widths of its own.
    let network = upper.get("network").and_then(|network| network.as_str());
    if network.is_some_and(is_network_file) {
        lower.remove("channels");
    }
    lower.extend(upper);
    lower
}
