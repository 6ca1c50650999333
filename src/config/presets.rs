//! Settings that belong together, by name.
//!
//! `paper-*` are the published experiments with the values that the paper found best for each dataset. `fast-*` train the same networks with
//! far fewer sweeps: layers are coloured so that each update exactly minimises the energy over its group, which bears over-relaxation; one
//! linear response stands in the place of two nudged phases; and phases end by tolerance, within bounds that are there for slow batches.
//! `comparative-study` and `sota-dchn*` are experiments of the field's framework, with its values. `backprop-*` are the published
//! feed-forward baselines. `quickstart` is small enough to watch.

use super::layers::FileSettings;
use super::settings::Settings;
use crate::error::Result;
use crate::shown::shown;
use crate::usage::{UsageError, usage};

/// A preset: its name, what it is in a line, and configuration files on top of each other.
type Preset = (&'static str, &'static str, &'static [&'static str]);

const PRESETS: [Preset; 16] = [
    (
        "quickstart",
        "a narrow hopfieldresnet13 on the images inside the program: minutes on two cores",
        &[FAST, QUICKSTART],
    ),
    (
        "paper-cifar10",
        "the published experiment on CIFAR-10",
        &[CIFAR10],
    ),
    (
        "paper-cifar100",
        "the published experiment on CIFAR-100",
        &[CIFAR100],
    ),
    (
        "paper-fashionmnist",
        "the published experiment on Fashion-MNIST",
        &[FASHION],
    ),
    (
        "fast-cifar10",
        "paper-cifar10 with a fraction of the relaxation",
        &[CIFAR10, FAST],
    ),
    (
        "fast-cifar100",
        "paper-cifar100 with a fraction of the relaxation",
        &[CIFAR100, FAST],
    ),
    (
        "fast-fashionmnist",
        "paper-fashionmnist with a fraction of the relaxation",
        &[FASHION, FAST],
    ),
    (
        "comparative-study",
        "the learning rules of the field's framework on equal terms: choose --algorithm and --dataset",
        &[STUDY],
    ),
    (
        "sota-dchn",
        "the framework's best convolutional Hopfield network on CIFAR-10",
        &[DCHN],
    ),
    (
        "sota-dchn-cifar100",
        "the same on CIFAR-100",
        &[DCHN, DCHN100],
    ),
    (
        "dhn-1h",
        "the framework's dense Hopfield network with one hidden layer, on MNIST",
        &[DHN1],
    ),
    ("dhn-2h", "the same with two hidden layers", &[DHN1, DHN2]),
    ("dhn-3h", "the same with three hidden layers", &[DHN1, DHN3]),
    (
        "backprop-resnet13",
        "the feed-forward equivalent of hopfieldresnet13 by backpropagation, as published for CIFAR-10",
        &[RESNET13],
    ),
    ("backprop-vgg5", "the same of vgg5", &[VGG5]),
    (
        "quickstart-backprop",
        "a narrow resnet13 on the images inside the program",
        &[RESNET13, QUICKSTART_BACKPROP],
    ),
];

const CIFAR10: &str = r#"
dataset = "CIFAR10"
epochs = 300
beta = 0.1
weight-decay = 2.5e-4
"#;

const CIFAR100: &str = r#"
dataset = "CIFAR100"
epochs = 300
beta = 0.15
weight-decay = 3.5e-4
"#;

const FASHION: &str = r#"
dataset = "FashionMNIST"
epochs = 100
beta = 0.15
weight-decay = 3.5e-4
"#;

// bench/RESULTS.md, "The fewest sweeps", has the gradients and trainings that these are chosen by. The nudged tolerance is loose, and its
// bound low, because the response of a state that is still at a saddle grows with every iteration: docs/maths.md.
const FAST: &str = r#"
mode = "coloured"
omega = 1.6
nudged-phase = "linear"
tolerance = 1e-3
tolerance-nudged = 3e-2
num-iterations-inference = 60
num-iterations-training = 20
"#;

// `papers/fast-drn/dhn.py` of the framework.
const DHN1: &str = r#"
dataset = "MNIST"
normalize = "off"
network = "dhn-1h"
activation = "hard-sigmoid"
weight-gains = [0.7, 0.7]
learning-rates-weights = [0.05, 0.05]
learning-rates-biases = [0.05, 0.05]
learning-rate-schedule = "exponential"
momentum = 0.0
clip-norm = "off"
weight-decay = 0.0
epochs = 100
batch-size = 16
beta = 0.2
num-iterations-inference = 15
num-iterations-training = 15
"#;

const DHN2: &str = r#"
network = "dhn-2h"
weight-gains = [0.7, 0.7, 0.7]
learning-rates-weights = [0.2, 0.05, 0.01]
learning-rates-biases = [0.2, 0.05, 0.01]
num-iterations-inference = 50
num-iterations-training = 20
"#;

const DHN3: &str = r#"
network = "dhn-3h"
weight-gains = [0.7, 0.7, 0.7, 0.7]
learning-rates-weights = [0.2, 0.05, 0.01, 0.002]
learning-rates-biases = [0.2, 0.05, 0.01, 0.002]
num-iterations-inference = 100
num-iterations-training = 10
"#;

// `papers/ebl-algorithms/comparative-study.py` of the framework.
const STUDY: &str = r#"
dataset = "MNIST"
augment = "flip-crop"
network = "vgg5"
activation = "hard-sigmoid"
weight-gains = [0.5, 0.5, 0.5, 0.5, 0.5]
learning-rates-weights = [0.0625, 0.0375, 0.025, 0.02, 0.0125]
epochs = 100
weight-decay = 3e-4
beta = 0.25
num-iterations-inference = 60
num-iterations-training = 15
no-nesterov = true
clip-norm = "off"
"#;

// `papers/ebl-algorithms/sota-dchn.py`.
const DCHN: &str = r#"
dataset = "CIFAR10"
augment = "flip-crop"
network = "vgg5"
activation = "hard-sigmoid"
weight-gains = [0.4, 0.7, 0.6, 0.3, 0.4]
learning-rate = 0.03
epochs = 300
weight-decay = 2.5e-4
beta = 0.1
num-iterations-inference = 60
num-iterations-training = 20
no-nesterov = true
clip-norm = "off"
"#;

const DCHN100: &str = r#"
dataset = "CIFAR100"
weight-gains = [0.5, 0.4, 0.5, 0.8, 0.5]
learning-rates-weights = [0.03, 0.04, 0.04, 0.04, 0.025]
weight-decay = 3.5e-4
beta = 0.25
num-iterations-training = 15
"#;

const QUICKSTART: &str = r#"
dataset = "FashionMNIST-mini"
channels = [8, 16, 32, 32]
epochs = 8
batch-size = 25
beta = 0.15
optimizer = "adam"
learning-rate = 2e-3
"#;

// The rest of a baseline's recipe goes without saying: `learn/backprop.rs`.
const RESNET13: &str = r#"
algorithm = "backprop"
network = "resnet13"
"#;

const VGG5: &str = r#"
algorithm = "backprop"
network = "vgg5"
"#;

const QUICKSTART_BACKPROP: &str = r#"
dataset = "FashionMNIST-mini"
channels = [8, 16, 32, 32]
epochs = 8
batch-size = 25
"#;

/// The settings of a preset.
///
/// # Errors
/// When there is no preset of that name.
pub fn find(name: &str) -> Result<Settings> {
    let Some((_, _, layers)) = PRESETS.iter().find(|(known, _, _)| *known == name) else {
        usage!("--preset {}: expected {}", shown(name), names().join(", "));
    };
    let mut settings = Settings::default();
    for text in *layers {
        let layer =
            FileSettings::parse(text).map_err(|e| UsageError(format!("preset {name}: {e}")))?;
        settings = layer.settings.spelled_out()?.over(settings);
    }
    Ok(settings)
}

/// Names of all presets, in the order of the help.
pub fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|(name, _, _)| *name).collect()
}

/// One line per preset, for `--help`.
pub fn summary() -> String {
    let line = |(name, about, _): &Preset| format!("  {name:<19} {about}");
    PRESETS.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};

    #[test]
    fn every_preset_resolves() {
        for name in names() {
            Config::resolve(Some(name), None, &Settings::default()).expect(name);
        }
    }
}
