//! Max pooling of an edge: what is pooled, where it is largest, and what goes down through the same positions.

use super::states::{Representation, States, halves};
use super::weights::PackedNetwork;
use crate::cpu::ops::conv::ConvGeometry;
use crate::cpu::ops::filter::Bordered;
use crate::cpu::ops::pool::Windows;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use ndarray::{Array2, ArrayView2, Axis, CowArray};

/// `conv(s_pre)` of a max-pool edge and where its windows are largest, kept until `s_pre` changes: the way down from the
/// post layer needs the same positions as the way up.
#[derive(Clone)]
pub struct MaxPooling<T> {
    /// version of the pre layer that this was computed from; 0: of none
    pub version: u64,
    pub full: Array2<T>,
    pub argmax: Vec<u8>,
    /// the post state at the positions of the maxima, as it was sent down last
    unpooled: Array2<T>,
}

impl<T: Real> MaxPooling<T> {
    pub fn new() -> Self {
        Self {
            version: 0,
            full: Array2::zeros((0, 0)),
            argmax: Vec::new(),
            unpooled: Array2::zeros((0, 0)),
        }
    }

    /// Of a pre state or, `is_pair`, of the mean and half-difference of two.
    pub fn of(
        packed: &PackedNetwork<T>,
        e: usize,
        x: ArrayView2<T>,
        is_pair: bool,
        scratch: &mut Bordered<T>,
    ) -> Self {
        let mut pooling = Self::new();
        pooling.convolve(packed, e, x, scratch);
        pooling.find_maxima(packed, e, is_pair);
        pooling
    }

    /// Computes what is pooled.
    pub fn convolve(
        &mut self,
        packed: &PackedNetwork<T>,
        e: usize,
        x: ArrayView2<T>,
        scratch: &mut Bordered<T>,
    ) {
        let (g, _) = geometry(packed, e);
        let images = x.nrows() / g.pre.pixels();
        reshape(&mut self.full, (images * g.post.pixels(), g.post.channels));
        self.full.fill(T::zero());
        packed.up(e).add(x, self.full.view_mut(), scratch);
    }

    /// Finds where the windows are largest.
    pub fn find_maxima(&mut self, packed: &PackedNetwork<T>, e: usize, is_pair: bool) {
        let (_, windows) = geometry(packed, e);
        let Self { full, argmax, .. } = self;
        let images = full.nrows() / windows.full.pixels();
        argmax.resize(images * windows.pooled.units(), 0);
        if is_pair {
            let (mean, half) = halves(full.view());
            let middle = argmax.len() / 2;
            let (minus, plus) = argmax.split_at_mut(middle);
            windows.argmax_pair(mean, half, minus, plus);
        } else {
            windows.argmax(full.view(), argmax);
        }
    }

    /// The post state at the resolution of the convolution, with as many images as were pooled.
    pub fn unpool(
        &mut self,
        packed: &PackedNetwork<T>,
        states: &States<T>,
        e: usize,
    ) -> &mut Array2<T> {
        let (_, windows) = geometry(packed, e);
        let post = packed.network.edges()[e].post;
        let Self {
            full,
            argmax,
            unpooled,
            ..
        } = self;
        reshape(unpooled, full.dim());
        let is_pooled_apart = argmax.len() > states.layer(post).len();
        let layer = if is_pooled_apart {
            CowArray::from(states.doubled(post))
        } else {
            CowArray::from(states.layer(post))
        };
        if states.representation() == Representation::SumDifference
            && (is_pooled_apart || states.is_apart(post))
        {
            let (mean, half) = halves(layer.view());
            let (minus, plus) = argmax.split_at(argmax.len() / 2);
            let middle = full.nrows() / 2;
            let (mean_out, half_out) = unpooled.view_mut().split_at(Axis(0), middle);
            windows.unpool_pair(mean, half, minus, plus, mean_out, half_out);
        } else {
            windows.unpool(layer.view(), argmax, unpooled.view_mut());
        }
        unpooled
    }
}

/// A post state at the resolution of its max-pool edge's convolution, at the positions `maxima`.
pub fn unpooled<T: Real>(
    packed: &PackedNetwork<T>,
    e: usize,
    post: ArrayView2<T>,
    maxima: &[u8],
) -> Array2<T> {
    let (g, windows) = geometry(packed, e);
    let images = post.nrows() / windows.pooled.pixels();
    let mut full = Array2::zeros((images * g.post.pixels(), g.post.channels));
    windows.unpool(post, maxima, full.view_mut());
    full
}

fn geometry<T: Real>(packed: &PackedNetwork<T>, e: usize) -> (ConvGeometry, Windows) {
    let Product::Pooled(geometry, windows) = packed.products[e] else {
        unreachable!("only max-pool edges pool")
    };
    (geometry, windows)
}

/// Gives an array another shape, if it has not that shape already; what it holds is then lost.
fn reshape<T: Real>(array: &mut Array2<T>, shape: (usize, usize)) {
    if array.dim() != shape {
        *array = Array2::zeros(shape);
    }
}
