//! A sweep: one launch that computes the pre-activations of some layers and does something with them; two where K is split.
//!
//! This is where a network description becomes the tables that the kernels read.

use super::boxes::{BoxShape, Boxes, BoxesBuilder, Stored};
use super::geometry::{Class, Tap};
use super::layout::{Layout, padded};
use super::splits;
use super::tiles::{Extent, TileList};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::Relax;
use crate::error::Result;
use crate::network::Shape;
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
    pub constant: *const f32,
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
            constant: std::ptr::null(),
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

/// Arguments of a sweep that writes its pre-activations as they are.
pub fn raw_args(weights: *const c_void) -> EqRelaxArgs {
    EqRelaxArgs {
        form: EQ_FORM_RAW,
        weights,
        ..EqRelaxArgs::default()
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
    runs: Vec<EqRun>,
    taps: Vec<EqTap>,
    extents: Vec<Extent>,
    /// for Hopper
    boxes: Option<BoxesBuilder>,
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
            runs: Vec::new(),
            taps: Vec::new(),
            extents: Vec::new(),
            boxes: (relax == Relax::Hopper).then(BoxesBuilder::default),
        }
    }

    /// Adds the pixels of one class of a target, with its taps and the source of each.
    pub fn add(&mut self, target: &Target, class: &Class, taps: &[(Tap, EqSource)]) {
        let channels = padded(target.shape.channels);
        let first_run = self.runs.len() as u32;
        let (mut depth, mut steps) = (0, 0);
        let shape = BoxShape::choose(class.size, self.images);
        let mut of_boxes = Vec::new();
        let slice = match self.boxes {
            Some(_) => EQ_HOPPER_DEPTH,
            None => EQ_MMA_DEPTH,
        };
        for (tap, source) in in_order_of_parity(taps) {
            if let Some(boxes) = &mut self.boxes {
                let sides = source.sides.map(|side| Stored {
                    address: side as u64,
                    components: self.components,
                    component_stride: source.component_stride,
                    size: [source.height as usize, source.width as usize],
                    channels: source.channels,
                });
                let slabs = self.layout.slabs(tap.edge);
                let entry = boxes.tap(&tap, sides, source.updated, self.images, shape, slabs);
                let Some(entry) = entry else { continue };
                of_boxes.push(entry);
            }
            let (weight, pitch) = self.layout.slab(tap.edge, tap.tap);
            depth += source.channels as usize;
            steps += source.channels.div_ceil(slice) as usize;
            let [y, x] = tap.offset;
            let first_tap = self.taps.len() as u32;
            self.taps.push(EqTap {
                weight: weight as u32,
                shift: (y * source.width + x) * source.channels as i32,
                offset_y: y,
                offset_x: x,
            });
            let run = EqRun {
                source: self.source(&source),
                first_tap,
                taps: 1,
                pitch: pitch as u32,
                downwards: u32::from(tap.downwards),
                step_y: tap.step[0],
                step_x: tap.step[1],
                padding: 0,
            };
            match self.runs[first_run as usize..].last_mut() {
                Some(last) if last.taps < EQ_RUN_TAPS && continues(last, &run) => last.taps += 1,
                _ => self.runs.push(run),
            }
        }
        let mut pixels = self.images * class.size[0] * class.size[1];
        if let Some(boxes) = &mut self.boxes {
            pixels = shape.count(class.size, self.images) * EQ_HOPPER_BOX as usize;
            let stored = |address: *const c_void, components| Stored {
                address: address as u64,
                components,
                component_stride: target.component_stride as u64,
                size: [target.shape.height, target.shape.width],
                channels: channels as u32,
            };
            let sides = (target.sides).map(|side| stored(side, self.components));
            let free = stored(target.free_state, 1);
            let states = (
                (!target.sides[0].is_null()).then_some(sides),
                (!target.free_state.is_null()).then_some(free),
            );
            boxes.target(class, self.images, shape, states, of_boxes);
        }
        self.targets.push(EqTarget {
            bias: target.bias,
            constant: target.constant,
            addend: target.addend,
            nudge: target.nudge,
            free_state: target.free_state,
            mask: target.mask,
            sides: target.sides,
            raw: target.raw,
            component_stride: target.component_stride as u64,
            first_run,
            runs: self.runs.len() as u32 - first_run,
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
            pixels,
            channels,
            depth,
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
        let splits = match device.parts() {
            Some(parts) => splits::forced(self.relax, parts, &self.extents),
            None => splits::chosen(self.relax, self.components, &self.extents),
        };
        let list = TileList::new(
            self.relax,
            device.multiprocessors(),
            self.components,
            &self.extents,
            &splits,
        );
        let of_parts = list.relax.tile().rows * list.relax.tile().channels;
        let all: Vec<EqTile> = list.tiles.iter().chain(&list.joins).copied().collect();
        Ok(Sweep {
            components: self.components,
            images: self.images,
            tiles: Buffer::from_slice(device, &all)?,
            parts: Buffer::new(device, list.parts * of_parts)?,
            list,
            extents: self.extents,
            targets: Buffer::from_slice(device, &self.targets)?,
            runs: Buffer::from_slice(device, &self.runs)?,
            taps: Buffer::from_slice(device, &self.taps)?,
            sources: Buffer::from_slice(device, &self.sources)?,
            tables: Tables {
                targets: self.targets,
                runs: self.runs,
                taps: self.taps,
                sources: self.sources,
            },
            boxes: match self.boxes {
                Some(boxes) => Some(boxes.build(device)?),
                None => None,
            },
        })
    }
}

/// Taps of one edge and direction side by side, and among them those that read the same pixels: they differ by whole steps.
fn in_order_of_parity(taps: &[(Tap, EqSource)]) -> Vec<(Tap, EqSource)> {
    let mut taps = taps.to_vec();
    let parity = |tap: &Tap| [0, 1].map(|axis| tap.offset[axis].rem_euclid(tap.step[axis].max(1)));
    taps.sort_by_key(|(tap, _)| (tap.downwards, tap.edge, parity(tap)));
    taps
}

/// Whether a run of one tap is the next tap of another run.
fn continues(run: &EqRun, next: &EqRun) -> bool {
    let key = |run: &EqRun| {
        let EqRun { source, pitch, .. } = *run;
        (source, pitch, run.downwards, run.step_y, run.step_x)
    };
    key(run) == key(next)
}

/// What a sweep's targets read, as its kernels see it.
pub struct Tables {
    pub targets: Vec<EqTarget>,
    pub runs: Vec<EqRun>,
    pub taps: Vec<EqTap>,
    pub sources: Vec<EqSource>,
}

/// Tables of one sweep, in device memory.
pub struct Sweep {
    components: usize,
    images: usize,
    list: TileList,
    extents: Vec<Extent>,
    tables: Tables,
    tiles: Buffer<EqTile>,
    parts: Buffer<f32>,
    targets: Buffer<EqTarget>,
    runs: Buffer<EqRun>,
    taps: Buffer<EqTap>,
    sources: Buffer<EqSource>,
    /// for Hopper
    boxes: Option<Boxes>,
}

impl Sweep {
    /// Slots that its change is written to.
    pub fn changes(&self) -> usize {
        self.list.changes
    }

    /// Its tiles, and what they are tiles of.
    pub fn tiles(&self) -> (&TileList, &[Extent], &Tables) {
        (&self.list, &self.extents, &self.tables)
    }

    /// Launches: once, or a second time where parts are to be joined; `args` brings everything but the tables.
    pub fn launch(&self, device: &dyn Device, args: EqRelaxArgs) -> Result<()> {
        let args = EqRelaxArgs {
            targets: self.targets.ptr(),
            runs: self.runs.ptr(),
            taps: self.taps.ptr(),
            sources: self.sources.ptr(),
            parts: self.parts.ptr(),
            images: self.images as u32,
            ..args
        };
        let (first, joins) = (self.list.tiles.len(), self.list.joins.len());
        for (from, tiles, in_pairs) in [(0, first, true), (first, joins, false)] {
            let args = EqRelaxArgs {
                tiles: self.tiles.at(from),
                ..args
            };
            match &self.boxes {
                Some(boxes) => {
                    let args = boxes.args(device, args, tiles)?;
                    Relax::launch_hopper(device, self.components, in_pairs, &args)?;
                }
                None => (self.list.relax).launch(device, self.components, tiles, &args)?,
            }
        }
        Ok(())
    }
}
