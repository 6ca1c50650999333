//! The feed-forward baselines as values: names, initial parameters, recipes.

use eqprop_cuda::data::DatasetName;
use eqprop_cuda::data::augment::{PadMode, Step};
use eqprop_cuda::feedforward::{FeedForward, Part, recipe};

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
                Part::Head { weight, bias } => (weight, Some(bias), false),
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
