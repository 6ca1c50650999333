//! The two networks of the paper (Elayedam & Srinivasan 2025, section 3).

use super::activation::{Activation, ActivationKind};
use super::edge::{Convolution, Edge, LinearMap, Pooling};
use super::error::NetworkError;
use super::graph::Network;
use super::layer::{Layer, Shape};
use rand_chacha::ChaCha8Rng;

/// Names of the presets, as the command line takes them.
pub const PRESETS: [&str; 2] = ["hopfieldresnet13", "vgg5"];

/// Widths of the four blocks that the paper uses.
pub const PAPER_CHANNELS: [usize; 4] = [128, 256, 512, 512];

/// What a preset leaves open.
#[derive(Debug, Clone)]
pub struct PresetOptions {
    pub input_channels: usize,
    pub classes: usize,
    /// width of the four blocks
    pub channels: [usize; 4],
    pub activation: ActivationKind,
    /// one gain per weight tensor; `None` takes the published ones
    pub gains: Option<Vec<f64>>,
}

/// Builds `hopfieldresnet13` or `vgg5`. `rng` is drawn from only for `reluclip`.
pub fn build(
    name: &str,
    options: &PresetOptions,
    rng: &mut ChaCha8Rng,
) -> Result<Network, NetworkError> {
    let (shapes, maps, published_gains) = match name {
        "hopfieldresnet13" => hopfield_resnet13(options),
        "vgg5" => vgg5(options),
        other => {
            return Err(NetworkError(format!(
                "unknown network {other:?}; expected {} or the path of a .toml file",
                PRESETS.join(", ")
            )));
        }
    };
    let gains = options.gains.as_ref().unwrap_or(&published_gains);
    if gains.len() != maps.len() {
        return Err(NetworkError(format!(
            "{} weight gains were given, but {name} has {} weight tensors",
            gains.len(),
            maps.len()
        )));
    }
    let last = shapes.len() - 1;
    let layers = shapes
        .into_iter()
        .enumerate()
        .map(|(l, (layer_name, shape))| Layer {
            name: layer_name.to_string(),
            shape,
            activation: if l == 0 || l == last {
                Activation::LINEAR
            } else {
                options.activation.draw(rng)
            },
        })
        .collect();
    let edges = (maps.into_iter().zip(gains))
        .map(|((pre, post, map, pooling), &gain)| Edge {
            pre,
            post,
            map,
            pooling,
            gain,
        })
        .collect();
    Network::new(name, layers, edges)
}

type Blueprint = (
    Vec<(&'static str, Shape)>,
    Vec<(usize, usize, LinearMap, Pooling)>,
    Vec<f64>,
);

/// Nine free layers, thirteen weights: four blocks of two layers, each block with a 1x1 skip edge around its
/// first layer, then a dense head over 2x2 pixels.
fn hopfield_resnet13(options: &PresetOptions) -> Blueprint {
    let [c1, c2, c3, c4] = options.channels;
    let layers = vec![
        ("input", Shape::new(options.input_channels, 32, 32)),
        ("h1a", Shape::new(c1, 32, 32)),
        ("h1b", Shape::new(c1, 16, 16)),
        ("h2a", Shape::new(c2, 16, 16)),
        ("h2b", Shape::new(c2, 8, 8)),
        ("h3a", Shape::new(c3, 8, 8)),
        ("h3b", Shape::new(c3, 4, 4)),
        ("h4a", Shape::new(c4, 4, 4)),
        ("h4b", Shape::new(c4, 2, 2)),
        ("output", Shape::flat(options.classes)),
    ];
    let conv = |kernel, stride| {
        LinearMap::Conv(Convolution {
            kernel,
            stride,
            padding: kernel / 2,
        })
    };
    // Edge order and gains are those of the published code: weight.e of a golden file is edge e here.
    let edges = vec![
        (0, 1, conv(3, 1), Pooling::None),
        (1, 2, conv(3, 2), Pooling::None),
        (0, 2, conv(1, 2), Pooling::None),
        (2, 3, conv(3, 1), Pooling::None),
        (2, 4, conv(1, 2), Pooling::None),
        (3, 4, conv(3, 2), Pooling::None),
        (4, 5, conv(3, 1), Pooling::None),
        (4, 6, conv(1, 2), Pooling::None),
        (5, 6, conv(3, 2), Pooling::None),
        (6, 7, conv(3, 1), Pooling::None),
        (6, 8, conv(1, 2), Pooling::None),
        (7, 8, conv(3, 2), Pooling::None),
        (8, 9, LinearMap::Dense, Pooling::None),
    ];
    let gains = vec![
        0.6, 0.6, 0.7, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.8,
    ];
    (layers, edges, gains)
}

/// Four 3x3 convolutions with 2x2 max pooling, then a dense head over 2x2 pixels.
fn vgg5(options: &PresetOptions) -> Blueprint {
    let [c1, c2, c3, c4] = options.channels;
    let layers = vec![
        ("input", Shape::new(options.input_channels, 32, 32)),
        ("h1", Shape::new(c1, 16, 16)),
        ("h2", Shape::new(c2, 8, 8)),
        ("h3", Shape::new(c3, 4, 4)),
        ("h4", Shape::new(c4, 2, 2)),
        ("output", Shape::flat(options.classes)),
    ];
    let conv = LinearMap::Conv(Convolution {
        kernel: 3,
        stride: 1,
        padding: 1,
    });
    let edges = vec![
        (0, 1, conv, Pooling::Max2x2),
        (1, 2, conv, Pooling::Max2x2),
        (2, 3, conv, Pooling::Max2x2),
        (3, 4, conv, Pooling::Max2x2),
        (4, 5, LinearMap::Dense, Pooling::None),
    ];
    (layers, edges, vec![0.4, 0.7, 0.6, 0.3, 0.6])
}
