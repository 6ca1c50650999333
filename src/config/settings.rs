//! What a user may say about a run, in all the places where it can be said.
//!
//! A setting is a line in the list below. From it come a field of [`Config`], which has decided everything, the same field of [`Settings`],
//! which may leave it open, a key of configuration files, and an option of the command line. Presets are configuration files too,
//! built into the program. The layers are put on top of each other, command line over `--config` over `--preset` over [`DEFAULTS`].

use super::declare::settings;
use super::gains::NamedGains;
use super::tolerance::Tolerance;
use super::value::{Field, Syntax, Value};
use crate::data::{Augment, DatasetName, Normalize};
use crate::device::{Device, Precision};
use crate::learn::{Algorithm, GradientFormula, VariantChoice};
use crate::network::{ActivationKind, Mode};
use crate::optim::{ClipNorm, OptimizerKind, ScheduleKind};
use crate::phase::{CostFunction, NudgedPhase};
use crate::usage::{UsageError, usage};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the command line and messages have to know of a setting.
pub struct Setting {
    /// as a field is called
    pub field: &'static str,
    /// title of the group in a help text
    pub heading: &'static str,
    /// the help text, by line
    pub help: &'static [&'static str],
    /// what stands for the value in it
    pub value_name: &'static str,
    /// how the value is written
    pub syntax: fn() -> Syntax,
    /// reads a value from text
    pub read: fn(&mut Settings, &str) -> Result<(), String>,
    /// the value as a user would write it, where there is one
    pub show: fn(&Settings) -> Option<String>,
    /// takes the value over from other settings
    pub copy: fn(&mut Settings, &Settings),
    /// whether two settings have the same value
    pub same: fn(&Settings, &Settings) -> bool,
}

impl Setting {
    /// As options and configuration files have it.
    pub fn key(&self) -> String {
        self.field.replace('_', "-")
    }

    /// Whether a layer says anything of it.
    pub fn is_in(&self, settings: &Settings) -> bool {
        (self.show)(settings).is_some()
    }
}

// What is left out where it has its default, or is off: checkpoints of older versions keep their checksum.
settings! {
    "Data" {
        /// Dataset to train on [default: FashionMNIST; backprop: CIFAR10]
        dataset: DatasetName = "NAME";
        /// Folder that holds the dataset, or that it is downloaded into [default: the usual cache folder]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_dir: Option<PathBuf> = "DIR";
        /// Never download
        offline: bool = "BOOL";
        /// Download from URL/FILE instead of the published addresses
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mirror: Option<String> = "URL";
        /// Use only the first N training images; of a folder's N that are evenly spread over all
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_train: Option<usize> = "N";
        /// Use only the first N test images; of a folder's N that are evenly spread over all
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_test: Option<usize> = "N";
        /// Random changes of the training images [default: published]
        #[serde(default, skip_serializing_if = "is_default")]
        augment: Augment = "NAME";
        /// Mean and deviation of the images, of values from 0 to 1: a pair for all channels, or all means and then all deviations; auto:
        /// the published ones, of a folder's images their own; off: 0 and 1 [default: auto]
        #[serde(default, skip_serializing_if = "is_default")]
        normalize: Normalize = "auto|off|MEAN,STD";
        /// Images per batch [default: 128]
        batch_size: usize = "N";
    }
    "Network" {
        /// Learning rule; the names of the literature are taken, too: PEP, NEP, CEP; CL; PCpL, NCpL, CCpL; RBP; TBP [default: ep]
        #[serde(default, skip_serializing_if = "is_default")]
        algorithm: Algorithm = "NAME";
        /// hopfieldresnet13 (backprop: resnet13), vgg5, dchn28, dhn-1h to dhn-3h, or the path of a .toml file that describes another
        /// network [default: hopfieldresnet13, backprop: resnet13]
        network: String = "NAME|FILE";
        /// Widths of a published network, of the paper's the four blocks [default: 128,256,512,512; those of the network]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channels: Option<Vec<usize>> = "A,B,C,D";
        /// Activation of the hidden layers [default: relu6]
        activation: ActivationKind = "ACTIVATION";
        /// Initial gain of each weight tensor (13 for hopfieldresnet13, 5 for vgg5)
        #[serde(default)]
        weight_gains: Vec<f64> = "LIST";
        /// The same of single edges, over that list, by the names of their layers
        #[serde(default, skip_serializing_if = "is_default")]
        gains: NamedGains = "FROM-TO=GAIN,..";
    }
    "Learning" {
        /// Passes over the training images [default: 100; backprop: 300]
        epochs: usize = "N";
        /// Cost: mean squared error or cross-entropy [default: MSE; backprop: CE]
        lossfn: CostFunction = "LOSSFN";
        /// SGD with Nesterov momentum, or AdamW (backprop: Adam) [default: sgd; backprop: adam for resnet13, sgd for vgg5]
        optimizer: OptimizerKind = "OPTIMIZER";
        /// One initial learning rate for all tensors [default: 3e-2 with sgd, 1e-4 with adam; backprop: 0.1, 1e-3]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        learning_rate: Option<f64> = "RATE";
        /// Initial learning rate of each weight tensor
        #[serde(default)]
        learning_rates_weights: Vec<f64> = "LIST";
        /// Initial learning rate of each bias, one per layer above the input [default: that of the layer's first weight]
        ///
        /// The published program takes one per weight tensor here; such a list is accepted when all its values are equal.
        #[serde(default)]
        learning_rates_biases: Vec<f64> = "LIST";
        /// Momentum of sgd [default: 0.9]
        momentum: f64 = "X";
        /// Classical momentum in the place of Nesterov's
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_nesterov: bool = "BOOL";
        /// Scale the gradient down to this norm over all tensors where it is larger, or off; backprop never does [default: 1]
        #[serde(default, skip_serializing_if = "is_default")]
        clip_norm: ClipNorm = "X|off";
        /// Weight decay, of biases too [default: 3.5e-4; backprop: 2.5e-4 for resnet13, 5e-4 for vgg5]
        weight_decay: f64 = "X";
        /// Whether the learning rates are annealed [default: cosine; backprop of resnet13: constant]
        #[serde(default, skip_serializing_if = "is_default")]
        learning_rate_schedule: ScheduleKind = "NAME";
        /// Learning rate at the end of an annealing [default: 2e-6; backprop: 0]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eta_min: Option<f64> = "RATE";
        /// Restart the cosine annealing of the learning rates every few epochs
        use_warm_restarts: bool = "BOOL";
        /// Epochs between two such restarts [default: 5]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restart_every: Option<usize> = "N";
        /// Fixes the initial parameters, the order of the images and their augmentation [default: 0]
        seed: u64 = "N";
    }
    "Relaxation" {
        /// Strength of the nudging; a linear response knows none [default: 0.1]
        beta: f64 = "X";
        /// Iterations of a free phase [default: 120]
        num_iterations_inference: usize = "N";
        /// Iterations of the nudged phases [default: 50]
        num_iterations_training: usize = "N";
        /// The two phases that the gradient is taken between; in a linear response all are one [default: centered]
        variant: VariantChoice = "VARIANT";
        /// What the gradient is made of [default: standard]
        #[serde(default, skip_serializing_if = "is_default")]
        gradient_formula: GradientFormula = "FORMULA";
        /// Order in which layers are updated [default: asynchronous]
        mode: Mode = "MODE";
        /// The same in the phases after the free one [default: that of --mode]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode_nudged: Option<Mode> = "MODE";
        /// Over-relaxation, between 0 and 2 [default: 1]
        omega: f64 = "X";
        /// Relax the two nudged states themselves, their mean and difference, or the linear response [default: direct, in fp16
        /// and bf16 sum-difference]
        nudged_phase: NudgedPhase = "NUDGED_PHASE";
        /// End a phase when the relative change of the states in an iteration falls below this, or off [default: off]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tolerance: Option<Tolerance> = "X|off";
        /// The same for the nudged phases alone [default: that of --tolerance]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tolerance_nudged: Option<Tolerance> = "X|off";
    }
    "Machine" {
        /// Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:N, emulated or interpreted [default: auto]
        device: Device = "DEVICE";
        /// Arithmetic [default: fp32 on a CPU, fp16 on a GPU]
        precision: Precision = "PRECISION";
        /// Threads of the CPU [default: one per core]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        threads: Option<usize> = "N";
    }
    "Record" {
        /// Save a checkpoint every N batches besides at each end of an epoch [default: every ten minutes]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        save_every: Option<usize> = "BATCHES";
        /// Write TensorBoard event files into the run's folder
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tensorboard: bool = "BOOL";
        /// Record the statistics of the published program too, under its names; a look at all states and gradients of every batch
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        published_series: bool = "BOOL";
        /// Send the measures to Weights & Biases; needs Python 3 with its package wandb
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        wandb: bool = "BOOL";
    }
}

/// What goes without saying, but for what depends on other settings.
pub const DEFAULTS: &str = r#"
algorithm = "ep"
dataset = "FashionMNIST"
offline = false
augment = "published"
normalize = "auto"
batch-size = 128
network = "hopfieldresnet13"
activation = "relu6"
epochs = 100
lossfn = "MSE"
optimizer = "sgd"
momentum = 0.9
no-nesterov = false
clip-norm = "1"
weight-decay = 3.5e-4
learning-rate-schedule = "cosine"
use-warm-restarts = false
seed = 0
beta = 0.1
num-iterations-inference = 120
num-iterations-training = 50
variant = "centered"
gradient-formula = "standard"
mode = "asynchronous"
omega = 1.0
device = "auto"
tensorboard = false
published-series = false
wandb = false
"#;

/// Settings that do not decide what is computed, and may change when a run is resumed. `epochs` is among them because a
/// finished run may be given more; that stretches its cosine schedule.
pub const MAY_CHANGE: [&str; 10] = [
    "epochs",
    "data-dir",
    "offline",
    "mirror",
    "device",
    "threads",
    "save-every",
    "tensorboard",
    "published-series",
    "wandb",
];

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether `--network` names a file rather than a published network.
pub fn is_network_file(network: &str) -> bool {
    network.ends_with(".toml")
}
