//! Tables of a gradient: tiles of the weight products, row blocks of the sums over pixels, and how both are gathered.

use super::gradient_boxes::{self, GradientBoxes, GradientBoxesBuilder};
use super::layout::Layout;
use super::products::TensorGradient;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::{self, Format, Relax, WeightGrad};
use crate::error::Result;
use crate::phase::GradientMemory;
use std::sync::Arc;

/// Rows that a block of a sum over rows adds up.
const ROWS_PER_SPLIT: usize = 256;

/// What a gradient is added to.
#[derive(Clone, Copy, PartialEq)]
enum Onto {
    Nothing,
    Gradient,
}

pub struct GradientPlan {
    grad: WeightGrad,
    format: Format,
    images: usize,
    edges: Buffer<EqGradEdge>,
    tiles: Buffer<EqGradTile>,
    /// of the edges that Hopper's kernel computes
    boxes: Option<GradientBoxes>,
    row_tiles: Buffer<EqBiasTile>,
    blocks: Buffer<EqGatherBlock>,
    workspace: Buffer<f32>,
    /// where each tensor's sums begin in the workspace
    slots: Vec<usize>,
    squares: Buffer<f64>,
    pub norm: Buffer<f64>,
    /// how the gradient is gathered from itself, once that was asked for
    in_place: Option<Buffer<EqGatherBlock>>,
}

impl GradientPlan {
    /// One part for each tensor of the layout.
    pub fn new(
        device: &Arc<dyn Device>,
        layout: &Layout,
        (format, relax): (Format, Relax),
        images: usize,
        parts: &[TensorGradient],
    ) -> Result<Self> {
        let grad = WeightGrad::choose(relax);
        let on_hopper = match relax {
            Relax::Hopper => gradient_boxes::splits(parts, images),
            _ => vec![None; parts.len()],
        };
        let mut boxes = GradientBoxesBuilder::default();
        let mut edges = Vec::new();
        let mut tiles = Vec::new();
        let mut row_tiles = Vec::new();
        let mut blocks = Vec::new();
        let mut slots = Vec::new();
        let mut workspace = 0;
        assert_eq!(parts.len(), layout.tensors(), "one part for each tensor");
        for (tensor, part) in parts.iter().enumerate() {
            let length = layout.length(tensor);
            let splits = match (part, on_hopper[tensor]) {
                (TensorGradient::Products(products), Some(of_split)) => {
                    boxes.add(products, images, of_split, workspace)
                }
                (TensorGradient::Products(products), None) => {
                    let edge = edges.len() as u32;
                    edges.push(products.edge());
                    products.divide(grad, images, edge, workspace, &mut tiles)
                }
                (&TensorGradient::Rows { rows, count }, _) => {
                    for (split, first) in (0..count).step_by(ROWS_PER_SPLIT).enumerate() {
                        row_tiles.push(EqBiasTile {
                            half: rows,
                            rows: count as u64,
                            first_row: first as u64,
                            out: (workspace + split * length) as u64,
                            channels: length as u32,
                            row_count: ROWS_PER_SPLIT.min(count - first) as u32,
                        });
                    }
                    count.div_ceil(ROWS_PER_SPLIT)
                }
                (TensorGradient::Written, _) => 1,
                (TensorGradient::Zero, _) => 0,
            };
            slots.push(workspace);
            let block = EQ_PARAMETER_BLOCK as usize;
            for first in (0..length).step_by(block) {
                blocks.push(EqGatherBlock {
                    from: (workspace + first) as u64,
                    stride: length as u64,
                    splits: splits as u32,
                    count: block.min(length - first) as u32,
                });
            }
            workspace += splits * length;
        }
        assert_eq!(blocks.len(), layout.blocks());
        Ok(Self {
            grad,
            format,
            images,
            edges: Buffer::from_slice(device, &edges)?,
            tiles: Buffer::from_slice(device, &tiles)?,
            boxes: boxes.build(device)?,
            row_tiles: Buffer::from_slice(device, &row_tiles)?,
            squares: Buffer::new(device, blocks.len())?,
            blocks: Buffer::from_slice(device, &blocks)?,
            workspace: Buffer::new(device, workspace)?,
            slots,
            norm: Buffer::new(device, 1)?,
            in_place: None,
        })
    }

    /// Where the gradient of a tensor that is [`TensorGradient::Written`] goes.
    pub fn slot(&self, tensor: usize) -> *mut f32 {
        self.workspace.at(self.slots[tensor])
    }

    /// What was written to the slot of a tensor of so many values.
    pub fn read_slot(&self, tensor: usize, length: usize) -> Result<Vec<f32>> {
        self.workspace.read_at(self.slots[tensor], length)
    }

    /// Writes there.
    pub fn write_slot(&self, tensor: usize, values: &[f32]) -> Result<()> {
        self.workspace.write_at(self.slots[tensor], values)
    }

    /// Writes the gradient, scaled, and the sums of its squares by block.
    pub fn run(&self, device: &dyn Device, scale: f32, gradient: &Buffer<f32>) -> Result<()> {
        self.compute(device, scale, gradient, Onto::Nothing)
    }

    /// The same, added to what is there.
    pub fn add(&self, device: &dyn Device, scale: f32, gradient: &Buffer<f32>) -> Result<()> {
        self.compute(device, scale, gradient, Onto::Gradient)
    }

    fn compute(
        &self,
        device: &dyn Device,
        scale: f32,
        gradient: &Buffer<f32>,
        onto: Onto,
    ) -> Result<()> {
        if let Some(boxes) = &self.boxes {
            WeightGrad::launch_hopper(device, &boxes.args(&self.workspace))?;
        }
        let args = EqGradArgs {
            edges: self.edges.ptr(),
            tiles: self.tiles.ptr(),
            workspace: self.workspace.ptr(),
            images: self.images as u32,
            padding: 0,
        };
        self.grad.launch(device, self.tiles.len(), &args)?;
        let args = EqBiasArgs {
            tiles: self.row_tiles.ptr(),
            workspace: self.workspace.ptr(),
        };
        kernels::bias_grad(device, self.format, self.row_tiles.len(), &args)?;
        let args = EqGatherArgs {
            blocks: self.blocks.ptr(),
            workspace: self.workspace.ptr(),
            gradient: gradient.ptr(),
            squares: self.squares.ptr(),
            scale,
            accumulate: u32::from(onto == Onto::Gradient),
        };
        kernels::gather_gradient(device, self.blocks.len(), &args)
    }

    /// Scales the gradient in place, and writes the sums of its squares by block: it is gathered from itself.
    pub fn rescale(
        &mut self,
        device: &Arc<dyn Device>,
        scale: f32,
        gradient: &Buffer<f32>,
    ) -> Result<()> {
        let blocks = match self.in_place.take() {
            Some(blocks) => blocks,
            None => {
                let block = |b: usize| EqGatherBlock {
                    from: (b * EQ_PARAMETER_BLOCK as usize) as u64,
                    stride: 0,
                    splits: 1,
                    count: EQ_PARAMETER_BLOCK,
                };
                let blocks: Vec<_> = (0..self.blocks.len()).map(block).collect();
                Buffer::from_slice(device, &blocks)?
            }
        };
        let args = EqGatherArgs {
            blocks: blocks.ptr(),
            workspace: gradient.ptr(),
            gradient: gradient.ptr(),
            squares: self.squares.ptr(),
            scale,
            accumulate: 0,
        };
        self.in_place = Some(blocks);
        kernels::gather_gradient(&**device, self.blocks.len(), &args)
    }

    /// Replaces the gradient by the sum over several machines of `share` times each one's, and writes the sums of its squares
    /// by block. `sum` adds up, in place.
    pub fn reduce(
        &mut self,
        device: &Arc<dyn Device>,
        share: f64,
        gradient: &Buffer<f32>,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        self.rescale(device, share as f32, gradient)?;
        match device.stream() {
            Some(stream) => sum(GradientMemory::Device {
                address: gradient.ptr::<u8>() as u64,
                count: gradient.len(),
                stream,
            })?,
            None => {
                let mut values: Vec<f64> = gradient.read()?.into_iter().map(f64::from).collect();
                sum(GradientMemory::Host(&mut values))?;
                let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
                gradient.write(&values)?;
            }
        }
        self.rescale(device, 1.0, gradient)
    }

    /// Writes the global norm of the gradient of the last [`run`](Self::run).
    pub fn measure_norm(&self, device: &dyn Device) -> Result<()> {
        let args = EqNormArgs {
            squares: self.squares.ptr(),
            norm: self.norm.ptr(),
            count: self.squares.len() as u32,
            padding: 0,
        };
        kernels::gradient_norm(device, &args)
    }
}
