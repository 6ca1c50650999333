//! The form in which a network is written down: TOML for users, JSON inside checkpoints.

use super::presets::ActivationKind;
use super::{Activation, Convolution, Edge, Layer, Network, NetworkError, Op, Shape};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A whole network; `docs/networks.md` and `examples/networks/` show it in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkDescription {
    pub name: String,
    /// activation of the hidden layers that name none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationKind>,
    /// the input first, the output last, every edge upwards
    #[serde(rename = "layer")]
    pub layers: Vec<LayerDescription>,
    #[serde(rename = "edge")]
    pub edges: Vec<EdgeDescription>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerDescription {
    pub name: String,
    /// `[channels, height, width]`, or `[units]` for a flat layer
    pub shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationKind>,
    /// upper clip of a `reluclip` layer; drawn from [1, 10] when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeKind {
    Conv,
    ConvMaxPool,
    Dense,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeDescription {
    /// name of the lower layer
    pub from: String,
    /// name of the higher layer
    pub to: String,
    pub kind: EdgeKind,
    /// side of the kernel; convolutions only
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<usize>,
    /// 1 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// 0 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<usize>,
    /// 0.5 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
}

const DEFAULT_GAIN: f64 = 0.5;

impl NetworkDescription {
    /// Parses TOML. Unknown keys and missing fields are errors that name the line.
    pub fn from_toml(text: &str) -> Result<Self, NetworkError> {
        toml::from_str(text).map_err(|e| NetworkError(one_line(&e, text)))
    }

    /// Checks the description and makes it a network. `rng` draws `reluclip` values that are not given.
    pub fn build(
        &self,
        default_activation: ActivationKind,
        rng: &mut ChaCha8Rng,
    ) -> Result<Network, NetworkError> {
        self.check_cycles()?;
        let default = self.activation.unwrap_or(default_activation);
        let last = self.layers.len().saturating_sub(1);
        let layers: Result<Vec<_>, _> = (self.layers.iter().enumerate())
            .map(|(l, layer)| layer.build(l == 0 || l == last, default, rng))
            .collect();
        let edges: Result<Vec<_>, _> = self.edges.iter().map(|e| self.build_edge(e)).collect();
        Network::new(&self.name, layers?, edges?)
    }

    /// The description of a network, complete enough to build the same one again.
    pub fn of(network: &Network) -> Self {
        let layers = network.layers().iter().map(|layer| {
            let (activation, clip) = match layer.activation {
                Activation::HardSigmoid => (Some(ActivationKind::HardSigmoid), None),
                Activation::Relu6 => (Some(ActivationKind::Relu6), None),
                Activation::ReluClip(max) => (Some(ActivationKind::ReluClip), Some(max)),
                Activation::Linear => (None, None),
            };
            LayerDescription {
                name: layer.name.clone(),
                shape: vec![layer.shape.channels, layer.shape.height, layer.shape.width],
                activation,
                clip,
            }
        });
        let name = |l: usize| network.layers()[l].name.clone();
        let edges = network.edges().iter().map(|edge| {
            let (kind, conv) = match edge.op {
                Op::Conv(conv) => (EdgeKind::Conv, Some(conv)),
                Op::ConvMaxPool(conv) => (EdgeKind::ConvMaxPool, Some(conv)),
                Op::Dense => (EdgeKind::Dense, None),
            };
            EdgeDescription {
                from: name(edge.pre),
                to: name(edge.post),
                kind,
                kernel: conv.map(|c| c.kernel),
                stride: conv.map(|c| c.stride),
                padding: conv.map(|c| c.padding),
                gain: Some(edge.gain),
            }
        });
        Self {
            name: network.name().to_string(),
            activation: None,
            layers: layers.collect(),
            edges: edges.collect(),
        }
    }

    fn layer_index(&self, name: &str, edge: &EdgeDescription) -> Result<usize, NetworkError> {
        let index = self.layers.iter().position(|layer| layer.name == name);
        index.ok_or_else(|| {
            let known: Vec<_> = self.layers.iter().map(|l| l.name.as_str()).collect();
            NetworkError(format!(
                "edge {} -> {}: there is no layer {name:?}; the layers are {}",
                edge.from,
                edge.to,
                known.join(", ")
            ))
        })
    }

    fn build_edge(&self, edge: &EdgeDescription) -> Result<Edge, NetworkError> {
        let fail =
            |message: &str| NetworkError(format!("edge {} -> {}: {message}", edge.from, edge.to));
        let pre = self.layer_index(&edge.from, edge)?;
        let post = self.layer_index(&edge.to, edge)?;
        if pre >= post {
            return Err(fail(
                "edges must point to a layer further down in the file; list the layers from input to output",
            ));
        }
        let conv = || {
            Ok(Convolution {
                kernel: edge
                    .kernel
                    .ok_or_else(|| fail("a convolution needs `kernel`"))?,
                stride: edge.stride.unwrap_or(1),
                padding: edge.padding.unwrap_or(0),
            })
        };
        let op = match edge.kind {
            EdgeKind::Conv => Op::Conv(conv()?),
            EdgeKind::ConvMaxPool => Op::ConvMaxPool(conv()?),
            EdgeKind::Dense => {
                if edge.kernel.or(edge.stride).or(edge.padding).is_some() {
                    return Err(fail("a dense edge takes no kernel, stride or padding"));
                }
                Op::Dense
            }
        };
        Ok(Edge {
            pre,
            post,
            op,
            gain: edge.gain.unwrap_or(DEFAULT_GAIN),
        })
    }

    /// A cycle gets a message of its own, which names the layers on it.
    fn check_cycles(&self) -> Result<(), NetworkError> {
        for start in &self.layers {
            let mut path = vec![start.name.as_str()];
            if self.walk_to(&start.name, &mut path, &mut HashSet::new()) {
                return Err(NetworkError(format!(
                    "the edges form a cycle: {}",
                    path.join(" -> ")
                )));
            }
        }
        Ok(())
    }

    /// Depth-first search for a way back to `goal`; `path` holds it when there is one.
    fn walk_to<'a>(
        &'a self,
        goal: &str,
        path: &mut Vec<&'a str>,
        seen: &mut HashSet<&'a str>,
    ) -> bool {
        let here = *path.last().expect("a path starts with a layer");
        for edge in self.edges.iter().filter(|e| e.from == here) {
            path.push(&edge.to);
            let fresh = seen.insert(&edge.to);
            if edge.to == goal || (fresh && self.walk_to(goal, path, seen)) {
                return true;
            }
            path.pop();
        }
        false
    }
}

impl LayerDescription {
    fn build(
        &self,
        is_end: bool,
        default: ActivationKind,
        rng: &mut ChaCha8Rng,
    ) -> Result<Layer, NetworkError> {
        let fail = |message: String| NetworkError(format!("layer {:?}: {message}", self.name));
        let shape = match self.shape[..] {
            [units] => Shape::flat(units),
            [channels, height, width] => Shape::new(channels, height, width),
            _ => {
                return Err(fail(format!(
                    "shape {:?} has {} numbers; expected [channels, height, width] or [units]",
                    self.shape,
                    self.shape.len()
                )));
            }
        };
        let activation = match (self.activation, self.clip) {
            (None, None) if is_end => Activation::Linear,
            _ if is_end => {
                return Err(fail(
                    "the input and the output are linear and take no activation or clip".into(),
                ));
            }
            (kind, clip) => match (kind.unwrap_or(default), clip) {
                (ActivationKind::ReluClip, Some(max)) => Activation::ReluClip(max),
                (kind, None) => kind.draw(rng),
                (_, Some(_)) => {
                    return Err(fail("`clip` goes with activation = \"reluclip\"".into()));
                }
            },
        };
        Ok(Layer {
            name: self.name.clone(),
            shape,
            activation,
        })
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
