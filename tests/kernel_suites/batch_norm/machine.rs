//! What batch normalisation reads and writes, in device memory.

use super::truth::{Case, Channel, Kind};
use eqprop_cuda::cuda::abi::{EQ_POOLING_AVERAGE, EQ_POOLING_MAX, EQ_POOLING_NONE, EqBatchNorm};
use eqprop_cuda::cuda::kernels::Format;
use eqprop_cuda::cuda::{Buffer, Device};
use half::f16;
use std::sync::Arc;

/// `[row][channel]`, as it lies in memory.
pub fn interleaved(columns: &[impl AsRef<[f64]>]) -> Vec<f32> {
    let rows = 0..columns[0].as_ref().len();
    rows.flat_map(|row| {
        columns
            .iter()
            .map(move |column| column.as_ref()[row] as f32)
    })
    .collect()
}

pub fn decoded(format: Format, bytes: &[u8]) -> Vec<f64> {
    match format {
        Format::F32 => (bytes.chunks(4))
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        Format::F16 => (bytes.chunks(2))
            .map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f64())
            .collect(),
    }
}

/// The edge's arrays on the device.
pub struct Arrays {
    z: Buffer<f32>,
    /// scale, shift, mean, inverse, running mean, running variance, gradients of scale and shift
    pub channels: [Buffer<f32>; 8],
    partials: Buffer<f32>,
    pub difference: Buffer<u8>,
    argmax: Buffer<u8>,
    kind: Kind,
    full: [usize; 2],
}

impl Arrays {
    pub fn new(
        device: &Arc<dyn Device>,
        case: &Case,
        channels: &[Channel],
        e: usize,
        format: Format,
    ) -> Self {
        let column = |of: &dyn Fn(&Channel) -> f64| {
            let values: Vec<f32> = channels.iter().map(|c| of(c) as f32).collect();
            Buffer::from_slice(device, &values).unwrap()
        };
        let empty = |len| Buffer::new(device, len).unwrap();
        let z: Vec<&[f64]> = channels.iter().map(|c| &*c.z[e]).collect();
        let padded = case.padded();
        let kind = case.edges[e];
        let given = |value: f64| column(&|_| value);
        let is_dense = kind == Kind::Dense;
        Self {
            z: Buffer::from_slice(device, &interleaved(&z)).unwrap(),
            channels: [
                if is_dense {
                    given(1.0)
                } else {
                    column(&|c| c.scale[e])
                },
                if is_dense {
                    given(0.0)
                } else {
                    column(&|c| c.shift[e])
                },
                if is_dense { given(0.0) } else { empty(padded) },
                if is_dense { given(1.0) } else { empty(padded) },
                column(&|c| c.running[e][0]),
                column(&|c| c.running[e][1]),
                empty(padded),
                empty(padded),
            ],
            partials: empty(case.splits(e) * 2 * padded),
            difference: Buffer::new(device, case.rows(e) * padded * format.bytes()).unwrap(),
            argmax: Buffer::new(device, case.rows(e) * padded).unwrap(),
            kind,
            full: case.full(e),
        }
    }

    pub fn table(&self) -> EqBatchNorm {
        let channel = |i: usize| self.channels[i].ptr();
        EqBatchNorm {
            convolved: self.z.ptr(),
            scale: channel(0),
            shift: channel(1),
            mean: channel(2),
            inverse: channel(3),
            running_mean: channel(4),
            running_variance: channel(5),
            partials: match self.kind {
                Kind::Dense => std::ptr::null_mut(),
                _ => self.partials.ptr(),
            },
            scale_gradient: channel(6),
            shift_gradient: channel(7),
            difference: self.difference.ptr(),
            argmax: match self.kind {
                Kind::Max => self.argmax.ptr(),
                _ => std::ptr::null_mut(),
            },
            height: self.full[0] as u32,
            width: self.full[1] as u32,
            pooling: match self.kind {
                Kind::Plain | Kind::Dense => EQ_POOLING_NONE,
                Kind::Max => EQ_POOLING_MAX,
                Kind::Average => EQ_POOLING_AVERAGE,
            },
        }
    }
}
