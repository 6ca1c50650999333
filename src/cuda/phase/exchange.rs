//! States between the layout of the device and that of the interface: `(N, C, H, W)`, or `(N, classes)` for the output, in f64.

use super::memory::Memory;
use super::states::Kind;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels::Format;
use crate::cuda::setup::Setup;
use crate::cuda::tables::layout::{padded, padded_units};
use crate::error::Result;
use crate::network::Shape;
use crate::phase::{PhaseState, as_images};
use half::f16;
use ndarray::{ArrayD, IxDyn};

/// Values of the operand format.
pub fn decode(format: Format, bytes: &[u8]) -> Vec<f64> {
    let value16 = |b: &[u8]| f64::from(f16::from_le_bytes([b[0], b[1]]));
    let value32 = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    match format {
        Format::F32 => bytes.chunks_exact(4).map(value32).collect(),
        Format::F16 => bytes.chunks_exact(2).map(value16).collect(),
    }
}

/// The inverse of [`decode`].
pub fn encode(format: Format, values: &[f64]) -> Vec<u8> {
    format.encode(values.iter().map(|&v| v as f32))
}

/// Layer `l` from the values of a state.
pub fn export(setup: &Setup, l: usize, images: usize, values: &[f64]) -> ArrayD<f64> {
    let shape = setup.shape(l);
    let mut out = ArrayD::zeros(IxDyn(&[images, shape.channels, shape.height, shape.width]));
    for_each_unit(shape, images, |index, at| out[&index[..]] = values[at]);
    if l == setup.network().output_index() {
        let flat = IxDyn(&[images, shape.channels]);
        return out
            .into_shape_with_order(flat)
            .expect("the output has one pixel");
    }
    out
}

/// The inverse of [`export`].
pub fn import(setup: &Setup, l: usize, state: &ArrayD<f64>) -> Result<Vec<f64>> {
    let shape = setup.shape(l);
    let state = as_images(l, shape, state)?;
    let images = state.dim().0;
    let mut values = vec![0.0; images * padded_units(shape)];
    for_each_unit(shape, images, |index, at| values[at] = state[index]);
    Ok(values)
}

/// Layer `l` of a state that lies in `buffer`.
pub fn read(setup: &Setup, l: usize, images: usize, buffer: &Buffer<u8>) -> Result<ArrayD<f64>> {
    let values = decode(setup.format, &buffer.read()?);
    Ok(export(setup, l, images, &values))
}

/// Layer `l` of one of two nudged states.
pub fn read_nudged(
    setup: &Setup,
    memory: &Memory,
    kind: Kind,
    which: PhaseState,
    l: usize,
) -> Result<ArrayD<f64>> {
    let nudged = &memory.nudged()[l];
    let both = decode(setup.format, &nudged.sides[0].read()?);
    let (first, second) = both.split_at(nudged.units);
    let is_first = which == PhaseState::First;
    let values = match kind {
        // Their mean, from the free state on, and half their difference.
        Kind::Pair => {
            let free = decode(setup.format, &memory.free[l].sides[0].read()?);
            let sign = if is_first { -1.0 } else { 1.0 };
            let units = free.iter().zip(first).zip(second);
            units.map(|((s0, q), d)| s0 + q + sign * d).collect()
        }
        _ if is_first => first.to_vec(),
        _ => second.to_vec(),
    };
    Ok(export(setup, l, memory.images, &values))
}

/// Visits the units of a state: index `(n, c, y, x)` and position in the padded NHWC layout.
fn for_each_unit(shape: Shape, images: usize, mut visit: impl FnMut([usize; 4], usize)) {
    let channels = padded(shape.channels);
    for n in 0..images {
        for y in 0..shape.height {
            for x in 0..shape.width {
                let pixel = (n * shape.height + y) * shape.width + x;
                for c in 0..shape.channels {
                    visit([n, c, y, x], pixel * channels + c);
                }
            }
        }
    }
}
