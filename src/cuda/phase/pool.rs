//! Max-pool edges: their memory, and the two launches that bring one up to date.

use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::layout::padded_units;
use crate::cuda::tables::sweep::Sweep;
use crate::error::Result;

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
        let g = Geometry::of(setup.network(), e);
        if !g.pooled {
            return Ok(None);
        }
        let device = &setup.device;
        let full_units = images * padded_units(g.full);
        let pooled = images * setup.units(setup.network().edges()[e].post);
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

impl Pool {
    /// Copies maxima, each from a position of a buffer on, to those of the two components. Those of a response are first what it brings
    /// up by, then what it sends down by.
    pub fn give_maxima(&self, from: [(&Buffer<u8>, usize); 2]) -> Result<()> {
        let count = self.argmax_free.len();
        for (component, (maxima, at)) in from.into_iter().enumerate() {
            self.argmax
                .copy_from(component * count, maxima, at, count)?;
        }
        Ok(())
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
