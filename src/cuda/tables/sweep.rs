//! A sweep: one launch that computes the pre-activations of some layers and does something with them.
//!
//! This is where a network description becomes the tables that the kernels read.

use super::geometry::{Class, Tap};
use super::layout::{Layout, padded};
use super::tiles::{Extent, TileList};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::Relax;
use crate::network::Shape;
use anyhow::Result;
use std::ffi::c_void;
use std::sync::Arc;

/// What an update makes of its pre-activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// one state, or two side by side
    States,
    /// the pair of sum and difference
    Pair,
    /// a vector on which the linearisation of an update acts
    Response,
}

impl Form {
    pub fn code(self) -> u32 {
        match self {
            Self::States => EQ_FORM_STATES,
            Self::Pair => EQ_FORM_PAIR,
            Self::Response => EQ_FORM_RESPONSE,
        }
    }
}

/// A layer (or a convolution before pooling) as the target of a sweep: pointers to what its epilogue needs.
#[derive(Clone, Copy)]
pub struct Target {
    pub shape: Shape,
    pub bias: *const f32,
    pub drive: *const f32,
    pub addend: *const f32,
    pub nudge: *const f32,
    /// s0 of a pair
    pub free_state: *const c_void,
    /// of a response
    pub mask: *const u8,
    pub sides: [*mut c_void; 2],
    pub raw: *mut f32,
    pub component_stride: usize,
    pub bounds: (f32, f32),
}

impl Target {
    /// Nothing but a shape.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            bias: std::ptr::null(),
            drive: std::ptr::null(),
            addend: std::ptr::null(),
            nudge: std::ptr::null(),
            free_state: std::ptr::null(),
            mask: std::ptr::null(),
            sides: [std::ptr::null_mut(); 2],
            raw: std::ptr::null_mut(),
            component_stride: 0,
            bounds: (f32::NEG_INFINITY, f32::INFINITY),
        }
    }
}

/// Collects targets, then becomes a [`Sweep`].
pub struct SweepBuilder<'a> {
    layout: &'a Layout,
    relax: Relax,
    images: usize,
    components: usize,
    sources: Vec<EqSource>,
    targets: Vec<EqTarget>,
    taps: Vec<EqTap>,
    extents: Vec<Extent>,
}

impl<'a> SweepBuilder<'a> {
    pub fn new(layout: &'a Layout, relax: Relax, images: usize, components: usize) -> Self {
        Self {
            layout,
            relax,
            images,
            components,
            sources: Vec::new(),
            targets: Vec::new(),
            taps: Vec::new(),
            extents: Vec::new(),
        }
    }

    /// Adds the pixels of one class of a target, with its taps and the source of each.
    pub fn add(&mut self, target: &Target, class: &Class, taps: &[(Tap, EqSource)]) {
        let channels = padded(target.shape.channels);
        let first_tap = self.taps.len() as u32;
        let (mut depth, mut steps) = (0, 0);
        for (tap, source) in taps {
            let (weight, pitch) = self.layout.slab(tap.edge, tap.tap);
            depth += source.channels as usize;
            steps += source.channels.div_ceil(EQ_MMA_DEPTH) as usize;
            let source = self.source(source);
            self.taps.push(EqTap {
                source,
                weight: weight as u32,
                pitch: pitch as u32,
                downwards: u32::from(tap.downwards),
                step_y: tap.step[0],
                step_x: tap.step[1],
                offset_y: tap.offset[0],
                offset_x: tap.offset[1],
            });
        }
        self.targets.push(EqTarget {
            bias: target.bias,
            drive: target.drive,
            addend: target.addend,
            nudge: target.nudge,
            free_state: target.free_state,
            mask: target.mask,
            sides: target.sides,
            raw: target.raw,
            component_stride: target.component_stride as u64,
            first_tap,
            taps: taps.len() as u32,
            height: target.shape.height as i32,
            width: target.shape.width as i32,
            channels: channels as u32,
            live_channels: target.shape.channels as u32,
            class_height: class.size[0] as i32,
            class_width: class.size[1] as i32,
            origin_y: class.origin[0] as i32,
            origin_x: class.origin[1] as i32,
            step_y: class.step[0] as i32,
            step_x: class.step[1] as i32,
            low: target.bounds.0,
            high: target.bounds.1,
        });
        self.extents.push(Extent {
            pixels: self.images * class.size[0] * class.size[1],
            channels,
            depth,
            taps: taps.len(),
            steps,
        });
    }

    /// Index of a source, which many taps share.
    fn source(&mut self, source: &EqSource) -> u32 {
        let same =
            |other: &EqSource| other.sides == source.sides && other.updated == source.updated;
        let found = self.sources.iter().position(same);
        found.unwrap_or_else(|| {
            self.sources.push(*source);
            self.sources.len() - 1
        }) as u32
    }

    pub fn build(self, device: &Arc<dyn Device>) -> Result<Sweep> {
        let list = TileList::new(
            self.relax,
            device.multiprocessors(),
            self.components,
            &self.extents,
        );
        Ok(Sweep {
            components: self.components,
            images: self.images,
            tiles: Buffer::from_slice(device, &list.tiles)?,
            list,
            extents: self.extents,
            targets: Buffer::from_slice(device, &self.targets)?,
            taps: Buffer::from_slice(device, &self.taps)?,
            sources: Buffer::from_slice(device, &self.sources)?,
        })
    }
}

/// Tables of one launch, in device memory.
pub struct Sweep {
    components: usize,
    images: usize,
    list: TileList,
    extents: Vec<Extent>,
    tiles: Buffer<EqTile>,
    targets: Buffer<EqTarget>,
    taps: Buffer<EqTap>,
    sources: Buffer<EqSource>,
}

impl Sweep {
    /// Slots that its change is written to.
    pub fn changes(&self) -> usize {
        self.list.changes
    }

    /// Its tiles, and what they are tiles of.
    pub fn tiles(&self) -> (&TileList, &[Extent]) {
        (&self.list, &self.extents)
    }

    /// Launches; `args` brings everything but the tables.
    pub fn launch(&self, device: &dyn Device, args: EqRelaxArgs) -> Result<()> {
        let args = EqRelaxArgs {
            tiles: self.tiles.ptr(),
            targets: self.targets.ptr(),
            taps: self.taps.ptr(),
            sources: self.sources.ptr(),
            images: self.images as u32,
            ..args
        };
        (self.list.relax).launch(device, self.components, self.list.tiles.len(), &args)
    }
}
