//! A network from its description.

use super::along_axes::AlongAxes;
use super::cycles::check_cycles;
use super::{BiasKind, EdgeDescription, EdgeKind, Ends, LayerDescription, NetworkDescription};
use crate::network::activation::{Activation, ActivationKind};
use crate::network::check::check_count;
use crate::network::edge::{Convolution, Edge, LinearMap, Pooling};
use crate::network::error::NetworkError;
use crate::network::graph::Network;
use crate::network::layer::{Bias, Layer, Shape};
use crate::shown::shown;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

const DEFAULT_GAIN: f64 = 0.5;

impl NetworkDescription {
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
        check_cycles(self, &names)?;
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
                shown(&edge.from),
                shown(&edge.to),
                shown(known.join(", "))
            ))
        })
    }

    fn build_edge(
        &self,
        edge: &EdgeDescription,
        names: &HashMap<&str, usize>,
    ) -> Result<Edge, NetworkError> {
        let ends = [&edge.from, &edge.to].map(shown).join(" -> ");
        let fail = |message: &str| NetworkError(format!("edge {ends}: {message}"));
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
