//! What a backend and its batches share.

use super::machine::device::Device;
use super::machine::kernels::{Format, Relax};
use super::tables::layout::{Layout, padded, padded_units};
use crate::feedforward::FeedForward;
use crate::network::{Network, Shape};
use std::sync::Arc;

/// What does not change while the backend of a model lives.
pub struct Setup<M = Network> {
    pub device: Arc<dyn Device>,
    pub model: M,
    pub layout: Arc<Layout>,
    pub format: Format,
    pub relax: Relax,
}

/// What has layers and edges.
pub trait Model {
    fn network(&self) -> &Network;
}

impl Model for Network {
    fn network(&self) -> &Network {
        self
    }
}

impl Model for FeedForward {
    fn network(&self) -> &Network {
        self.network()
    }
}

impl<M: Model> Setup<M> {
    /// The kernels for a model whose tensors lie as in `layout`.
    pub fn new(device: Arc<dyn Device>, model: M, layout: Layout, format: Format) -> Self {
        let network = model.network();
        let widths = network
            .free_layers()
            .map(|l| padded(network.layers()[l].shape.channels));
        let widest = widths.max().unwrap_or(0);
        Self {
            relax: Relax::choose(format, widest, device.capabilities()),
            layout: Arc::new(layout),
            device,
            model,
            format,
        }
    }

    pub fn network(&self) -> &Network {
        self.model.network()
    }

    pub fn shape(&self, l: usize) -> Shape {
        self.network().layers()[l].shape
    }

    /// Units of a layer per image, with the padding of channels.
    pub fn units(&self, l: usize) -> usize {
        padded_units(self.shape(l))
    }

    /// Whether an edge comes from the input: the constant part of the layer's pre-activation is more than a bias.
    pub fn sees_input(&self, l: usize) -> bool {
        self.network().edges_into(l).any(|(_, edge)| edge.pre == 0)
    }

    /// The bounds of layer `l`'s units.
    pub fn bounds(&self, l: usize) -> (f32, f32) {
        let bounds = self.network().layers()[l].activation.bounds();
        let (low, high) = bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        (low as f32, high as f32)
    }
}

impl Setup {
    /// Tensor of free layer `l`'s bias.
    pub fn bias(&self, l: usize) -> usize {
        l - 1
    }
}
