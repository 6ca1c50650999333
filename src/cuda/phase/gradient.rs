//! What a gradient is a product of.

use super::memory::Memory;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::gradient::{Origin, Products};
use std::ffi::c_void;

/// The parts of an EP gradient: mean and half-difference lie on side 1 of the nudged states.
pub fn ep_parts(setup: &Setup, memory: &Memory) -> Vec<Origin> {
    let nudged = memory.nudged.as_ref().expect("the nudged phases have run");
    let rows = |l: usize| {
        nudged[l]
            .component::<c_void>(1, 1, setup.format)
            .cast_const()
    };
    parts(setup, memory, rows, |l, _| {
        let state = &nudged[l];
        (state.sides[1].ptr::<c_void>().cast_const(), state.units)
    })
}

/// The parts of a gradient whose bias gradients are the sums of `rows` of each layer, and whose weight gradients are products of the
/// states: `state` says of a layer, and of the layer that its edge joins it to, where the state lies and how far behind it the second
/// factor. Pooled layers are read where they were unpooled.
pub fn parts(
    setup: &Setup,
    memory: &Memory,
    rows: impl Fn(usize) -> *const c_void,
    state: impl Fn(usize, usize) -> (*const c_void, usize),
) -> Vec<Origin> {
    let network = setup.network();
    let biases = network.free_layers().map(|l| Origin::Rows {
        rows: rows(l),
        count: memory.images * setup.shape(l).pixels(),
    });
    let weights = network.edges().iter().enumerate().map(|(e, edge)| {
        let (post, post_stride) = match &memory.pools[e] {
            Some(pool) => (pool.unpooled.ptr::<c_void>().cast_const(), pool.full_units),
            None => state(edge.post, edge.pre),
        };
        let (pre, pre_stride) = match (edge.pre, &memory.input_operand) {
            (0, Some(operand)) => (operand.ptr::<c_void>().cast_const(), 0),
            (0, None) => (memory.input.ptr::<c_void>().cast_const(), 0),
            (pre, _) => state(pre, edge.post),
        };
        Origin::Products(Products {
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
