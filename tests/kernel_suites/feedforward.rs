//! Feed-forward networks through the kernels, against the CPU backend in float64.

use crate::support::kernels::*;
use crate::support::networks;
use eqprop_cuda::device::{Device, Precision};
use eqprop_cuda::feedforward::{Backend, FeedForward, NormMode, Part};
use eqprop_cuda::network::{ActivationKind, NetworkDescription};
use eqprop_cuda::optim::OptimizerConfig;

const ADAM: OptimizerConfig = OptimizerConfig::Adam { weight_decay: 1e-2 };
const SGD: OptimizerConfig = OptimizerConfig::Sgd {
    momentum: 0.9,
    weight_decay: 1e-3,
};

/// The same network on the kernels and on the CPU.
fn pair(model: &FeedForward, precision: Precision, seed: u64) -> [Box<dyn Backend>; 2] {
    let state = model.initialise(seed);
    let places = [(device(), precision), (Device::Cpu, Precision::Fp64)];
    places.map(|(device, precision)| {
        let mut backend = device.feed_forward(model, precision).unwrap();
        backend.set_state(&state).unwrap();
        backend
    })
}

#[test]
fn training_steps_of_random_networks_agree_in_fp32() {
    for seed in 0..12 {
        let model = random_feed_forward(seed);
        let images = 3 + seed as usize % 5;
        let batches = [0, 1].map(|b| random_images(model.network(), images, 7 * seed + b));
        let [mut kernels, mut cpu] = pair(&model, Precision::Fp32, seed);
        let got = train_feed_forward(&mut *kernels, &model, &batches, SGD).unwrap();
        let want = train_feed_forward(&mut *cpu, &model, &batches, SGD).unwrap();
        let (error, place) = worst(&got, &want, |_| 0.1);
        // A normalisation over few pixels divides by a small variance, and multiplies rounding by as much.
        assert!(
            error < 2e-3,
            "seed {seed}, {}\n{error:e}: {place}",
            model.network()
        );
    }
}

/// fp16 rounds states and differences to 5e-4, and now and then a unit falls on the other side of relu, or another unit of a
/// window is the largest: in batches this small that leaves 1e-3.
#[test]
fn gradients_agree_in_fp16() {
    for name in FeedForward::PRESETS {
        for (channels, inputs, images) in [([8, 9, 17, 33], 3, 6), ([16, 24, 40, 72], 1, 5)] {
            let model = FeedForward::preset(name, inputs, 10, channels).unwrap();
            let batch = random_images(model.network(), images, 3);
            let [mut kernels, mut cpu] = pair(&model, Precision::Fp16, 5);
            let gradient = |backend: &mut dyn Backend| {
                (backend.forward(&batch.images, &batch.labels, NormMode::Train)).unwrap();
                backend.backward().unwrap();
                let norm = backend.gradient_norm().unwrap();
                let gradient = backend.gradient().unwrap();
                let values: Vec<f64> = gradient.tensors().iter().flat_map(flat).collect();
                (values, norm)
            };
            let (got, got_norm) = gradient(&mut *kernels);
            let (want, want_norm) = gradient(&mut *cpu);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let cosine = dot(&got, &want) / (dot(&got, &got) * dot(&want, &want)).sqrt();
            assert!(cosine > 0.998, "{name} {channels:?}: cosine {cosine}");
            assert!(
                (got_norm / want_norm - 1.0).abs() < 0.02,
                "{name} {channels:?}"
            );
            assert!((dot(&got, &got).sqrt() / got_norm - 1.0).abs() < 1e-3);
        }
    }
}

#[test]
fn state_and_moments_come_back_as_they_were_set() {
    let model = FeedForward::preset("resnet13", 3, 10, [4, 6, 8, 9]).unwrap();
    let [mut one, _] = pair(&model, Precision::Fp32, 1);
    let [mut two, _] = pair(&model, Precision::Fp32, 2);
    let batches = [0, 1].map(|b| random_images(model.network(), 4, b));
    let rates = vec![1e-2; model.parameter_names().len()];
    let step = |backend: &mut dyn Backend, batch: &Images| {
        (backend.forward(&batch.images, &batch.labels, NormMode::Train)).unwrap();
        backend.backward().unwrap();
        backend.step(&rates).unwrap();
    };
    one.set_optimizer(ADAM).unwrap();
    step(&mut *one, &batches[0]);
    two.set_state(&one.state().unwrap()).unwrap();
    two.set_optimizer(ADAM).unwrap();
    (two.set_optimizer_state(one.optimizer_state().unwrap())).unwrap();
    for backend in [&mut one, &mut two] {
        step(&mut **backend, &batches[1]);
    }
    assert_eq!(one.state().unwrap(), two.state().unwrap());
}

/// Buffers are kept for a few batch sizes; going back to one must not find what another left.
#[test]
fn batches_of_many_sizes_follow_one_another() {
    let model = FeedForward::preset("vgg5", 1, 10, [4, 5, 6, 7]).unwrap();
    let [mut kernels, mut cpu] = pair(&model, Precision::Fp32, 3);
    for images in [3, 5, 1, 4, 3, 2] {
        let batch = random_images(model.network(), images, images as u64);
        let logits = |backend: &mut dyn Backend| {
            (backend.forward(&batch.images, &batch.labels, NormMode::Evaluate)).unwrap();
            backend.logits().unwrap()
        };
        let (got, want) = (logits(&mut *kernels), logits(&mut *cpu));
        let most = want.iter().fold(0.1, |m: f64, v| m.max(v.abs()));
        assert!(
            (got - want).iter().all(|e| e.abs() < 1e-4 * most),
            "{images} images"
        );
    }
    let error = kernels.backward().unwrap_err().to_string();
    assert!(error.contains("evaluation mode"), "{error}");
}

/// Two hidden layers, of which the lower one may be a convolution; if it is not, the input reaches both.
fn perceptron(middle: &str) -> FeedForward {
    let layer = |name: &str, size: &str| format!("[[layer]]\nname = \"{name}\"\n{size}\n");
    let edge = |from: &str, to: &str, kind: &str| {
        let kernel = if kind == "dense" { "" } else { "kernel = 3\n" };
        format!("[[edge]]\nfrom = \"{from}\"\nto = \"{to}\"\nkind = \"{kind}\"\n{kernel}")
    };
    let toml = [
        "name = \"mlp\"\n".to_string(),
        layer("in", "shape = [2, 6, 6]"),
        layer("low", "channels = 21"),
        layer("high", "channels = 37"),
        layer("out", "shape = [10]"),
        edge("in", "low", middle),
        edge("low", "high", "dense"),
        match middle {
            "dense" => edge("in", "high", "dense"),
            _ => String::new(),
        },
        edge("high", "out", "dense"),
    ];
    let description = NetworkDescription::from_toml(&toml.concat()).unwrap();
    let network = description.build(ActivationKind::Relu6, &mut networks::rng(0));
    FeedForward::of(&network.unwrap())
}

/// Layers of dense edges are not normalised; beside them, others may be.
#[test]
fn perceptrons_are_trained_by_the_kernels() {
    for middle in ["dense", "conv-max-pool"] {
        let model = perceptron(middle);
        let batches = [0, 1].map(|b| random_images(model.network(), 7, 20 + b));
        for optimizer in [SGD, ADAM] {
            let [mut kernels, mut cpu] = pair(&model, Precision::Fp32, 4);
            let got = train_feed_forward(&mut *kernels, &model, &batches, optimizer).unwrap();
            let want = train_feed_forward(&mut *cpu, &model, &batches, optimizer).unwrap();
            let (error, place) = worst(&got, &want, |_| 0.1);
            assert!(error < 1e-3, "{middle}: {error:e}: {place}");
        }
        let [mut kernels, mut cpu] = pair(&model, Precision::Fp16, 4);
        let gradient = |backend: &mut dyn Backend| {
            (backend.forward(&batches[0].images, &batches[0].labels, NormMode::Train)).unwrap();
            backend.backward().unwrap();
            backend.gradient().unwrap()
        };
        let cosine = cosine(&gradient(&mut *kernels), &gradient(&mut *cpu));
        assert!(cosine > 0.998, "{middle}: cosine {cosine}");
    }
}

/// The bias of a convolution before its normalisation has no gradient: decay alone moves it, and not through subnormal numbers.
#[test]
fn what_only_decays_ends_at_zero() {
    let model = FeedForward::preset("resnet13", 1, 10, [4, 4, 4, 4]).unwrap();
    let Part::Convolution {
        bias: Some(bias), ..
    } = model.part(0)
    else {
        panic!("its convolutions have biases")
    };
    let batches = [random_images(model.network(), 2, 1)];
    let least = f64::from(f32::MIN_POSITIVE);
    for optimizer in [
        SGD,
        OptimizerConfig::HeavyBall {
            momentum: 0.9,
            weight_decay: 1e-3,
        },
        ADAM,
        OptimizerConfig::AdamW { weight_decay: 1e-2 },
    ] {
        let mut kernels = device().feed_forward(&model, Precision::Fp32).unwrap();
        let mut state = model.initialise(1);
        state.parameters.tensors_mut()[bias].fill(least);
        kernels.set_state(&state).unwrap();
        train_feed_forward(&mut *kernels, &model, &batches, optimizer).unwrap();
        let moments = kernels.optimizer_state().unwrap().moments;
        let left = kernels.state().unwrap().parameters;
        for set in std::iter::once(&left).chain(&moments) {
            for value in &set.tensors()[bias] {
                let is_subnormal = *value != 0.0 && value.abs() < least;
                assert!(!is_subnormal, "{optimizer:?}: {value:e}");
            }
        }
    }
}

/// Edges of several kinds into one layer: `kinds` from the input, at twice the layer's resolution or, of stride 2, at its own.
fn meeting(kinds: &[&str], activation: &str) -> FeedForward {
    let edges = kinds.iter().map(|kind| {
        let more = match *kind {
            "dense" => "",
            "conv" => "kernel = 3\nstride = 2\npadding = 1\n",
            _ => "kernel = 3\npadding = 1\n",
        };
        format!("[[edge]]\nfrom = \"in\"\nto = \"mid\"\nkind = \"{kind}\"\n{more}")
    });
    let shape = if kinds.contains(&"dense") { 2 } else { 6 };
    let toml = format!(
        "name = \"meeting\"
[[layer]]
name = \"in\"
shape = [2, {shape}, {shape}]
[[layer]]
name = \"mid\"
channels = 11
activation = \"{activation}\"
[[layer]]
name = \"out\"
shape = [10]
[[edge]]
from = \"mid\"
to = \"out\"
kind = \"dense\"
{}",
        edges.collect::<String>()
    );
    let description = NetworkDescription::from_toml(&toml).unwrap();
    let network = description.build(ActivationKind::Relu6, &mut networks::rng(0));
    FeedForward::of(&network.unwrap())
}

#[test]
fn edges_of_several_kinds_meet_in_a_layer() {
    for (kinds, activation) in [
        (&["conv-avg-pool"][..], "relu6"),
        (&["conv-max-pool"], "identity"),
        (&["conv-max-pool", "conv", "conv-avg-pool"], "relu6"),
        (&["dense", "conv-max-pool", "conv"], "relu6"),
        (&["conv-avg-pool", "dense"], "identity"),
    ] {
        let model = meeting(kinds, activation);
        let batches = [0, 1].map(|b| random_images(model.network(), 9, 40 + b));
        let [mut kernels, mut cpu] = pair(&model, Precision::Fp32, 4);
        let got = train_feed_forward(&mut *kernels, &model, &batches, SGD).unwrap();
        let want = train_feed_forward(&mut *cpu, &model, &batches, SGD).unwrap();
        let (error, place) = worst(&got, &want, |_| 0.1);
        assert!(error < 1e-3, "{kinds:?} {activation}: {error:e}: {place}");
    }
}

#[test]
fn what_has_no_kernels_is_named() {
    let toml = "name = \"two\"
[[layer]]
name = \"in\"
shape = [1, 4, 4]
[[layer]]
name = \"mid\"
channels = 2
[[layer]]
name = \"out\"
shape = [3]
[[edge]]
from = \"in\"
to = \"mid\"
kind = \"dense\"
[[edge]]
from = \"in\"
to = \"out\"
kind = \"dense\"
[[edge]]
from = \"mid\"
to = \"out\"
kind = \"dense\"
";
    let description = NetworkDescription::from_toml(toml).unwrap();
    let network = (description.build(ActivationKind::Relu6, &mut networks::rng(0))).unwrap();
    let model = FeedForward::of(&network);
    let error = device().feed_forward(&model, Precision::Fp32).err();
    let message = error.expect("there are no such kernels").to_string();
    assert!(
        message.contains("(in -> out) is not the only edge into the output")
            && message.contains("--device cpu"),
        "{message}"
    );
}
