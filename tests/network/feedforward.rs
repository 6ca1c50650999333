//! The feed-forward baselines as values: names, initial parameters, recipes.

use crate::support::naive::product;
use crate::support::networks::{random_batch, rng, small_varied_network, unclipped};
use eqprop_cuda::data::DatasetName;
use eqprop_cuda::data::augment::{PadMode, Step};
use eqprop_cuda::device::{Device, Precision};
use eqprop_cuda::feedforward::{Backend, FeedForward, NormMode, Part, recipe};
use eqprop_cuda::network::{ActivationKind, ModelState, Network, NetworkDescription};
use ndarray::{Array3, Axis, IxDyn};
use rand::RngExt;

const CHANNELS: [usize; 4] = [16, 24, 40, 32];

fn model(name: &str) -> FeedForward {
    FeedForward::preset(name, 3, 10, CHANNELS).unwrap()
}

/// Uniform in +-1/sqrt(fan-in) as PyTorch's modules, or normal with variance 2/(C_post k^2); gamma one, beta zero.
#[test]
fn initial_parameters_have_the_published_distributions() {
    for (name, is_normal) in [("resnet13", false), ("vgg5", true)] {
        let model = model(name);
        let state = model.initialise(3);
        let tensors = state.parameters.tensors();
        for e in 0..model.network().edges().len() {
            let bound = 1.0 / (model.network().fan_in(e) as f64).sqrt();
            let (weight, bias, is_normal) = match model.part(e) {
                Part::Dense { weight, bias } => (weight, Some(bias), false),
                Part::Convolution {
                    weight,
                    bias,
                    gamma,
                    beta,
                    ..
                } => {
                    assert!(tensors[gamma].iter().all(|&v| v == 1.0));
                    assert!(tensors[beta].iter().all(|&v| v == 0.0));
                    (weight, bias, is_normal)
                }
            };
            assert_eq!(bias.is_some(), !is_normal, "{name} edge {e}");
            for t in bias.into_iter().chain((!is_normal).then_some(weight)) {
                assert!(tensors[t].iter().all(|v| v.abs() <= bound * (1.0 + 1e-6)));
            }
            let values = &tensors[weight];
            let n = values.len() as f64;
            let expected = match is_normal {
                true => 2.0 * values.shape()[1] as f64 / n,
                false => bound * bound / 3.0,
            };
            let variance = values.iter().map(|v| v * v).sum::<f64>() / n;
            // Four standard deviations of a sample's variance, of a normal distribution, which has the larger one.
            let slack = 4.0 * (2.0 / n).sqrt();
            assert!(
                (variance / expected - 1.0).abs() < slack,
                "{name} edge {e}: {variance} {expected}"
            );
            let mean = values.sum() / n;
            assert!(
                mean.abs() < 4.0 * (expected / n).sqrt(),
                "{name} edge {e}: {mean}"
            );
        }
        assert_eq!(state, model.initialise(3));
        assert_ne!(state, model.initialise(4));
    }
}

#[test]
fn running_statistics_begin_as_those_of_the_standard_normal_distribution() {
    let model = model("resnet13");
    let state = model.initialise(0);
    for (name, values) in model.statistic_names().iter().zip(&state.statistics) {
        let expected = f64::from(u8::from(name.ends_with("running_var")));
        assert!(values.iter().all(|&v| v == expected), "{name}");
    }
}

#[test]
fn tensors_of_another_shape_are_refused_by_name() {
    let model = model("vgg5");
    let state = model.initialise(0);
    let mut tensors = state.parameters.tensors().to_vec();
    tensors.swap(0, 3);
    let error = model.state(tensors, state.statistics.clone()).unwrap_err();
    assert!(
        error
            .0
            .contains("features.0.0.weight has shape [24, 16, 3, 3]"),
        "{error}"
    );
    let error = model.state(Vec::new(), state.statistics).unwrap_err();
    assert!(error.0.contains("0 tensors were given"), "{error}");
}

/// `resnet.py` and `vgg.py` of the published program.
#[test]
fn images_are_treated_as_published() {
    let crop = |mode| Step::Crop { pad: 4, mode };
    let randomly = |ops| Step::RandAugment { ops, magnitude: 9 };
    for (network, dataset, ops, mode) in [
        ("resnet13", DatasetName::Cifar10, 3, PadMode::Edge),
        ("vgg5", DatasetName::Cifar10, 2, PadMode::Zero),
        ("vgg5", DatasetName::Cifar100, 2, PadMode::Zero),
    ] {
        let steps = recipe::augmentation(network, dataset).steps;
        assert_eq!(
            steps,
            [Step::Flip, randomly(ops), crop(mode)],
            "{network} {dataset}"
        );
    }
    for (network, dataset, std) in [
        ("resnet13", DatasetName::Cifar10, [0.2023, 0.1994, 0.2010]),
        ("vgg5", DatasetName::Cifar10, [0.2470, 0.2435, 0.2616]),
        ("vgg5", DatasetName::Cifar100, [0.2675, 0.2565, 0.2761]),
    ] {
        let normalization = recipe::normalization(network, dataset);
        assert_eq!(normalization.std, std, "{network} {dataset}");
        assert_eq!(normalization.mean, dataset.normalization().mean);
    }
    // Nothing else is published: as for Hopfield networks.
    let fashion = DatasetName::FashionMnist;
    let ours = recipe::augmentation("resnet13", fashion);
    assert_eq!(ours.steps, fashion.augmentation().steps);
}

const MLP: &str = r#"
name = "mlp"
[[layer]]
name = "in"
shape = [2, 3, 4]
[[layer]]
name = "h1"
shape = [7]
activation = "relu"
[[layer]]
name = "h2"
shape = [6]
activation = "identity"
[[layer]]
name = "out"
shape = [4]
[[edge]]
from = "in"
to = "h1"
kind = "dense"
[[edge]]
from = "h1"
to = "h2"
kind = "dense"
[[edge]]
from = "in"
to = "h2"
kind = "dense"
[[edge]]
from = "h2"
to = "out"
kind = "dense"
"#;

/// A perceptron, and random graphs with every kind of edge, some with layers that are not rectified.
fn described(seed: u64) -> Network {
    let mut rng = rng(seed);
    if seed == 0 {
        let description = NetworkDescription::from_toml(MLP).unwrap();
        return description.build(ActivationKind::Relu6, &mut rng).unwrap();
    }
    let network = small_varied_network(&mut rng);
    match seed % 3 {
        0 => unclipped(&network),
        _ => network,
    }
}

/// Initial parameters, but every tensor is random, the running statistics too.
fn random_model_state(model: &FeedForward, seed: u64) -> ModelState {
    let mut rng = rng(seed);
    let mut state = model.initialise(seed);
    for tensor in state.parameters.tensors_mut() {
        if tensor.ndim() == 1 {
            tensor.mapv_inplace(|_| rng.random_range(-1.0..1.0));
        }
    }
    for tensor in &mut state.statistics {
        tensor.mapv_inplace(|_| rng.random_range(0.2..2.0));
    }
    state
}

fn on_the_cpu(model: &FeedForward, state: &ModelState) -> Box<dyn Backend> {
    let mut backend = Device::Cpu.feed_forward(model, Precision::Fp64).unwrap();
    backend.set_state(state).unwrap();
    backend
}

/// The logits of one image in evaluation, layer by layer from the formula.
fn logits(model: &FeedForward, state: &ModelState, image: Array3<f64>) -> Vec<f64> {
    let network = model.network();
    let tensors = state.parameters.tensors();
    let mut states = vec![image];
    for l in network.free_layers() {
        let shape = network.layers()[l].shape;
        let mut z = Array3::zeros((shape.channels, shape.height, shape.width));
        for (e, edge) in network.edges_into(l) {
            let x = states[edge.pre].view();
            z += &match model.part(e) {
                Part::Dense { weight, bias } => {
                    // (units, C H W) to (C, H, W, units)
                    let (c, h, w) = x.dim();
                    let weight = tensors[weight].t().as_standard_layout().into_owned();
                    let weight = weight.into_shape_with_order(IxDyn(&[c, h, w, shape.channels]));
                    let mut y = product(network, e, &weight.unwrap(), x);
                    (y.iter_mut().zip(&tensors[bias])).for_each(|(y, b)| *y += b);
                    y
                }
                Part::Convolution {
                    weight,
                    bias,
                    gamma,
                    beta,
                    statistics,
                } => {
                    // A maximum is one of what is normalised, so pooling has to come after it; of a negative factor the largest is
                    // that of the smallest: scale the weight before.
                    let factor: Vec<f64> = (0..shape.channels)
                        .map(|c| {
                            tensors[gamma][c] / (state.statistics[statistics + 1][c] + 1e-5).sqrt()
                        })
                        .collect();
                    let mut scaled = tensors[weight].clone();
                    for (c, mut kernel) in scaled.axis_iter_mut(Axis(0)).enumerate() {
                        kernel *= factor[c];
                    }
                    let mut y = product(network, e, &scaled, x);
                    for ((c, _, _), y) in y.indexed_iter_mut() {
                        let bias = bias.map_or(0.0, |b| tensors[b][c]);
                        *y +=
                            factor[c] * (bias - state.statistics[statistics][c]) + tensors[beta][c];
                    }
                    y
                }
            };
        }
        if model.is_rectified(l) {
            z.mapv_inplace(|z: f64| z.max(0.0));
        }
        states.push(z);
    }
    states.pop().unwrap().into_raw_vec_and_offset().0
}

#[test]
fn logits_of_any_network_are_those_of_the_formula() {
    for seed in 0..40 {
        let model = FeedForward::of(&described(seed));
        let state = random_model_state(&model, seed);
        let mut backend = on_the_cpu(&model, &state);
        let (images, labels) = random_batch(model.network(), 2, &mut rng(seed));
        backend
            .forward(&images, &labels, NormMode::Evaluate)
            .unwrap();
        let ours = backend.logits().unwrap();
        for (n, ours) in ours.rows().into_iter().enumerate() {
            let image = images.index_axis(Axis(0), n).mapv(f64::from);
            for (a, b) in ours.iter().zip(logits(&model, &state, image)) {
                assert!(
                    (a - b).abs() < 1e-9 * (1.0 + b.abs()),
                    "seed {seed}: {a} is not {b}\n{}",
                    model.network()
                );
            }
        }
    }
}

/// A step over a kink of relu or of max pooling makes a quotient another one; so most have to agree, not all.
#[test]
fn gradients_of_any_network_are_slopes_of_the_loss() {
    const STEP: f64 = 1e-6;
    let (mut checked, mut wrong) = (0, Vec::new());
    for seed in 0..40 {
        let model = FeedForward::of(&described(seed));
        let state = random_model_state(&model, seed);
        let (images, labels) = random_batch(model.network(), 4, &mut rng(seed));
        let mut backend = on_the_cpu(&model, &state);
        backend.forward(&images, &labels, NormMode::Train).unwrap();
        backend.backward().unwrap();
        let gradient = backend.gradient().unwrap();
        let mut rng = rng(seed);
        let loss_at = |t: usize, entry: usize, offset: f64| {
            let mut moved = state.clone();
            *moved.parameters.tensors_mut()[t]
                .iter_mut()
                .nth(entry)
                .unwrap() += offset;
            let outcome = on_the_cpu(&model, &moved)
                .forward(&images, &labels, NormMode::Train)
                .unwrap();
            outcome.cost.iter().sum::<f64>() / labels.len() as f64
        };
        for (t, name) in model.parameter_names().iter().enumerate() {
            let entry = rng.random_range(0..gradient.tensors()[t].len());
            let slope = (loss_at(t, entry, STEP) - loss_at(t, entry, -STEP)) / (2.0 * STEP);
            let ours = *gradient.tensors()[t].iter().nth(entry).unwrap();
            checked += 1;
            if (ours - slope).abs() > 1e-5 * (1.0 + slope.abs()) {
                wrong.push(format!(
                    "seed {seed} {name}[{entry}]: {ours} is not {slope}"
                ));
            }
        }
    }
    assert!(
        checked > 300 && wrong.len() * 50 < checked,
        "{} of {checked}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn edges_side_by_side_have_names_of_their_own() {
    let parallel = MLP.replacen(
        "from = \"in\"\nto = \"h2\"",
        "from = \"h1\"\nto = \"h2\"",
        1,
    );
    let description = NetworkDescription::from_toml(&parallel).unwrap();
    let network = description
        .build(ActivationKind::Relu6, &mut rng(0))
        .unwrap();
    let model = FeedForward::of(&network);
    let names: Vec<&str> = model.parameter_names().iter().map(String::as_str).collect();
    assert!(
        names.contains(&"layers.1_2.weight") && names.contains(&"layers.1_2_2.weight"),
        "{names:?}"
    );
}
