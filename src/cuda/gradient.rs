//! Tables of the gradient estimate: tiles of the weight products, row blocks of the bias sums, and how both are gathered.

use super::abi::*;
use super::batch::{Batch, Setup};
use super::device::Buffer;
use super::geometry::Geometry;
use super::kernels::{self, WeightGrad};
use super::layout::padded;
use anyhow::Result;
use std::ffi::c_void;

/// Blocks that an edge's product is cut into at least, where it has enough pixels: two for each multiprocessor of a large
/// GPU. A constant, so that sums are cut in the same way on every device.
const BLOCKS_PER_EDGE: usize = 264;
/// Fewest pixels that a block sums over: below, writing and gathering its sums costs more than making them.
const PIXELS_PER_SPLIT: usize = 512;
/// Rows that a block of the bias sums adds up.
const BIAS_ROWS: usize = 256;

pub struct GradientPlan {
    grad: WeightGrad,
    edges: Buffer<EqGradEdge>,
    tiles: Buffer<EqGradTile>,
    bias_tiles: Buffer<EqBiasTile>,
    blocks: Buffer<EqGatherBlock>,
    workspace: Buffer<f32>,
    squares: Buffer<f64>,
    pub norm: Buffer<f64>,
}

impl GradientPlan {
    /// Mean and half-difference lie on side 1 of the nudged states.
    pub fn new(setup: &Setup, batch: &Batch) -> Result<Self> {
        let (network, layout, device) = (&setup.network, &setup.layout, &setup.device);
        let nudged = batch.nudged.as_ref().expect("the nudged phases have run");
        let grad = WeightGrad::choose(setup.relax);
        let (post_tile, pre_tile) = grad.tile();
        let mut edges = Vec::new();
        let mut tiles = Vec::new();
        // Where each tensor's split sums start, and how many there are.
        let mut splits_of = vec![(0, 0); layout.tensors()];
        let mut workspace = 0;
        for (e, edge) in network.edges().iter().enumerate() {
            let g = Geometry::of(network, e);
            let (post_channels, pre_channels) = (padded(g.full.channels), padded(g.pre.channels));
            let (post, post_stride): (*const c_void, usize) = match &batch.pools[e] {
                Some(pool) => (pool.unpooled.ptr::<c_void>().cast_const(), pool.full_units),
                None => {
                    let state = &nudged[edge.post];
                    (state.sides[1].ptr::<c_void>().cast_const(), state.units)
                }
            };
            let (pre, pre_stride): (*const c_void, usize) = if edge.pre == 0 {
                let input = match &batch.input_operand {
                    Some(operand) => operand.ptr::<c_void>(),
                    None => batch.input.ptr::<c_void>(),
                };
                (input.cast_const(), 0)
            } else {
                let state = &nudged[edge.pre];
                (state.sides[1].ptr::<c_void>().cast_const(), state.units)
            };
            edges.push(EqGradEdge {
                pre,
                post,
                pre_stride: pre_stride as u64,
                post_stride: post_stride as u64,
                // The input is the same in both states: it has no difference.
                products: if edge.pre == 0 { 1 } else { 2 },
                pre_channels: pre_channels as u32,
                post_channels: post_channels as u32,
                pre_height: g.pre.height as i32,
                pre_width: g.pre.width as i32,
                post_height: g.full.height as i32,
                post_width: g.full.width as i32,
                stride_y: g.stride[0] as i32,
                stride_x: g.stride[1] as i32,
                padding: 0,
            });
            let pixels = batch.images * g.full.pixels();
            let squares =
                g.taps() * post_channels.div_ceil(post_tile) * pre_channels.div_ceil(pre_tile);
            let splits = BLOCKS_PER_EDGE
                .div_ceil(squares)
                .min(pixels.div_ceil(PIXELS_PER_SPLIT));
            let per_split = pixels.div_ceil(splits);
            let splits = pixels.div_ceil(per_split);
            let length = layout.length(layout.weight(e));
            for split in 0..splits {
                for tap in 0..g.taps() {
                    let [offset_y, offset_x] = g.tap_offset(tap);
                    let slab = layout.slab(e, tap).0 - layout.start(layout.weight(e));
                    for first_post in (0..post_channels).step_by(post_tile) {
                        for first_pre in (0..pre_channels).step_by(pre_tile) {
                            tiles.push(EqGradTile {
                                edge: e as u32,
                                offset_y,
                                offset_x,
                                first_post: first_post as u32,
                                first_pre: first_pre as u32,
                                first_pixel: (split * per_split) as u32,
                                pixels: per_split.min(pixels - split * per_split) as u32,
                                padding: 0,
                                out: (workspace + split * length + slab) as u64,
                            });
                        }
                    }
                }
            }
            splits_of[layout.weight(e)] = (workspace, splits);
            workspace += splits * length;
        }
        let mut bias_tiles = Vec::new();
        for l in network.free_layers() {
            let shape = setup.shape(l);
            let rows = batch.images * shape.pixels();
            let channels = padded(shape.channels);
            let splits = rows.div_ceil(BIAS_ROWS);
            for split in 0..splits {
                bias_tiles.push(EqBiasTile {
                    half: nudged[l].component::<c_void>(1, 1, setup.format),
                    rows: rows as u64,
                    first_row: (split * BIAS_ROWS) as u64,
                    out: (workspace + split * channels) as u64,
                    channels: channels as u32,
                    row_count: BIAS_ROWS.min(rows - split * BIAS_ROWS) as u32,
                });
            }
            splits_of[layout.bias(l)] = (workspace, splits);
            workspace += splits * channels;
        }
        let block = EQ_PARAMETER_BLOCK as usize;
        let mut blocks = Vec::new();
        for (tensor, &(from, splits)) in splits_of.iter().enumerate() {
            let length = layout.length(tensor);
            for first in (0..length).step_by(block) {
                blocks.push(EqGatherBlock {
                    from: (from + first) as u64,
                    stride: length as u64,
                    splits: splits as u32,
                    count: block.min(length - first) as u32,
                });
            }
        }
        assert_eq!(blocks.len(), layout.blocks());
        Ok(Self {
            grad,
            edges: Buffer::from_slice(device, &edges)?,
            tiles: Buffer::from_slice(device, &tiles)?,
            bias_tiles: Buffer::from_slice(device, &bias_tiles)?,
            squares: Buffer::new(device, blocks.len())?,
            blocks: Buffer::from_slice(device, &blocks)?,
            workspace: Buffer::new(device, workspace)?,
            norm: Buffer::new(device, 1)?,
        })
    }

    /// Writes the gradient, scaled, and its norm.
    pub fn run(
        &self,
        setup: &Setup,
        images: usize,
        scale: f32,
        gradient: &Buffer<f32>,
    ) -> Result<()> {
        let device = &*setup.device;
        let args = EqGradArgs {
            edges: self.edges.ptr(),
            tiles: self.tiles.ptr(),
            workspace: self.workspace.ptr(),
            images: images as u32,
            padding: 0,
        };
        self.grad.launch(device, self.tiles.len(), &args)?;
        let args = EqBiasArgs {
            tiles: self.bias_tiles.ptr(),
            workspace: self.workspace.ptr(),
        };
        kernels::bias_grad(device, setup.format, self.bias_tiles.len(), &args)?;
        let args = EqGatherArgs {
            blocks: self.blocks.ptr(),
            workspace: self.workspace.ptr(),
            gradient: gradient.ptr(),
            squares: self.squares.ptr(),
            scale,
            padding: 0,
        };
        kernels::gather_gradient(device, self.blocks.len(), &args)?;
        let args = EqNormArgs {
            squares: self.squares.ptr(),
            norm: self.norm.ptr(),
            count: self.squares.len() as u32,
            padding: 0,
        };
        kernels::gradient_norm(device, &args)
    }
}
