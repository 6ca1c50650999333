//! A feed-forward network as a value: which layers and edges it has, and what its tensors are called.

use crate::network::parameters::normal;
use crate::network::presets::{self, PresetOptions};
use crate::network::{
    ActivationKind, Edge, LinearMap, ModelState, Network, NetworkError, ParameterSet,
};
use ndarray::{ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Added to the variance.
pub const NORM_EPSILON: f64 = 1e-5;
/// Weight of a batch in the running statistics.
pub const NORM_MOMENTUM: f64 = 0.1;

/// How the published program builds a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `Resnet_13`: convolutions have a bias; modules are called `layers.PRE_POST`; PyTorch's initial values
    Residual,
    /// `VGG7Hopfield` ("VGG5" in the paper): no bias; modules are `features.STAGE` and `classifier`; Kaiming's initial
    /// values for convolutions
    Plain,
}

impl Style {
    /// Only a chain of convolutions can be named by its stages.
    fn of(network: &Network) -> Self {
        let is_stage = |(e, edge): (usize, &Edge)| {
            let is_last = edge.post == network.output_index();
            (edge.pre, edge.post) == (e, e + 1) && (edge.map == LinearMap::Dense) == is_last
        };
        match network.edges().iter().enumerate().all(is_stage) {
            true if network.name() == "vgg5" => Self::Plain,
            _ => Self::Residual,
        }
    }
}

/// The tensors of one edge, by their index among the parameters or the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// convolution and batch normalisation
    Convolution {
        /// kernels
        weight: usize,
        /// before the normalisation
        bias: Option<usize>,
        /// scale after the normalisation
        gamma: usize,
        /// shift after the normalisation
        beta: usize,
        /// running mean; the running variance and the count of batches follow it
        statistics: usize,
    },
    /// every unit with every unit
    Dense {
        /// matrix
        weight: usize,
        /// one per unit
        bias: usize,
    },
}

/// A feed-forward network: see the module's documentation. Layers and edges are those of the [`Network`], whose clips and
/// initial gains play no role: hidden layers are rectified, but for those of the activation `identity`.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForward {
    network: Network,
    style: Style,
    parts: Vec<Part>,
    names: Vec<String>,
    shapes: Vec<Vec<usize>>,
    statistic_names: Vec<String>,
    statistic_shapes: Vec<Vec<usize>>,
}

impl FeedForward {
    /// Names of the published baselines.
    pub const PRESETS: [&str; 2] = ["resnet13", "vgg5"];

    /// Builds `resnet13` or `vgg5`, the equivalents of the Hopfield networks in [`presets`].
    ///
    /// # Errors
    /// When there is no such network, or the options are not its.
    pub fn preset(
        name: &str,
        input_channels: usize,
        classes: usize,
        channels: [usize; 4],
    ) -> Result<Self, NetworkError> {
        let hopfield = match name {
            "resnet13" => "hopfieldresnet13",
            "vgg5" => "vgg5",
            _ => {
                return Err(NetworkError(format!(
                    "unknown feed-forward network {name:?}; expected {}",
                    Self::PRESETS.join(" or ")
                )));
            }
        };
        let options = PresetOptions {
            input_channels,
            classes,
            channels,
            activation: ActivationKind::Relu6,
            gains: None,
        };
        let network = presets::build(hopfield, &options, &mut ChaCha8Rng::seed_from_u64(0))?;
        Ok(Self::of(&network.named(name)))
    }

    /// The feed-forward equivalent of a network.
    pub fn of(network: &Network) -> Self {
        let mut model = Self {
            network: network.clone(),
            style: Style::of(network),
            parts: Vec::new(),
            names: Vec::new(),
            shapes: Vec::new(),
            statistic_names: Vec::new(),
            statistic_shapes: Vec::new(),
        };
        for e in 0..network.edges().len() {
            let part = model.add_part(e);
            model.parts.push(part);
        }
        model
    }

    /// Whether negative units of layer `l` are set to zero: not those of the output, or where the layer has no activation.
    pub fn is_rectified(&self, l: usize) -> bool {
        let activation = self.network.layers()[l].activation;
        l != self.network.output_index() && activation.bounds().is_some()
    }

    fn add_part(&mut self, e: usize) -> Part {
        let edge = self.network.edges()[e].clone();
        let shape = self.network.weight_shape(e);
        let joins = |other: &&Edge| (other.pre, other.post) == (edge.pre, edge.post);
        let before = self.network.edges()[..e].iter().filter(joins).count();
        let module = match (self.style, edge.map) {
            (Style::Residual, _) if before > 0 => {
                format!("layers.{}_{}_{}", edge.pre, edge.post, before + 1)
            }
            (Style::Residual, _) => format!("layers.{}_{}", edge.pre, edge.post),
            (Style::Plain, LinearMap::Dense) => "classifier".to_string(),
            (Style::Plain, _) => format!("features.{}", 2 * (edge.post - 1)),
        };
        if edge.map == LinearMap::Dense {
            let classes = shape[3];
            let units = shape[..3].iter().product();
            return Part::Dense {
                weight: self.add(format!("{module}.weight"), vec![classes, units]),
                bias: self.add(format!("{module}.bias"), vec![classes]),
            };
        }
        let channels = shape[0];
        Part::Convolution {
            weight: self.add(format!("{module}.0.weight"), shape),
            bias: (self.style == Style::Residual)
                .then(|| self.add(format!("{module}.0.bias"), vec![channels])),
            gamma: self.add(format!("{module}.1.weight"), vec![channels]),
            beta: self.add(format!("{module}.1.bias"), vec![channels]),
            statistics: self.add_statistics(&module, channels),
        }
    }

    fn add(&mut self, name: String, shape: Vec<usize>) -> usize {
        self.names.push(name);
        self.shapes.push(shape);
        self.names.len() - 1
    }

    fn add_statistics(&mut self, module: &str, channels: usize) -> usize {
        let first = self.statistic_names.len();
        for (name, shape) in [
            ("running_mean", vec![channels]),
            ("running_var", vec![channels]),
            ("num_batches_tracked", vec![]),
        ] {
            self.statistic_names.push(format!("{module}.1.{name}"));
            self.statistic_shapes.push(shape);
        }
        first
    }

    /// The layers and edges.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where the tensors of edge `e` are.
    pub fn part(&self, e: usize) -> Part {
        self.parts[e]
    }

    /// Names of the trained tensors, as the published program's `state_dict` has them, in its order but for that of the
    /// modules, which is the edges'.
    pub fn parameter_names(&self) -> &[String] {
        &self.names
    }

    /// What they are called in pictures: `input → h1a: weight`, `bias`, and `γ` and `β` of its batch normalisation.
    pub fn parameter_titles(&self) -> Vec<String> {
        let mut titles = self.names.clone();
        let layer = |l: usize| self.network.layers()[l].name.as_str();
        for (edge, part) in self.network.edges().iter().zip(&self.parts) {
            let mut call = |index: usize, what: &str| {
                titles[index] = format!("{} → {}: {what}", layer(edge.pre), layer(edge.post));
            };
            match *part {
                Part::Convolution {
                    weight,
                    bias,
                    gamma,
                    beta,
                    ..
                } => {
                    call(weight, "weight");
                    bias.into_iter().for_each(|bias| call(bias, "bias"));
                    call(gamma, "norm γ");
                    call(beta, "norm β");
                }
                Part::Dense { weight, bias } => {
                    call(weight, "weight");
                    call(bias, "bias");
                }
            }
        }
        titles
    }

    /// Shapes of the trained tensors, PyTorch's: convolutions `(C_post, C_pre, k_y, k_x)`, dense edges `(units, C H W)`.
    pub fn parameter_shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    /// Names of the running statistics; `num_batches_tracked` is a scalar.
    pub fn statistic_names(&self) -> &[String] {
        &self.statistic_names
    }

    /// Shapes of the running statistics, in the order of their names.
    pub fn statistic_shapes(&self) -> &[Vec<usize>] {
        &self.statistic_shapes
    }

    /// Everything zero.
    pub fn zeros(&self) -> ModelState {
        ModelState {
            parameters: ParameterSet::new(Vec::new(), zeros(&self.shapes)),
            statistics: zeros(&self.statistic_shapes),
        }
    }

    /// A fresh network. `resnet13` has PyTorch's initial values, uniform in `+-1/sqrt(fan_in)`; the convolutions of `vgg5`
    /// are normal with variance `2 / (C_post k^2)`.
    pub fn initialise(&self, seed: u64) -> ModelState {
        let mut learned = self.zeros();
        let tensors = learned.parameters.tensors_mut();
        for (e, part) in self.parts.iter().enumerate() {
            let bound = 1.0 / (self.network.fan_in(e) as f64).sqrt();
            let (weight, bias) = match *part {
                Part::Dense { weight, bias } => (weight, Some(bias)),
                Part::Convolution { weight, bias, .. } => (weight, bias),
            };
            for t in bias.into_iter().chain([weight]) {
                // A stream of its own for each tensor, as for Hopfield networks.
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(1 + t as u64);
                let is_normal =
                    self.style == Style::Plain && matches!(part, Part::Convolution { .. });
                let fan_out = (tensors[t].len() / self.shapes[t].get(1).unwrap_or(&1)) as f64;
                tensors[t].mapv_inplace(|_| {
                    let value = match is_normal {
                        true => (2.0 / fan_out).sqrt() * normal(&mut rng),
                        false => bound * (2.0 * rng.random::<f64>() - 1.0),
                    };
                    // Rounded so that an fp32 and an fp64 run of one seed start from the same point.
                    f64::from(value as f32)
                });
            }
            if let Part::Convolution { gamma, .. } = *part {
                tensors[gamma].fill(1.0);
            }
        }
        for part in &self.parts {
            if let Part::Convolution { statistics: at, .. } = *part {
                learned.statistics[at + 1].fill(1.0);
            }
        }
        learned
    }

    /// Takes tensors in the order of the names, checking each shape.
    ///
    /// # Errors
    /// When a tensor is missing, or has another shape.
    pub fn state(
        &self,
        parameters: Vec<ArrayD<f64>>,
        statistics: Vec<ArrayD<f64>>,
    ) -> Result<ModelState, NetworkError> {
        let check = |names: &[String], shapes: &[Vec<usize>], tensors: &[ArrayD<f64>]| {
            if tensors.len() != names.len() {
                return Err(NetworkError(format!(
                    "{} tensors were given, but feed-forward {} has {}",
                    tensors.len(),
                    self.network.name(),
                    names.len()
                )));
            }
            for ((name, shape), tensor) in names.iter().zip(shapes).zip(tensors) {
                if tensor.shape() != &shape[..] {
                    return Err(NetworkError(format!(
                        "{name} has shape {:?}, but feed-forward {} expects {shape:?}",
                        tensor.shape(),
                        self.network.name()
                    )));
                }
            }
            Ok(())
        };
        check(&self.names, &self.shapes, &parameters)?;
        check(&self.statistic_names, &self.statistic_shapes, &statistics)?;
        Ok(ModelState {
            parameters: ParameterSet::new(Vec::new(), parameters),
            statistics,
        })
    }
}

fn zeros(shapes: &[Vec<usize>]) -> Vec<ArrayD<f64>> {
    shapes.iter().map(|s| ArrayD::zeros(IxDyn(s))).collect()
}
