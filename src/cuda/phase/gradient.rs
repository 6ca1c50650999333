//! What a gradient is a product of.

use super::memory::Memory;
use super::states::Kind;
use crate::cuda::machine::abi::EqStateArgs;
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::products::{Products, TensorGradient};
use crate::error::Result;
use std::ffi::c_void;

/// Where a gradient estimate takes the derivative of `dE/dtheta` along the difference of the two states.
#[derive(Clone, Copy, PartialEq)]
pub enum GradientAt {
    /// half-way, which makes it their difference
    Mean,
    FreeState,
}

/// Writes the gradient's two factors to side 1 of the nudged states: the state that the derivative is taken at, and half the difference of
/// the two.
pub fn factors(setup: &Setup, memory: &Memory, kind: Kind, at: GradientAt) -> Result<()> {
    let format = setup.format;
    let nudged = memory.nudged();
    for l in setup.network().free_layers() {
        if kind == Kind::Response {
            let [response, operands] = &nudged[l].sides;
            let bytes = nudged[l].units * format.bytes();
            operands.copy_from(bytes, response, 0, bytes)?;
        } else {
            let args = EqStateArgs {
                out_first: nudged[l].component(1, 0, format),
                out_second: nudged[l].component(1, 1, format),
                ..memory.both_states(kind, l, format)
            };
            kernels::mean_and_half(&*setup.device, format, &args)?;
        }
        if at == GradientAt::FreeState {
            let free = &memory.free[l].sides[0];
            nudged[l].sides[1].copy_from(0, free, 0, free.len())?;
        }
    }
    Ok(())
}

/// The parts of an EP gradient: mean and half-difference lie on side 1 of the nudged states.
pub fn ep_parts(setup: &Setup, memory: &Memory) -> Vec<TensorGradient> {
    let nudged = memory.nudged();
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
) -> Vec<TensorGradient> {
    let network = setup.network();
    let biases = network.free_layers().map(|l| TensorGradient::Rows {
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
