//! What the gradient of equilibrium propagation is a product of.

use super::batch::Batch;
use super::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::gradient::{Origin, Products};
use std::ffi::c_void;

/// The parts of an EP gradient: mean and half-difference lie on side 1 of the nudged states.
pub fn ep_parts(setup: &Setup, batch: &Batch) -> Vec<Origin> {
    let network = &setup.network;
    let nudged = batch.nudged.as_ref().expect("the nudged phases have run");
    let state = |l: usize| {
        let state = &nudged[l];
        (state.sides[1].ptr::<c_void>().cast_const(), state.units)
    };
    let biases = network.free_layers().map(|l| Origin::Rows {
        rows: nudged[l].component::<c_void>(1, 1, setup.format),
        count: batch.images * setup.shape(l).pixels(),
    });
    let weights = network.edges().iter().enumerate().map(|(e, edge)| {
        let (post, post_stride) = match &batch.pools[e] {
            Some(pool) => (pool.unpooled.ptr::<c_void>().cast_const(), pool.full_units),
            None => state(edge.post),
        };
        let (pre, pre_stride) = match (edge.pre, &batch.input_operand) {
            (0, Some(operand)) => (operand.ptr::<c_void>().cast_const(), 0),
            (0, None) => (batch.input.ptr::<c_void>().cast_const(), 0),
            (pre, _) => state(pre),
        };
        Origin::Products(Products {
            geometry: Geometry::of(network, e),
            pre,
            pre_stride,
            post,
            post_stride,
            // The input is the same in both states: it has no difference.
            one: edge.pre == 0,
        })
    });
    biases.chain(weights).collect()
}
