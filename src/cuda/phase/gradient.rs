//! What a gradient is a product of.

use super::batch::Batch;
use super::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::gradient::{Products, TensorGradient};
use std::ffi::c_void;

/// The parts of an EP gradient: mean and half-difference lie on side 1 of the nudged states.
pub fn ep_parts(setup: &Setup, batch: &Batch) -> Vec<TensorGradient> {
    let nudged = batch.nudged.as_ref().expect("the nudged phases have run");
    let rows = |l: usize| {
        nudged[l]
            .component::<c_void>(1, 1, setup.format)
            .cast_const()
    };
    parts(setup, batch, rows, |l, _| {
        let state = &nudged[l];
        (state.sides[1].ptr::<c_void>().cast_const(), state.units)
    })
}

/// The parts of a gradient whose bias gradients are the sums of `rows` of each layer, and whose weight gradients are products of the
/// states: `state` says of a layer, and of the layer that its edge joins it to, where the state lies and how far behind it the second
/// factor. Pooled layers are read where they were unpooled.
pub fn parts(
    setup: &Setup,
    batch: &Batch,
    rows: impl Fn(usize) -> *const c_void,
    state: impl Fn(usize, usize) -> (*const c_void, usize),
) -> Vec<TensorGradient> {
    let network = &setup.network;
    let biases = network.free_layers().map(|l| TensorGradient::Rows {
        rows: rows(l),
        count: batch.images * setup.shape(l).pixels(),
    });
    let weights = network.edges().iter().enumerate().map(|(e, edge)| {
        let (post, post_stride) = match &batch.pools[e] {
            Some(pool) => (pool.unpooled.ptr::<c_void>().cast_const(), pool.full_units),
            None => state(edge.post, edge.pre),
        };
        let (pre, pre_stride) = match (edge.pre, &batch.input_operand) {
            (0, Some(operand)) => (operand.ptr::<c_void>().cast_const(), 0),
            (0, None) => (batch.input.ptr::<c_void>().cast_const(), 0),
            (pre, _) => state(pre, edge.post),
        };
        TensorGradient::Products(Products {
            geometry: Geometry::of(network, e),
            pre,
            pre_stride,
            post,
            post_stride,
            // The image is the same in both states, and has no adjoint.
            one: edge.pre == 0,
        })
    });
    biases.chain(weights).collect()
}
