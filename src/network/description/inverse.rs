//! The description of a network that there is.

use super::along_axes::AlongAxes;
use super::{BiasKind, EdgeDescription, EdgeKind, LayerDescription, NetworkDescription};
use crate::network::activation::Activation;
use crate::network::edge::{LinearMap, Pooling};
use crate::network::graph::Network;
use crate::network::initial::Initial;
use crate::network::layer::Bias;

impl NetworkDescription {
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
}
