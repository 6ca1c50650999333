//! The presets are the paper's networks, and a description says everything about a network.

use eqprop_cuda::cpu;
use eqprop_cuda::network::presets::{self, PAPER_CHANNELS, PresetOptions};
use eqprop_cuda::network::{
    Activation, ActivationKind, Initial, Network, NetworkDescription, ParameterSet, Shape,
    parameters,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn preset(name: &str, activation: ActivationKind, seed: u64) -> Network {
    let options = PresetOptions {
        input_channels: 3,
        classes: 10,
        channels: PAPER_CHANNELS,
        activation,
        gains: None,
    };
    presets::build(name, &options, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
}

fn shapes(network: &Network) -> Vec<String> {
    network
        .layers()
        .iter()
        .map(|l| l.shape.to_string())
        .collect()
}

#[test]
fn hopfieldresnet13_has_the_papers_layers_and_thirteen_weights() {
    let network = preset("hopfieldresnet13", ActivationKind::Relu6, 0);
    assert_eq!(
        shapes(&network),
        [
            "3x32x32",
            "128x32x32",
            "128x16x16",
            "256x16x16",
            "256x8x8",
            "512x8x8",
            "512x4x4",
            "512x4x4",
            "512x2x2",
            "10x1x1"
        ]
    );
    let edges: Vec<_> = network.edges().iter().map(|e| (e.pre, e.post)).collect();
    assert_eq!(
        edges,
        [
            (0, 1),
            (1, 2),
            (0, 2),
            (2, 3),
            (2, 4),
            (3, 4),
            (4, 5),
            (4, 6),
            (5, 6),
            (6, 7),
            (6, 8),
            (7, 8),
            (8, 9)
        ]
    );
    let gains: Vec<_> = network.edges().iter().map(|e| e.gain).collect();
    assert_eq!(
        gains,
        [
            0.6, 0.6, 0.7, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.8
        ]
    );
    assert_eq!(network.weight_shape(2), [128, 3, 1, 1]);
    assert_eq!(network.weight_shape(5), [256, 256, 3, 3]);
    assert_eq!(network.weight_shape(12), [512, 2, 2, 10]);
    assert_eq!(network.parameter_count(), 9 + 13);
}

#[test]
fn vgg5_has_the_papers_layers_and_five_weights() {
    let network = preset("vgg5", ActivationKind::Relu6, 0);
    assert_eq!(
        shapes(&network),
        [
            "3x32x32",
            "128x16x16",
            "256x8x8",
            "512x4x4",
            "512x2x2",
            "10x1x1"
        ]
    );
    assert_eq!(network.weight_shape(1), [256, 128, 3, 3]);
    assert_eq!(network.weight_shape(4), [512, 2, 2, 10]);
    assert_eq!(network.parameter_count(), 5 + 5);
}

/// Network -> description -> TOML -> description -> network is the identity, drawn clips included.
#[test]
fn descriptions_round_trip_through_toml() {
    for name in ["hopfieldresnet13", "vgg5"] {
        for activation in [
            ActivationKind::Relu6,
            ActivationKind::HardSigmoid,
            ActivationKind::ReluClip,
        ] {
            let network = preset(name, activation, 7);
            let description = NetworkDescription::of(&network);
            let toml = toml::to_string(&description).unwrap();
            let read = NetworkDescription::from_toml(&toml).unwrap();
            assert_eq!(read, description);
            // Another seed and default: neither may matter any more.
            let mut rng = ChaCha8Rng::seed_from_u64(8);
            assert_eq!(
                read.build(ActivationKind::HardSigmoid, &mut rng).unwrap(),
                network
            );
        }
    }
}

#[test]
fn reluclip_draws_from_one_to_ten_and_differs_between_layers_and_seeds() {
    let clips = |seed| -> Vec<f64> {
        let network = preset("hopfieldresnet13", ActivationKind::ReluClip, seed);
        let clip = |layer: &eqprop_cuda::network::Layer| layer.activation.clip();
        network.layers().iter().filter_map(clip).collect()
    };
    let (a, b) = (clips(1), clips(2));
    assert_eq!(a.len(), 8);
    assert!(
        a.iter().chain(&b).all(|c| (1.0..=10.0).contains(c)),
        "{a:?} {b:?}"
    );
    assert_ne!(a, b);
    assert!(a.windows(2).all(|w| w[0] != w[1]), "{a:?}");
    assert_eq!(a, clips(1));
}

#[test]
fn initial_parameters_fill_their_bounds_and_depend_on_the_seed() {
    let network = preset("vgg5", ActivationKind::Relu6, 0);
    let parameters: ParameterSet<f64> = parameters::initialise(&network, 1);
    let names = network.parameter_names();
    for (e, edge) in network.edges().iter().enumerate() {
        let fan_in = (network.weight_shape(e).iter().product::<usize>()
            / network.layers()[edge.post].shape.channels) as f64;
        let bounds = [edge.gain / fan_in.sqrt(), 0.5 / fan_in.sqrt()];
        for (tensor, bound) in [parameters.weight(e), parameters.bias(edge.post)]
            .into_iter()
            .zip(bounds)
        {
            let largest = tensor.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            assert!(
                largest <= bound * (1.0 + 1e-6),
                "{names:?}: {largest} > {bound}"
            );
            assert!(largest > 0.7 * bound, "edge {e}: {largest} of {bound}");
        }
        let weight = parameters.weight(e);
        let (mean, n) = (weight.mean().unwrap(), weight.len() as f64);
        assert!(
            mean.abs() < 5.0 * bounds[0] / (3.0 * n).sqrt(),
            "edge {e}: mean {mean}"
        );
    }
    assert_eq!(parameters, parameters::initialise(&network, 1));
    assert_ne!(parameters, parameters::initialise(&network, 2));
}

/// Means and deviations of the six distributions, for an edge from 400 to 300 units with gain 0.7.
#[test]
fn initial_weights_have_the_distribution_that_an_edge_names() {
    let (into, both) = (400f64, 700f64);
    let uniform = |bound: f64| (bound / 3f64.sqrt(), Some(bound));
    for (initial, (deviation, bound)) in [
        ("kaiming-uniform", uniform(0.7 / into.sqrt())),
        ("kaiming-normal", (0.35 / into.sqrt(), None)),
        ("xavier-uniform", uniform(0.35 * (6.0 / both).sqrt())),
        ("xavier-normal", (0.35 * (2.0 / both).sqrt(), None)),
        ("uniform", uniform(0.7)),
        ("normal", (0.7, None)),
    ] {
        let text = format!(
            r#"
            name = "one"
            layer = [{{name = "in", shape = [400]}}, {{name = "out", shape = [300]}}]
            edge = [{{from = "in", to = "out", kind = "dense", gain = 0.7, initial = "{initial}"}}]
            "#
        );
        let description = NetworkDescription::from_toml(&text).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let network = description.build(ActivationKind::Relu6, &mut rng).unwrap();
        let parameters = parameters::initialise(&network, 3);
        let weight = parameters.weight(0);
        let n = weight.len() as f64;
        let mean = weight.mean().unwrap();
        let found = (weight.iter().map(|v| v * v).sum::<f64>() / n).sqrt();
        assert!(
            mean.abs() < 5.0 * deviation / n.sqrt(),
            "{initial}: mean {mean}"
        );
        // The deviation of a deviation of n numbers is at most itself / sqrt(2 n).
        let error = (found / deviation - 1.0).abs();
        assert!(
            error < 5.0 / (2.0 * n).sqrt(),
            "{initial}: {found} for {deviation}"
        );
        let largest = weight.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        match bound {
            Some(bound) => assert!(largest <= bound * (1.0 + 1e-6), "{initial}: {largest}"),
            None => assert!(largest > 3.0 * deviation, "{initial}: {largest}"),
        }
    }
}

#[test]
fn the_example_takes_fashion_mnist() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/networks/branches.toml"
    );
    let description =
        NetworkDescription::from_toml(&std::fs::read_to_string(path).unwrap()).unwrap();
    let network = description
        .build(ActivationKind::Relu6, &mut ChaCha8Rng::seed_from_u64(0))
        .unwrap();
    assert_eq!(network.input().shape.to_string(), "1x32x32");
    assert_eq!(network.classes(), 10);
    assert_eq!(network.layers()[3].activation, Activation::relu_clip(4.0));
    let colours = network.update_groups(eqprop_cuda::network::Mode::Coloured);
    // edges, summary | parts, classes? : "objects" feeds both "summary" and "classes", which see each other, too.
    assert_eq!(colours, [vec![1, 4], vec![2, 5], vec![3]]);
    let mut backend = cpu::backend::<f32>(&network);
    backend
        .set_parameters(&parameters::initialise(&network, 1))
        .unwrap();
}

/// The framework's networks have its sizes, take any images where they are dense, and start from biases of zero there.
#[test]
fn the_networks_of_the_framework() {
    let build = |name: &str, input: Shape| {
        let preset = presets::find(name).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        preset.build(
            input,
            10,
            preset.widths,
            ActivationKind::HardSigmoid,
            &mut rng,
        )
    };
    let mnist = Shape::new(1, 28, 28);
    for (name, hidden) in [("dhn-1h", 1), ("dhn-2h", 2), ("dhn-3h", 3)] {
        let network = build(name, mnist).unwrap();
        assert_eq!(network.free_layers().len(), hidden + 1);
        assert!(network.edges().iter().all(|e| e.gain == 0.7));
        let parameters = parameters::initialise(&network, 3);
        for l in network.free_layers() {
            assert!(parameters.bias(l).iter().all(|&b| b == 0.0), "{name} {l}");
        }
        let bound = 0.7 / 28.0;
        let first = parameters.weight(0);
        let largest = first.iter().fold(0.0f64, |m, w| m.max(w.abs()));
        assert!(largest <= bound && largest > 0.99 * bound, "{largest}");
        let coloured = build(name, Shape::new(3, 32, 20)).unwrap();
        assert_eq!(coloured.weight_shape(0), [3, 32, 20, 1024]);
        let description = NetworkDescription::of(&network);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let again = description.build(ActivationKind::Relu6, &mut rng).unwrap();
        assert_eq!(again, network);
    }
    let network = build("dchn28", mnist).unwrap();
    assert_eq!(network.weight_shape(1), [64, 32, 5, 5]);
    assert_eq!(network.weight_shape(2), [64, 4, 4, 10]);
    let error = build("dchn28", Shape::new(1, 32, 32)).unwrap_err().0;
    assert!(
        error.contains("28x28") && error.contains("32x32"),
        "{error}"
    );
}

/// Each distribution of initial weights has the deviation of its formula, and stays within its bounds if it has any.
#[test]
fn initial_weights_have_the_deviation_that_their_distribution_says() {
    let preset = presets::find("dhn-1h").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let input = Shape::new(1, 28, 28);
    let network = preset
        .build(input, 10, &[1024], ActivationKind::HardSigmoid, &mut rng)
        .unwrap();
    let (pre, post, gain) = (784.0f64, 1024.0f64, 0.7);
    let uniform = |bound: f64| bound / 3f64.sqrt();
    for (initial, deviation) in [
        (Initial::KaimingUniform, uniform(gain / pre.sqrt())),
        (Initial::KaimingNormal, gain / 2.0 / pre.sqrt()),
        (
            Initial::XavierUniform,
            uniform(gain / 2.0 * (6.0 / (pre + post)).sqrt()),
        ),
        (
            Initial::XavierNormal,
            gain / 2.0 * (2.0 / (pre + post)).sqrt(),
        ),
        (Initial::Uniform, uniform(gain)),
        (Initial::Normal, gain),
    ] {
        let mut edges = network.edges().to_vec();
        edges[0].initial = initial;
        let network = Network::new("test", network.layers().to_vec(), edges).unwrap();
        let weights = parameters::initialise(&network, 1);
        let weights = weights.weight(0);
        let n = weights.len() as f64;
        let square = weights.iter().map(|w| w * w).sum::<f64>() / n;
        // 800,000 draws: the deviation of the estimate is below 0.1 %.
        assert!(
            (square.sqrt() / deviation - 1.0).abs() < 5e-3,
            "{initial:?}: {}, expected {deviation}",
            square.sqrt()
        );
        let largest = weights.iter().fold(0.0f64, |m, w| m.max(w.abs()));
        let is_bounded = largest <= deviation * 3f64.sqrt() * 1.0001;
        assert_eq!(is_bounded, !initial.is_normal(), "{initial:?}");
        let description = NetworkDescription::of(&network);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let again = description.build(ActivationKind::Relu6, &mut rng).unwrap();
        assert_eq!(again, network);
    }
}
