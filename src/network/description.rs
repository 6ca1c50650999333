//! The form in which a network is written down: TOML for users, JSON inside checkpoints.

use super::activation::{Activation, ActivationKind};
use super::check::check_count;
use super::edge::{Convolution, Edge, LinearMap, Pooling};
use super::error::NetworkError;
use super::graph::Network;
use super::initial::Initial;
use super::layer::{Bias, Layer, Shape};
use rand_chacha::ChaCha8Rng;
use serde::de::{self, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::HashMap;
use std::fmt;

/// A whole network; `docs/networks.md` and `examples/networks/` show it in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkDescription {
    /// as the run and its messages call it
    pub name: String,
    /// activation of the hidden layers that name none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationKind>,
    /// the input first, the output last, every edge upwards
    #[serde(rename = "layer")]
    pub layers: Vec<LayerDescription>,
    /// in the order of the parameters
    #[serde(rename = "edge")]
    pub edges: Vec<EdgeDescription>,
}

/// A `[[layer]]` of a network file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerDescription {
    /// by which edges refer to it
    pub name: String,
    /// `[channels, height, width]`, or `[units]` for a flat layer; when absent, the size follows from the first edge into the
    /// layer
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// in the place of a shape: the number of channels alone
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// of a hidden layer; the network's when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationKind>,
    /// upper clip of a `reluclip` layer; drawn from [1, 10] when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// trained when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<BiasKind>,
    /// initial biases are uniform in `+-bias-gain / sqrt(fan_in)`; 0.5 when absent
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "bias-gain")]
    pub bias_gain: Option<f64>,
}

/// What becomes of a layer's bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BiasKind {
    /// it is learnt
    Trained,
    /// it keeps its initial value
    Fixed,
    /// there is none
    None,
}

/// What an edge computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeKind {
    /// a convolution
    Conv,
    /// a convolution, then the largest of each window of 2x2
    ConvMaxPool,
    /// a convolution, then the mean of each window of 2x2
    ConvAvgPool,
    /// every unit with every unit
    Dense,
}

/// Something that is said of rows and columns: one number for both, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AlongAxes {
    /// the same for both
    Same(usize),
    /// rows, then columns
    Each([usize; 2]),
}

impl AlongAxes {
    fn of(pair: [usize; 2]) -> Self {
        match pair {
            [y, x] if y == x => Self::Same(y),
            _ => Self::Each(pair),
        }
    }

    fn pair(self) -> [usize; 2] {
        match self {
            Self::Same(both) => [both; 2],
            Self::Each(pair) => pair,
        }
    }
}

// Not derived, so that an error names the value.
impl<'de> Deserialize<'de> for AlongAxes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AlongAxesVisitor)
    }
}

struct AlongAxesVisitor;

impl<'de> Visitor<'de> for AlongAxesVisitor {
    type Value = AlongAxes;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number of at least 0, or two: [rows, columns]")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<AlongAxes, E> {
        let both = usize::try_from(value);
        both.map(AlongAxes::Same)
            .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<AlongAxes, E> {
        let both = usize::try_from(value);
        both.map(AlongAxes::Same)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<AlongAxes, A::Error> {
        let mut pair = [0; 2];
        for (i, value) in pair.iter_mut().enumerate() {
            let next = sequence.next_element()?;
            *value = next.ok_or_else(|| de::Error::invalid_length(i, &self))?;
        }
        match sequence.next_element::<usize>()? {
            None => Ok(AlongAxes::Each(pair)),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}

/// What a network is to fit, where its description leaves that open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// shape of the images
    pub input: Shape,
    /// number of classes
    pub classes: usize,
}

/// An `[[edge]]` of a network file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeDescription {
    /// name of the lower layer
    pub from: String,
    /// name of the higher layer
    pub to: String,
    /// which map it is
    pub kind: EdgeKind,
    /// side of the kernel; convolutions only
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<AlongAxes>,
    /// 1 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<AlongAxes>,
    /// 0 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<AlongAxes>,
    /// 1 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dilation: Option<AlongAxes>,
    /// 0.5 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// distribution of the initial weights; uniform in `+-gain / sqrt(fan_in)` when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Initial>,
}

const DEFAULT_GAIN: f64 = 0.5;

impl NetworkDescription {
    /// Parses TOML. Unknown keys and missing fields are errors that name the line.
    ///
    /// # Errors
    /// The line and what is wrong there.
    pub fn from_toml(text: &str) -> Result<Self, NetworkError> {
        toml::from_str(text).map_err(|e| NetworkError(one_line(&e, text)))
    }

    /// Checks the description and makes it a network. `rng` draws `reluclip` values that are not given.
    ///
    /// # Errors
    /// When it is no network, or when it leaves the shape of its input or its output open.
    pub fn build(
        &self,
        default_activation: ActivationKind,
        rng: &mut ChaCha8Rng,
    ) -> Result<Network, NetworkError> {
        self.build_between(None, default_activation, rng)
    }

    /// The same; the shapes of the input and the output are those of `ends` where the description leaves them open.
    ///
    /// # Errors
    /// When it is no network.
    pub fn build_between(
        &self,
        ends: Option<Ends>,
        default_activation: ActivationKind,
        rng: &mut ChaCha8Rng,
    ) -> Result<Network, NetworkError> {
        check_count(&self.name, self.layers.len())?;
        let names: HashMap<&str, usize> = (self.layers.iter().enumerate().rev())
            .map(|(l, layer)| (layer.name.as_str(), l))
            .collect();
        self.check_cycles(&names)?;
        let default = self.activation.unwrap_or(default_activation);
        let last = self.layers.len().saturating_sub(1);
        let edges: Result<Vec<_>, _> = self
            .edges
            .iter()
            .map(|e| self.build_edge(e, &names))
            .collect();
        let edges = edges?;
        let shapes = self.shapes(&edges, ends)?;
        let layers: Result<Vec<_>, _> = (self.layers.iter().zip(shapes).enumerate())
            .map(|(l, (layer, shape))| layer.build(shape, l == 0 || l == last, default, rng))
            .collect();
        Network::new(&self.name, layers?, edges)
    }

    /// Shapes of the layers; those that are not said follow, in the order of the file, from the first edge into each.
    fn shapes(&self, edges: &[Edge], ends: Option<Ends>) -> Result<Vec<Shape>, NetworkError> {
        let last = self.layers.len() - 1;
        let mut first_edges: Vec<Option<&Edge>> = vec![None; self.layers.len()];
        for edge in edges.iter().rev() {
            first_edges[edge.post] = Some(edge);
        }
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.layers.len());
        for (l, layer) in self.layers.iter().enumerate() {
            let fail =
                |message: &str| Err(NetworkError(format!("layer {:?}: {message}", layer.name)));
            let channels = layer
                .channels
                .or((ends.filter(|_| l == last)).map(|e| e.classes));
            let shape = match (layer.said_shape()?, ends, channels) {
                (Some(_), _, _) if layer.channels.is_some() => {
                    return fail("give either `shape` or `channels`, not both");
                }
                (Some(shape), _, _) => shape,
                (None, Some(ends), _) if l == 0 => match layer.channels {
                    Some(channels) if channels != ends.input.channels => {
                        return fail(&format!(
                            "it has {channels} channels, but the images have {}",
                            ends.input.channels
                        ));
                    }
                    _ => ends.input,
                },
                (None, _, Some(channels)) if l > 0 => {
                    let output = first_edges[l].and_then(|edge| {
                        let full = edge.map.output(shapes[edge.pre], channels)?;
                        Some(edge.pooling.output(full))
                    });
                    match output {
                        Some(shape) => shape,
                        None => {
                            return fail(
                                "its size does not follow: no edge into it, or a kernel that is larger than the image; give its `shape`",
                            );
                        }
                    }
                }
                _ => {
                    return fail(
                        "it needs a `shape`, or `channels` if its size follows from the edges into it",
                    );
                }
            };
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// The description of a network, complete enough to build the same one again.
    pub fn of(network: &Network) -> Self {
        let layers = network.layers().iter().map(|layer| {
            let (activation, bias) = (layer.activation, layer.bias);
            let kind = (activation != Activation::LINEAR).then(|| activation.kind());
            LayerDescription {
                name: layer.name.clone(),
                shape: Some(vec![
                    layer.shape.channels,
                    layer.shape.height,
                    layer.shape.width,
                ]),
                channels: None,
                activation: kind,
                clip: activation.clip(),
                bias: (bias != Bias::PUBLISHED).then_some(match bias {
                    Bias::ABSENT => BiasKind::None,
                    Bias { trained: true, .. } => BiasKind::Trained,
                    Bias { trained: false, .. } => BiasKind::Fixed,
                }),
                bias_gain: (bias != Bias::PUBLISHED && bias != Bias::ABSENT).then_some(bias.gain),
            }
        });
        let name = |l: usize| network.layers()[l].name.clone();
        let edges = network.edges().iter().map(|edge| {
            let (kind, conv) = match (edge.map, edge.pooling) {
                (LinearMap::Conv(conv), Pooling::None) => (EdgeKind::Conv, Some(conv)),
                (LinearMap::Conv(conv), Pooling::Max2x2) => (EdgeKind::ConvMaxPool, Some(conv)),
                (LinearMap::Conv(conv), Pooling::Average2x2) => (EdgeKind::ConvAvgPool, Some(conv)),
                (LinearMap::Dense, _) => (EdgeKind::Dense, None),
            };
            EdgeDescription {
                from: name(edge.pre),
                to: name(edge.post),
                kind,
                kernel: conv.map(|c| AlongAxes::of(c.kernel)),
                stride: conv.map(|c| AlongAxes::of(c.stride)),
                padding: conv.map(|c| AlongAxes::of(c.padding)),
                dilation: conv
                    .map(|c| c.dilation)
                    .filter(|d| *d != [1, 1])
                    .map(AlongAxes::of),
                gain: Some(edge.gain),
                initial: (edge.initial != Initial::default()).then_some(edge.initial),
            }
        });
        Self {
            name: network.name().to_string(),
            activation: None,
            layers: layers.collect(),
            edges: edges.collect(),
        }
    }

    fn layer_index(
        &self,
        name: &str,
        names: &HashMap<&str, usize>,
        edge: &EdgeDescription,
    ) -> Result<usize, NetworkError> {
        names.get(name).copied().ok_or_else(|| {
            let known: Vec<_> = self.layers.iter().map(|l| l.name.as_str()).collect();
            NetworkError(format!(
                "edge {} -> {}: there is no layer {name:?}; the layers are {}",
                edge.from,
                edge.to,
                known.join(", ")
            ))
        })
    }

    fn build_edge(
        &self,
        edge: &EdgeDescription,
        names: &HashMap<&str, usize>,
    ) -> Result<Edge, NetworkError> {
        let fail =
            |message: &str| NetworkError(format!("edge {} -> {}: {message}", edge.from, edge.to));
        let pre = self.layer_index(&edge.from, names, edge)?;
        let post = self.layer_index(&edge.to, names, edge)?;
        if pre >= post {
            return Err(fail(
                "edges must point to a layer further down in the file; list the layers from input to output",
            ));
        }
        let conv = || {
            let pair = |value: Option<AlongAxes>, default| {
                value.unwrap_or(AlongAxes::Same(default)).pair()
            };
            Ok(Convolution {
                kernel: edge
                    .kernel
                    .ok_or_else(|| fail("a convolution needs `kernel`"))?
                    .pair(),
                stride: pair(edge.stride, 1),
                padding: pair(edge.padding, 0),
                dilation: pair(edge.dilation, 1),
            })
        };
        let (map, pooling) = match edge.kind {
            EdgeKind::Conv => (LinearMap::Conv(conv()?), Pooling::None),
            EdgeKind::ConvMaxPool => (LinearMap::Conv(conv()?), Pooling::Max2x2),
            EdgeKind::ConvAvgPool => (LinearMap::Conv(conv()?), Pooling::Average2x2),
            EdgeKind::Dense => {
                let spatial = edge.kernel.or(edge.stride).or(edge.padding);
                if spatial.or(edge.dilation).is_some() {
                    return Err(fail(
                        "a dense edge takes no kernel, stride, padding or dilation",
                    ));
                }
                (LinearMap::Dense, Pooling::None)
            }
        };
        Ok(Edge {
            pre,
            post,
            map,
            pooling,
            initial: edge.initial.unwrap_or_default(),
            gain: edge.gain.unwrap_or(DEFAULT_GAIN),
        })
    }

    /// A cycle gets a message of its own, which names the layers on it: a depth-first search from each layer that none
    /// before has reached, with a path of our own instead of the call stack, so that a long chain does not overflow it.
    fn check_cycles(&self, names: &HashMap<&str, usize>) -> Result<(), NetworkError> {
        let mut above = vec![Vec::new(); self.layers.len()];
        for edge in &self.edges {
            if let (Some(&from), Some(&to)) = (names.get(&*edge.from), names.get(&*edge.to)) {
                above[from].push(to);
            }
        }
        // How many of a layer's edges have been followed; a layer that is on the path now, or was.
        let mut followed = vec![0; self.layers.len()];
        let (mut on_path, mut seen) = (
            vec![false; self.layers.len()],
            vec![false; self.layers.len()],
        );
        for start in 0..self.layers.len() {
            let mut path = vec![];
            if !seen[start] {
                path.push(start);
            }
            while let Some(&here) = path.last() {
                (seen[here], on_path[here]) = (true, true);
                let next = above[here].get(followed[here]).copied();
                followed[here] += 1;
                match next {
                    None => {
                        on_path[here] = false;
                        path.pop();
                    }
                    Some(next) if on_path[next] => {
                        let first = path.iter().position(|&l| l == next).unwrap_or(0);
                        let cycle = path[first..].iter().chain([&next]);
                        let cycle: Vec<_> = cycle.map(|&l| self.layers[l].name.as_str()).collect();
                        return Err(NetworkError(format!(
                            "the edges form a cycle: {}",
                            cycle.join(" -> ")
                        )));
                    }
                    Some(next) if !seen[next] => path.push(next),
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

impl LayerDescription {
    /// The shape that the description gives.
    fn said_shape(&self) -> Result<Option<Shape>, NetworkError> {
        match self.shape.as_deref() {
            None => Ok(None),
            Some(&[units]) => Ok(Some(Shape::flat(units))),
            Some(&[channels, height, width]) => Ok(Some(Shape::new(channels, height, width))),
            Some(other) => Err(NetworkError(format!(
                "layer {:?}: shape {other:?} has {} numbers; expected [channels, height, width] or [units]",
                self.name,
                other.len()
            ))),
        }
    }

    fn build(
        &self,
        shape: Shape,
        is_end: bool,
        default: ActivationKind,
        rng: &mut ChaCha8Rng,
    ) -> Result<Layer, NetworkError> {
        let fail = |message: String| NetworkError(format!("layer {:?}: {message}", self.name));
        let activation = match (self.activation, self.clip) {
            (None, None) if is_end => Activation::LINEAR,
            _ if is_end => {
                return Err(fail(
                    "the input and the output are linear and take no activation or clip".into(),
                ));
            }
            (kind, None) => kind.unwrap_or(default).draw(rng),
            (kind, clip) => Activation::new(kind.unwrap_or(default), clip)
                .ok_or_else(|| fail("`clip` goes with activation = \"reluclip\"".into()))?,
        };
        Ok(Layer {
            name: self.name.clone(),
            shape,
            activation,
            bias: self.build_bias().map_err(fail)?,
        })
    }

    fn build_bias(&self) -> Result<Bias, String> {
        let gain = self.bias_gain.unwrap_or(Bias::PUBLISHED.gain);
        match (self.bias, self.bias_gain) {
            (Some(BiasKind::None), Some(gain)) => Err(format!(
                "bias-gain is {gain}, but bias = \"none\" says that there is no bias; leave one of them out"
            )),
            (Some(BiasKind::None), None) => Ok(Bias::ABSENT),
            (kind, _) if gain.is_finite() && gain >= 0.0 => Ok(Bias {
                gain,
                trained: kind != Some(BiasKind::Fixed),
            }),
            _ => Err(format!(
                "bias-gain is {gain}; expected a number that is not negative"
            )),
        }
    }
}

/// TOML's own error is a picture over several lines; a message of ours is one line.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line =
        (error.span()).map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message().replace('\n', " ");
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}
