//! What all measurements share: the clock, the table's lines, and the limits of the device.

use crate::cuda::machine::abi::EqPackArgs;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels;
use crate::cuda::tables::geometry::{Geometry, classes, taps_down};
use crate::error::Result;
use crate::network::Network;
use ndarray::Array4;
use std::sync::Arc;
use std::time::Instant;

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// what was measured
    pub kernel: &'static str,
    /// of the layer, or the network's name
    pub shape: String,
    /// of one launch or step, mean over the repeats
    pub seconds: f64,
    /// two per multiply-add of live channels; zero padding of images counts, because it is multiplied
    pub operations: f64,
    /// what must move at least once: states read and written, constants, weights
    pub bytes: f64,
}

/// What the device can do at most, measured in the same run.
#[derive(Debug, Clone, Copy)]
pub struct Roofline {
    /// of `mma.sync` in registers
    pub operations_per_second: f64,
    /// of a device-to-device copy, read and written
    pub bytes_per_second: f64,
}

/// How long each measurement repeats.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// how often each launch is run
    pub repeats: usize,
    /// bytes of the copy that measures bandwidth
    pub copy_bytes: usize,
    /// blocks of the product that measures the tensor cores
    pub blocks: usize,
}

pub(super) fn time(
    device: &dyn Device,
    repeats: usize,
    mut body: impl FnMut() -> Result<()>,
) -> Result<f64> {
    body()?;
    device.synchronize()?;
    let start = Instant::now();
    (0..repeats).try_for_each(|_| body())?;
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64() / repeats as f64)
}

/// Measures the two limits of the device.
///
/// # Errors
/// When the device fails, or its memory does not hold the copy.
pub fn roofline(device: &Arc<dyn Device>, effort: Effort) -> Result<Roofline> {
    let (from, to) = (
        Buffer::<u8>::zeros(device, effort.copy_bytes)?,
        Buffer::<u8>::zeros(device, effort.copy_bytes)?,
    );
    let copy = time(&**device, effort.repeats, || {
        to.copy_from(0, &from, 0, effort.copy_bytes)
    })?;
    let args = EqPackArgs {
        packed: to.ptr(),
        ..EqPackArgs::default()
    };
    let product = time(&**device, effort.repeats, || {
        kernels::roofline_mma(&**device, effort.blocks, &args)
    })?;
    Ok(Roofline {
        operations_per_second: 2.0 * kernels::ROOFLINE_PRODUCTS * effort.blocks as f64 / product,
        bytes_per_second: 2.0 * effort.copy_bytes as f64 / copy,
    })
}

/// Multiply-adds of one image on its way down into layer `l`, for each channel of the layer.
pub(super) fn depth_down(network: &Network, l: usize) -> usize {
    let mut depth = 0;
    for class in classes(network, l) {
        let pixels = class.size[0] * class.size[1];
        for (e, _) in network.edges_out_of(l) {
            let g = Geometry::of(network, e);
            depth += pixels * taps_down(e, &g, &class).len() * g.full.channels;
        }
    }
    depth
}

/// Images and labels to measure with.
pub(super) fn synthetic(network: &Network, images: usize) -> (Array4<f32>, Vec<usize>) {
    let shape = network.input().shape;
    let wave =
        |(n, c, y, x): (usize, usize, usize, usize)| ((n + 3 * c + 5 * y + 7 * x) as f32).sin();
    let input = Array4::from_shape_fn((images, shape.channels, shape.height, shape.width), wave);
    (input, (0..images).map(|n| n % network.classes()).collect())
}
