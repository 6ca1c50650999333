//! The networks that have a name: the two of the paper (Elayedam & Srinivasan 2025, section 3), and those of the field's
//! framework (rain-neuromorphics/energy-based-learning).

use super::activation::{Activation, ActivationKind};
use super::edge::{Convolution, Edge, LinearMap, Pooling};
use super::error::NetworkError;
use super::graph::Network;
use super::initial::Initial;
use super::layer::{Bias, Layer, Shape};
use rand_chacha::ChaCha8Rng;

/// A network that has a name. What it leaves open is the number of channels of its images, the number of classes, the
/// activation of its hidden layers, and its widths.
pub struct Preset {
    /// as the command line takes it
    pub name: &'static str,
    /// half a line for the manual
    pub about: &'static str,
    /// height and width of the images that it takes; `None`: any
    pub size: Option<(usize, usize)>,
    /// published widths
    pub widths: &'static [usize],
    bias: Bias,
    blueprint: fn(Shape, usize, &[usize]) -> Blueprint,
}

/// All of them.
pub const ALL: [Preset; 6] = [
    Preset {
        name: "hopfieldresnet13",
        about: "nine free layers, thirteen weights",
        size: Some((32, 32)),
        widths: &PAPER_CHANNELS,
        bias: Bias::PUBLISHED,
        blueprint: hopfield_resnet13,
    },
    Preset {
        name: "vgg5",
        about: "four convolutions with max pooling, and a dense head",
        size: Some((32, 32)),
        widths: &PAPER_CHANNELS,
        bias: Bias::PUBLISHED,
        blueprint: vgg5,
    },
    Preset {
        name: "dchn28",
        about: "two convolutions with max pooling, and a dense head, on 28x28 pixels",
        size: Some((28, 28)),
        widths: &[32, 64],
        bias: Bias::PUBLISHED,
        blueprint: dchn28,
    },
    Preset {
        name: "dhn-1h",
        about: "a dense network with one hidden layer",
        size: None,
        widths: &[1024],
        bias: Bias::FROM_ZERO,
        blueprint: dense,
    },
    Preset {
        name: "dhn-2h",
        about: "the same with two hidden layers",
        size: None,
        widths: &[1024, 1024],
        bias: Bias::FROM_ZERO,
        blueprint: dense,
    },
    Preset {
        name: "dhn-3h",
        about: "the same with three hidden layers",
        size: None,
        widths: &[1024, 1024, 1024],
        bias: Bias::FROM_ZERO,
        blueprint: dense,
    },
];

/// Widths of the four blocks that the paper uses.
pub const PAPER_CHANNELS: [usize; 4] = [128, 256, 512, 512];

/// Names of the paper's networks.
pub const PRESETS: [&str; 2] = ["hopfieldresnet13", "vgg5"];

/// Names of all networks.
pub const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut i = 0;
    while i < ALL.len() {
        names[i] = ALL[i].name;
        i += 1;
    }
    names
};

/// Names of the networks, as the command line takes them.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|preset| preset.name).collect()
}

/// The network of a name.
pub fn find(name: &str) -> Option<&'static Preset> {
    const KNOWN: &[Preset] = &ALL;
    KNOWN.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// Builds the network for images of shape `input`, with as many widths as [`Self::widths`]. `rng` is drawn from only for
    /// `reluclip`.
    ///
    /// # Errors
    /// When the images have another size, or the number of widths is wrong, or one of them is.
    pub fn build(
        &self,
        input: Shape,
        classes: usize,
        widths: &[usize],
        activation: ActivationKind,
        rng: &mut ChaCha8Rng,
    ) -> Result<Network, NetworkError> {
        let name = self.name;
        if let Some((height, width)) = self.size
            && (input.height, input.width) != (height, width)
        {
            return Err(NetworkError(format!(
                "{name} takes images of {height}x{width} pixels, and these have {}x{}",
                input.height, input.width
            )));
        }
        if widths.len() != self.widths.len() {
            return Err(NetworkError(format!(
                "{} widths were given, but {name} has {}",
                widths.len(),
                self.widths.len()
            )));
        }
        let (shapes, maps, gains) = (self.blueprint)(input, classes, widths);
        let last = shapes.len() - 1;
        let layers = (shapes.into_iter().enumerate())
            .map(|(l, (name, shape))| Layer {
                name: name.to_string(),
                shape,
                activation: match l {
                    0 => Activation::LINEAR,
                    _ if l == last => Activation::LINEAR,
                    _ => activation.draw(rng),
                },
                bias: self.bias,
            })
            .collect();
        let edges = (maps.into_iter().zip(gains))
            .map(|((pre, post, map, pooling), gain)| Edge {
                pre,
                post,
                map,
                pooling,
                initial: Initial::KaimingUniform,
                gain,
            })
            .collect();
        Network::new(name, layers, edges)
    }
}

/// What a network of the paper leaves open.
#[derive(Debug, Clone)]
pub struct PresetOptions {
    /// of the images: 1 or 3
    pub input_channels: usize,
    /// width of the output layer
    pub classes: usize,
    /// width of the four blocks
    pub channels: [usize; 4],
    /// of the hidden layers
    pub activation: ActivationKind,
    /// one gain per weight tensor; `None` takes the published ones
    pub gains: Option<Vec<f64>>,
}

/// Builds a network of the paper, `hopfieldresnet13` or `vgg5`, for images of 32x32 pixels. `rng` is drawn from only for
/// `reluclip`.
///
/// # Errors
/// When there is no such network, or the options are not its.
pub fn build(
    name: &str,
    options: &PresetOptions,
    rng: &mut ChaCha8Rng,
) -> Result<Network, NetworkError> {
    let Some(preset) = find(name) else {
        return Err(NetworkError(format!(
            "unknown network {name:?}; expected {} or the path of a .toml file",
            names().join(", ")
        )));
    };
    let input = Shape::new(options.input_channels, 32, 32);
    let PresetOptions {
        classes,
        channels,
        activation,
        ..
    } = options;
    let network = preset.build(input, *classes, channels, *activation, rng)?;
    match &options.gains {
        None => Ok(network),
        Some(gains) => network.with_gains(gains),
    }
}

type Blueprint = (
    Vec<(String, Shape)>,
    Vec<(usize, usize, LinearMap, Pooling)>,
    Vec<f64>,
);

/// Nine free layers, thirteen weights: four blocks of two layers, each block with a 1x1 skip edge around its
/// first layer, then a dense head over 2x2 pixels.
fn hopfield_resnet13(input: Shape, classes: usize, widths: &[usize]) -> Blueprint {
    let &[c1, c2, c3, c4] = widths else {
        unreachable!("the number of widths was checked")
    };
    let layers = [
        ("input", input),
        ("h1a", Shape::new(c1, 32, 32)),
        ("h1b", Shape::new(c1, 16, 16)),
        ("h2a", Shape::new(c2, 16, 16)),
        ("h2b", Shape::new(c2, 8, 8)),
        ("h3a", Shape::new(c3, 8, 8)),
        ("h3b", Shape::new(c3, 4, 4)),
        ("h4a", Shape::new(c4, 4, 4)),
        ("h4b", Shape::new(c4, 2, 2)),
        ("output", Shape::flat(classes)),
    ];
    let conv = |kernel, stride| LinearMap::Conv(Convolution::square(kernel, stride, kernel / 2));
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
    (named(layers), edges, gains)
}

/// Four 3x3 convolutions with 2x2 max pooling, then a dense head over 2x2 pixels.
fn vgg5(input: Shape, classes: usize, widths: &[usize]) -> Blueprint {
    let &[c1, c2, c3, c4] = widths else {
        unreachable!("the number of widths was checked")
    };
    let layers = [
        ("input", input),
        ("h1", Shape::new(c1, 16, 16)),
        ("h2", Shape::new(c2, 8, 8)),
        ("h3", Shape::new(c3, 4, 4)),
        ("h4", Shape::new(c4, 2, 2)),
        ("output", Shape::flat(classes)),
    ];
    let conv = LinearMap::Conv(Convolution::square(3, 1, 1));
    let edges = vec![
        (0, 1, conv, Pooling::Max2x2),
        (1, 2, conv, Pooling::Max2x2),
        (2, 3, conv, Pooling::Max2x2),
        (3, 4, conv, Pooling::Max2x2),
        (4, 5, LinearMap::Dense, Pooling::None),
    ];
    (named(layers), edges, vec![0.4, 0.7, 0.6, 0.3, 0.6])
}

/// Two 5x5 convolutions with 2x2 max pooling, then a dense head over 4x4 pixels: the framework's `ConvHopfieldEnergy28`.
fn dchn28(input: Shape, classes: usize, widths: &[usize]) -> Blueprint {
    let &[c1, c2] = widths else {
        unreachable!("the number of widths was checked")
    };
    let layers = [
        ("input", input),
        ("h1", Shape::new(c1, 12, 12)),
        ("h2", Shape::new(c2, 4, 4)),
        ("output", Shape::flat(classes)),
    ];
    let conv = LinearMap::Conv(Convolution::square(5, 1, 0));
    let edges = vec![
        (0, 1, conv, Pooling::Max2x2),
        (1, 2, conv, Pooling::Max2x2),
        (2, 3, LinearMap::Dense, Pooling::None),
    ];
    (named(layers), edges, vec![0.6, 0.6, 1.5])
}

/// A chain of dense layers: the framework's `DeepHopfieldEnergy` (Scellier 2024, appendix E).
fn dense(input: Shape, classes: usize, widths: &[usize]) -> Blueprint {
    let hidden = (1..).zip(widths);
    let hidden = hidden.map(|(l, &width)| (format!("h{l}"), Shape::flat(width)));
    let ends = [("output".to_string(), Shape::flat(classes))];
    let input = [("input".to_string(), input)];
    let layers: Vec<_> = input.into_iter().chain(hidden).chain(ends).collect();
    let edges = (1..layers.len()).map(|l| (l - 1, l, LinearMap::Dense, Pooling::None));
    let edges: Vec<_> = edges.collect();
    let gains = vec![0.7; edges.len()];
    (layers, edges, gains)
}

fn named<const N: usize>(layers: [(&str, Shape); N]) -> Vec<(String, Shape)> {
    let owned = |(name, shape): (&str, Shape)| (name.to_string(), shape);
    layers.map(owned).to_vec()
}
