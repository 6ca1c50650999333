//! What the cost does to the output. The output is small: slopes and clamped states are computed on the host.

use super::exchange::{decode, encode};
use super::memory::Memory;
use super::states::Kind;
use crate::cuda::machine::abi::{EQ_COST_CE, EQ_COST_MSE};
use crate::cuda::setup::Setup;
use crate::cuda::tables::layout::padded;
use crate::error::Result;
use crate::phase::CostFunction;

/// As kernels know it.
pub fn cost_code(cost: CostFunction) -> u32 {
    match cost {
        CostFunction::Mse => EQ_COST_MSE,
        CostFunction::Ce => EQ_COST_CE,
    }
}

/// `dC/ds_L` at an output, in its layout.
pub fn cost_slope(
    setup: &Setup,
    memory: &Memory,
    cost: CostFunction,
    output: &[f64],
) -> Result<Vec<f64>> {
    let classes = setup.network().classes();
    let channels = padded(classes);
    let mut slope = vec![0.0; output.len()];
    let rows = output.chunks(channels).zip(slope.chunks_mut(channels));
    for ((output, slope), label) in rows.zip(memory.labels.read()?) {
        cost.gradient(&output[..classes], label as usize, &mut slope[..classes]);
    }
    Ok(slope)
}

/// The output of the free state.
pub fn free_output(setup: &Setup, memory: &Memory) -> Result<Vec<f64>> {
    let output = &memory.free[setup.network().output_index()];
    Ok(decode(setup.format, &output.sides[0].read()?))
}

/// Sets the output to `s_L - strength dC/ds_L` of the free state, on both sides, for nothing updates it. `strengths` are those of the
/// two states, or of their mean and half their difference.
pub fn clamp(
    setup: &Setup,
    memory: &Memory,
    kind: Kind,
    cost: CostFunction,
    strengths: [f64; 2],
) -> Result<()> {
    let free = free_output(setup, memory)?;
    let slope = cost_slope(setup, memory, cost, &free)?;
    // The mean of a pair is relative to the free state.
    let start = if kind == Kind::Pair { 0.0 } else { 1.0 };
    let mut values = Vec::with_capacity(2 * free.len());
    for strength in strengths {
        let clamped = free.iter().zip(&slope);
        values.extend(clamped.map(|(s, g)| start * s - strength * g));
    }
    let bytes = encode(setup.format, &values);
    let state = &memory.nudged()[setup.network().output_index()];
    state.sides.iter().try_for_each(|side| side.write(&bytes))
}
