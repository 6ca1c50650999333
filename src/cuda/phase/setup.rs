//! What a backend and its batches share.

use crate::cuda::machine::device::Device;
use crate::cuda::machine::kernels::{Format, Relax};
use crate::cuda::tables::layout::{Layout, padded_units};
use crate::network::{Network, Shape};
use std::sync::Arc;

/// What does not change while a backend lives.
pub struct Setup {
    pub device: Arc<dyn Device>,
    pub network: Network,
    pub layout: Arc<Layout>,
    pub format: Format,
    pub relax: Relax,
}

impl Setup {
    pub fn shape(&self, l: usize) -> Shape {
        self.network.layers()[l].shape
    }

    /// Tensor of free layer `l`'s bias.
    pub fn bias(&self, l: usize) -> usize {
        l - 1
    }

    /// Whether an edge comes from the input: the constant part of the layer's pre-activation is more than a bias.
    pub fn is_driven(&self, l: usize) -> bool {
        self.network.edges_into(l).any(|(_, edge)| edge.pre == 0)
    }

    /// The bounds of layer `l`'s units.
    pub fn bounds(&self, l: usize) -> (f32, f32) {
        let bounds = self.network.layers()[l].activation.bounds();
        let (low, high) = bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        (low as f32, high as f32)
    }

    /// Units of a layer per image, with the padding of channels.
    pub fn units(&self, l: usize) -> usize {
        padded_units(self.shape(l))
    }
}
