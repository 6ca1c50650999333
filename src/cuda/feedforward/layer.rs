//! A layer of a feed-forward network: the convolutions that come in, their normalisation, and what pooling and rectification make of them.

use super::running::Running;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::Buffer;
use crate::cuda::parameters::Parameters;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::{Geometry, taps_up, whole};
use crate::cuda::tables::layout::{padded, padded_units};
use crate::cuda::tables::sweep::{Sweep, SweepBuilder, Target};
use crate::error::Result;
use crate::feedforward::{FeedForward, NORM_EPSILON, NORM_MOMENTUM, Part};
use crate::network::Shape;
use std::ffi::c_void;

/// Rows that a block of the batch normalisation's sums adds up.
const ROWS_PER_SPLIT: usize = 512;

/// An edge to a hidden layer and what its normalisation needs; of a dense one, zeros and ones.
pub struct Convolution {
    convolved: Buffer<f32>,
    pub mean: Buffer<f32>,
    pub inverse: Buffer<f32>,
    /// of an edge that is normalised
    partials: Option<Buffer<f32>>,
    /// of an edge that pools maxima: where it took each unit of its layer from
    argmax: Option<Buffer<u8>>,
}

/// A layer above the input.
pub struct Layer {
    pub sweep: Sweep,
    pub state: Buffer<u8>,
    pub args: EqBatchNormArgs,
    // What `args` points to: the edges that come in.
    _table: Buffer<EqBatchNorm>,
}

fn null<T>() -> *mut T {
    std::ptr::null_mut()
}

impl Convolution {
    /// Of edge `e`; the head has none.
    pub fn new(setup: &Setup<FeedForward>, e: usize, images: usize) -> Result<Option<Self>> {
        let (device, network) = (&setup.device, setup.network());
        let post = network.edges()[e].post;
        if post == network.output_index() {
            return Ok(None);
        }
        let g = Geometry::of(network, e);
        let channels = padded(g.full.channels);
        let is_normalised = matches!(setup.model.part(e), Part::Convolution { .. });
        let argmax = images * padded_units(network.layers()[post].shape);
        let argmax = pools_maxima(&g).then(|| Buffer::new(device, argmax));
        let partials = splits(&g, images) * 2 * channels;
        let partials = is_normalised.then(|| Buffer::new(device, partials));
        Ok(Some(Convolution {
            convolved: Buffer::new(device, images * padded_units(g.full))?,
            mean: Buffer::zeros(device, channels)?,
            inverse: Buffer::from_slice(device, &vec![1.0; channels])?,
            partials: partials.transpose()?,
            argmax: argmax.transpose()?,
        }))
    }
}

impl Layer {
    pub fn new(
        setup: &Setup<FeedForward>,
        parameters: &Parameters,
        running: &[Option<Running>],
        convolutions: &[Option<Convolution>],
        states: &[*const c_void],
        l: usize,
        images: usize,
    ) -> Result<Self> {
        let (device, network) = (&setup.device, setup.network());
        let units = images * padded_units(network.layers()[l].shape);
        let mut sweep = SweepBuilder::new(&setup.layout, setup.relax, images, 1);
        let mut table = Vec::new();
        let (mut pixels, mut most_splits) = (0, 0);
        for (e, edge) in network.edges_into(l) {
            let g = Geometry::of(network, e);
            let (bias, splits) = match setup.model.part(e) {
                Part::Convolution { bias, .. } => (bias, splits(&g, images)),
                Part::Dense { bias, .. } => (Some(bias), 0),
            };
            pixels = pixels.max(g.full.pixels());
            most_splits = most_splits.max(splits);
            let start = |t: usize| parameters.master().wrapping_add(setup.layout.start(t));
            let target = Target {
                bias: bias.map_or(null::<f32>().cast_const(), start),
                raw: convolution(convolutions, e).convolved.ptr(),
                ..Target::new(g.full)
            };
            let source = source(g.pre, states[edge.pre]);
            let taps = taps_up(e, &g, &whole(g.full)).into_iter();
            let taps: Vec<_> = taps.map(|tap| (tap, source)).collect();
            sweep.add(&target, &whole(g.full), &taps);
            table.push(batch_norm(setup, parameters, running, convolutions, e));
        }
        let state = Buffer::new(device, units * setup.format.bytes())?;
        let table = Buffer::from_slice(device, &table)?;
        let shape = network.layers()[l].shape;
        Ok(Self {
            args: EqBatchNormArgs {
                edges: table.ptr(),
                state: state.ptr(),
                gradient: null::<f32>().cast_const(),
                edge_count: table.len() as u32,
                images: images as u32,
                height: shape.height as u32,
                width: shape.width as u32,
                channels: padded(shape.channels) as u32,
                pixels: pixels as u32,
                splits: most_splits as u32,
                rows_per_split: ROWS_PER_SPLIT as u32,
                linear: u32::from(!setup.model.is_rectified(l)),
                evaluate: 0,
                epsilon: NORM_EPSILON as f32,
                momentum: NORM_MOMENTUM as f32,
            },
            sweep: sweep.build(device)?,
            state,
            _table: table,
        })
    }
}

fn pools_maxima(g: &Geometry) -> bool {
    g.pooled && !g.average
}

/// Pixels of what edge `g` normalises.
pub fn normalised_pixels(g: &Geometry) -> usize {
    match g.average {
        true => (g.full.height / 2) * (g.full.width / 2),
        false => g.full.pixels(),
    }
}

/// Parts into which the rows of what edge `g` normalises are divided.
fn splits(g: &Geometry, images: usize) -> usize {
    (images * normalised_pixels(g)).div_ceil(ROWS_PER_SPLIT)
}

/// The edges into layer `l` that batch normalisation follows.
pub fn normalised_edges(setup: &Setup<FeedForward>, l: usize) -> impl Iterator<Item = usize> {
    let edges = setup.network().edges_into(l);
    edges
        .map(|(e, _)| e)
        .filter(|&e| matches!(setup.model.part(e), Part::Convolution { .. }))
}

pub fn convolution(convolutions: &[Option<Convolution>], e: usize) -> &Convolution {
    convolutions[e]
        .as_ref()
        .expect("the edge is to a hidden layer")
}

/// The normalisation of edge `e` as its forward pass needs it.
pub fn batch_norm(
    setup: &Setup<FeedForward>,
    parameters: &Parameters,
    running: &[Option<Running>],
    convolutions: &[Option<Convolution>],
    e: usize,
) -> EqBatchNorm {
    let convolution = convolution(convolutions, e);
    let g = Geometry::of(setup.network(), e);
    let (zeros, ones) = (convolution.mean.ptr(), convolution.inverse.ptr());
    let edge = EqBatchNorm {
        convolved: convolution.convolved.ptr(),
        mean: convolution.mean.ptr(),
        inverse: convolution.inverse.ptr(),
        scale: ones,
        shift: zeros,
        argmax: (convolution.argmax.as_ref()).map_or(null(), Buffer::ptr),
        height: g.full.height as u32,
        width: g.full.width as u32,
        pooling: match (g.pooled, g.average) {
            (false, _) => EQ_POOLING_NONE,
            (true, false) => EQ_POOLING_MAX,
            (true, true) => EQ_POOLING_AVERAGE,
        },
        ..EqBatchNorm::default()
    };
    let Part::Convolution { gamma, beta, .. } = setup.model.part(e) else {
        return edge;
    };
    let running = running[e].as_ref().expect("a convolution has statistics");
    let start = |t: usize| parameters.master().wrapping_add(setup.layout.start(t));
    EqBatchNorm {
        scale: start(gamma),
        shift: start(beta),
        running_mean: running.mean.ptr(),
        running_variance: running.variance.ptr(),
        partials: (convolution.partials.as_ref()).map_or(null(), Buffer::ptr),
        ..edge
    }
}

/// An image that taps read, which has one side.
pub fn source(shape: Shape, values: *const c_void) -> EqSource {
    EqSource {
        sides: [values; 2],
        component_stride: 0,
        height: shape.height as i32,
        width: shape.width as i32,
        channels: padded(shape.channels) as u32,
        updated: 0,
    }
}
