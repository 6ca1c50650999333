//! Max-pool edges: their memory, and the two launches that bring one up to date.

use super::setup::Setup;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::layout::padded_units;
use crate::cuda::tables::sweep::Sweep;
use anyhow::Result;

/// Buffers of a max-pool edge.
pub struct Pool {
    /// units of the convolution's output, and after pooling; all images
    pub full_units: usize,
    /// conv(s0), and its maxima
    pub full_free: Buffer<f32>,
    pub argmax_free: Buffer<u8>,
    /// the same of two components
    pub full: Buffer<f32>,
    pub argmax: Buffer<u8>,
    /// the post state at the convolution's resolution; two components
    pub unpooled: Buffer<u8>,
}

impl Pool {
    pub fn new(setup: &Setup, e: usize, images: usize) -> Result<Option<Self>> {
        let g = Geometry::of(&setup.network, e);
        if !g.pooled {
            return Ok(None);
        }
        let device = &setup.device;
        let full_units = images * padded_units(g.full);
        let pooled = images * setup.units(setup.network.edges()[e].post);
        Ok(Some(Self {
            full_units,
            full_free: Buffer::new(device, full_units)?,
            argmax_free: Buffer::new(device, pooled)?,
            full: Buffer::new(device, 2 * full_units)?,
            argmax: Buffer::new(device, 2 * pooled)?,
            // Zeros, because pooling drops a last odd row or column, and nothing ever writes there.
            unpooled: Buffer::zeros(device, 2 * full_units * setup.format.bytes())?,
        }))
    }
}

/// Convolves and pools one edge.
pub struct PoolUp {
    pub convolution: Sweep,
    pub args: EqPoolArgs,
}

impl PoolUp {
    pub fn launch(&self, setup: &Setup, args: EqRelaxArgs) -> Result<()> {
        let args = EqRelaxArgs {
            form: EQ_FORM_RAW,
            ..args
        };
        self.convolution.launch(&*setup.device, args)?;
        kernels::pool_up(&*setup.device, &self.args)
    }
}
