//! The product of an edge, and its weight as the matrix that is multiplied with.
//!
//! Packed weights are matrices with one row per (`ky`, `kx`, `c_pre`) (for a dense edge: (`y`, `x`, `c_pre`)) and one
//! column per post channel.

use super::conv::ConvGeometry;
use super::pool::Windows;
use super::real::Real;
use crate::network::{Edge, LinearMap, Network, Pooling};
use ndarray::{ArrayD, ArrayView2, IxDyn};

/// How an edge's product is formed.
#[derive(Debug, Clone, Copy)]
pub enum Product {
    /// a convolution, alone or of means
    Conv(ConvGeometry),
    /// a convolution, then max pooling of these windows
    Pooled(ConvGeometry, Windows),
    /// one matrix product over whole images
    Dense,
}

impl Product {
    pub fn of(network: &Network, edge: &Edge) -> Self {
        let shape = |l: usize| network.layers()[l].shape;
        let (pre, channels) = (shape(edge.pre), shape(edge.post).channels);
        let geometry = |conv| ConvGeometry::new(pre, channels, conv);
        match (edge.map, edge.pooling) {
            (LinearMap::Dense, _) => Self::Dense,
            (LinearMap::Conv(conv), Pooling::None) => Self::Conv(geometry(conv)),
            (LinearMap::Conv(conv), Pooling::Average2x2) => {
                Self::Conv(ConvGeometry::averaged(pre, channels, conv))
            }
            (LinearMap::Conv(conv), Pooling::Max2x2) => {
                let geometry = geometry(conv);
                Self::Pooled(geometry, Windows::new(geometry.post))
            }
        }
    }

    /// The convolution of a conv edge, pooled or not.
    pub fn geometry(&self) -> Option<ConvGeometry> {
        match *self {
            Self::Conv(g) | Self::Pooled(g, _) => Some(g),
            Self::Dense => None,
        }
    }
}

/// A packed weight as the matrix it is.
pub fn matrix<T>(packed: &ArrayD<T>) -> ArrayView2<'_, T> {
    packed
        .view()
        .into_dimensionality()
        .expect("a packed weight has two axes")
}

/// `(C, H, W, classes)` to rows (`y`, `x`, `c`) and columns (classes).
pub fn pack_dense<T: Real>(weight: &ArrayD<T>) -> ArrayD<T> {
    let classes = weight.shape()[3];
    let order = weight.view().permuted_axes(IxDyn(&[1, 2, 0, 3]));
    let rows = weight.len() / classes;
    let packed = order.as_standard_layout().into_owned();
    packed
        .into_shape_with_order(IxDyn(&[rows, classes]))
        .expect("a standard layout reshapes")
}

/// The inverse of [`pack_dense`], into a tensor of the weight's own shape.
pub fn unpack_dense<T: Real>(packed: &ArrayD<T>, weight: &mut ArrayD<T>) {
    let &[c, h, w, classes] = weight.shape() else {
        unreachable!("a dense weight has four axes")
    };
    let image = packed.view().into_shape_with_order((h, w, c, classes));
    let image = image.expect("packed weights are contiguous");
    weight.assign(&image.permuted_axes([2, 0, 1, 3]));
}
