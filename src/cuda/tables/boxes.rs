//! Tables for Hopper: boxes of pixels, and the views of states that they are pieces of.
//!
//! A tile's rows are boxes of [`EQ_HOPPER_BOX`] class pixels, which one copy brings. A tap of step `s` and offset `o` reads the pixels
//! `i s + o` of its source: with `o = t s + r`, `0 <= r < s`, pixel `i + t` of the view that begins at `r` and has every `s`-th pixel.
//! So each (state, step, remainder) is a tensor map, of dimensions channel, x, y, image, component, and a tap moves only the corner of a
//! box. Pixels outside of the view are zeros: that is the padding. A target's own class pixels are such a view, too: its old state is
//! read through it, and the new one written.

use super::geometry::{Class, Tap};
use super::layout::Slabs;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::tensor_map::{self, TensorMap};
use crate::error::Result;
use std::sync::{Arc, Mutex, PoisonError};

const BOX_BITS: u32 = EQ_HOPPER_BOX.trailing_zeros();
const ELEMENT_BYTES: u64 = 2;

/// Width, height and images of a box, as powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxShape {
    /// bits of the width
    pub width: u32,
    /// bits of the height
    pub height: u32,
}

impl BoxShape {
    /// The shape that covers so many pixels and images with the fewest boxes; of those the one with the most neighbouring pixels, which
    /// taps share.
    pub fn choose(size: [usize; 2], images: usize) -> Self {
        let all = (0..=BOX_BITS)
            .flat_map(|width| (0..=BOX_BITS - width).map(move |height| Self { width, height }));
        let cost = |shape: &Self| {
            let (w, h) = (shape.width, shape.height);
            (
                shape.count(size, images),
                BOX_BITS - w - h,
                w.abs_diff(h),
                h,
            )
        };
        all.min_by_key(cost).expect("there are shapes")
    }

    fn images(self) -> u32 {
        BOX_BITS - self.width - self.height
    }

    /// Boxes along x and y.
    pub fn along(self, size: [usize; 2]) -> [usize; 2] {
        [
            size[1].div_ceil(1 << self.width),
            size[0].div_ceil(1 << self.height),
        ]
    }

    /// Boxes in all.
    pub fn count(self, size: [usize; 2], images: usize) -> usize {
        let [x, y] = self.along(size);
        x * y * images.div_ceil(1 << self.images())
    }
}

/// A state in device memory: `[component][image][y][x][channel]`, fp16.
#[derive(Clone, Copy)]
pub struct Stored {
    pub address: u64,
    pub components: usize,
    pub component_stride: u64,
    /// rows and columns of pixels
    pub size: [usize; 2],
    pub channels: u32,
}

impl Stored {
    /// Every `step`-th pixel from `origin` on, in boxes; `None` where there is no such pixel.
    pub fn view(
        &self,
        images: usize,
        origin: [usize; 2],
        step: [usize; 2],
        shape: BoxShape,
    ) -> Option<TensorMap> {
        if (0..2).any(|axis| origin[axis] >= self.size[axis]) {
            return None;
        }
        let channels = u64::from(self.channels);
        let [height, width] = self.size.map(|n| n as u64);
        let along = |axis: usize| (self.size[axis] - origin[axis]).div_ceil(step[axis]) as u64;
        let pixel = channels * ELEMENT_BYTES;
        let first = (origin[0] as u64 * width + origin[1] as u64) * pixel;
        Some(TensorMap {
            address: self.address + first,
            dims: vec![
                channels,
                along(1),
                along(0),
                images as u64,
                self.components as u64,
            ],
            strides: vec![
                step[1] as u64 * pixel,
                step[0] as u64 * width * pixel,
                height * width * pixel,
                // Of one component there is no next; a stride is a multiple of 16 even so.
                (self.component_stride * ELEMENT_BYTES).max(16),
            ],
            box_dims: vec![
                EQ_HOPPER_DEPTH,
                1 << shape.width,
                1 << shape.height,
                1 << shape.images(),
                1,
            ],
        })
    }
}

/// Which view of its source a tap reads, and which pixel of it for class pixel (0, 0).
pub struct View {
    pub origin: [usize; 2],
    pub step: [usize; 2],
    pub shift: [i32; 2],
}

impl View {
    pub fn of(tap: &Tap) -> Self {
        let remainder = [0, 1].map(|axis| tap.offset[axis].rem_euclid(tap.step[axis]));
        Self {
            origin: remainder.map(|r| r as usize),
            step: tap.step.map(|s| s as usize),
            shift: [0, 1].map(|axis| (tap.offset[axis] - remainder[axis]) / tap.step[axis]),
        }
    }
}

/// An edge's weights in boxes: channels along the rows of slabs, rows, taps.
fn slabs_map(slabs: &Slabs, weights: u64) -> TensorMap {
    let [post, pre, taps] = [slabs.post, slabs.pre, slabs.taps].map(|n| n as u64);
    TensorMap {
        address: weights + slabs.first as u64 * ELEMENT_BYTES,
        dims: vec![pre, post, taps],
        strides: vec![pre * ELEMENT_BYTES, post * pre * ELEMENT_BYTES],
        box_dims: vec![EQ_HOPPER_DEPTH, EQ_HOPPER_BOX, 1],
    }
}

/// Collects what a sweep needs beside its targets and taps.
#[derive(Default)]
pub struct BoxesBuilder {
    views: Vec<TensorMap>,
    slabs: Vec<Slabs>,
    targets: Vec<EqHopperTarget>,
    taps: Vec<EqHopperTap>,
}

/// The number of an item in a list, to which it is added if it is new.
pub fn number_of<T: PartialEq>(list: &mut Vec<T>, item: T) -> u32 {
    let found = list.iter().position(|other| *other == item);
    found.unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    }) as u32
}

impl BoxesBuilder {
    /// A tap's entry; `None` where no pixel of the class reads inside of the source. Views come before slabs in the final list, so
    /// that the number of a slab is that of its edge until [`BoxesBuilder::build`].
    pub fn tap(
        &mut self,
        tap: &Tap,
        sides: [Stored; 2],
        updated: u32,
        images: usize,
        shape: BoxShape,
        slabs: Slabs,
    ) -> Option<EqHopperTap> {
        let View {
            origin,
            step,
            shift,
        } = View::of(tap);
        let mut views = [0; 2];
        for (number, side) in views.iter_mut().zip(sides) {
            *number = number_of(&mut self.views, side.view(images, origin, step, shape)?);
        }
        Some(EqHopperTap {
            views,
            slabs: number_of(&mut self.slabs, slabs),
            slab: tap.tap as u32,
            shift_y: shift[0],
            shift_x: shift[1],
            slices: sides[0].channels.div_ceil(EQ_HOPPER_DEPTH),
            updated,
            downwards: u32::from(tap.downwards),
        })
    }

    /// A target with its taps, those upwards first. States are absent where only sums are wanted.
    pub fn target(
        &mut self,
        class: &Class,
        images: usize,
        shape: BoxShape,
        (sides, free): (Option<[Stored; 2]>, Option<Stored>),
        taps: Vec<EqHopperTap>,
    ) {
        let mut view = |of: Stored| {
            let view = of.view(images, class.origin, class.step, shape);
            number_of(&mut self.views, view.expect("a class has pixels"))
        };
        let upwards = taps.iter().filter(|tap| tap.downwards == 0);
        let [boxes_x, boxes_y] = shape.along(class.size);
        self.targets.push(EqHopperTarget {
            views: sides.map_or([0; 2], |sides| sides.map(&mut view)),
            free_view: free.map_or(0, view),
            width_bits: shape.width,
            height_bits: shape.height,
            boxes_x: boxes_x as u32,
            boxes_y: boxes_y as u32,
            slices_up: upwards.map(|tap| tap.slices).sum(),
            first_tap: self.taps.len() as u32,
            taps: taps.len() as u32,
        });
        self.taps.extend(taps);
    }

    /// The tables in device memory; the maps follow at the first launch, which brings the weights.
    pub fn build(mut self, device: &Arc<dyn Device>) -> Result<Boxes> {
        for tap in &mut self.taps {
            tap.slabs += self.views.len() as u32;
        }
        Ok(Boxes {
            maps: Buffer::new(
                device,
                (self.views.len() + self.slabs.len()) * tensor_map::BYTES,
            )?,
            targets: Buffer::from_slice(device, &self.targets)?,
            taps: Buffer::from_slice(device, &self.taps)?,
            views: self.views,
            slabs: self.slabs,
            made_for: Mutex::new(0),
        })
    }
}

/// A sweep's tables for Hopper.
pub struct Boxes {
    maps: Buffer<u8>,
    targets: Buffer<EqHopperTarget>,
    taps: Buffer<EqHopperTap>,
    views: Vec<TensorMap>,
    slabs: Vec<Slabs>,
    /// the weights that the maps in device memory are of
    made_for: Mutex<usize>,
}

impl Boxes {
    /// Arguments of a launch of so many tiles.
    ///
    /// # Errors
    /// When a tensor map cannot be made.
    pub fn args(
        &self,
        device: &dyn Device,
        relax: EqRelaxArgs,
        tiles: usize,
    ) -> Result<EqHopperArgs> {
        let mut made_for = self.made_for.lock().unwrap_or_else(PoisonError::into_inner);
        let weights = relax.weights as usize;
        if *made_for != weights {
            let slabs = (self.slabs.iter()).map(|slabs| slabs_map(slabs, weights as u64));
            let mut bytes = Vec::with_capacity(self.maps.len());
            for map in self.views.iter().cloned().chain(slabs) {
                bytes.extend(device.tensor_map(&map)?);
            }
            self.maps.write(&bytes)?;
            *made_for = weights;
        }
        Ok(EqHopperArgs {
            relax,
            targets: self.targets.ptr(),
            taps: self.taps.ptr(),
            maps: self.maps.ptr(),
            map_count: (self.maps.len() / tensor_map::BYTES) as u32,
            tiles: tiles as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_compact_and_few() {
        let chosen = |size, images| {
            let shape = BoxShape::choose(size, images);
            let sides = [shape.width, shape.height, shape.images()].map(|bits| 1 << bits);
            (sides, shape.count(size, images))
        };
        assert_eq!(chosen([16, 16], 128), ([8, 8, 1], 4 * 128));
        assert_eq!(chosen([8, 8], 128), ([8, 8, 1], 128));
        assert_eq!(chosen([4, 4], 128), ([4, 4, 4], 32));
        assert_eq!(chosen([2, 2], 128), ([2, 2, 16], 8));
        assert_eq!(chosen([1, 1], 128), ([1, 1, 64], 2));
        // 14 x 14 = 196 pixels: three boxes an image and a rest, which no shape of one image fits better than 16 x 4.
        assert_eq!(chosen([14, 14], 1).1, 4);
        // 7 x 7 pixels fit one box of 64.
        assert_eq!(chosen([7, 7], 3), ([8, 8, 1], 3));
    }

    /// A pixel of a view is the pixel that the tap table names, and the view has all of them.
    #[test]
    fn a_view_has_every_pixel_that_a_tap_can_reach() {
        let stored = Stored {
            address: 4096,
            components: 2,
            component_stride: 3 * 7 * 6 * 16,
            size: [7, 6],
            channels: 16,
        };
        let shape = BoxShape::choose([4, 3], 3);
        for step in [1, 2, 3, 5] {
            for offset in -4i32..8 {
                let (origin, shift) = (offset.rem_euclid(step), offset.div_euclid(step));
                let view = stored.view(3, [origin as usize; 2], [step as usize; 2], shape);
                for (axis, size) in [(0, 7), (1, 6)] {
                    for i in 0..8 {
                        let pixel = i * step + offset;
                        let inside = (0..size).contains(&pixel);
                        let Some(view) = &view else {
                            // The other axis may be the one that has no pixel.
                            assert!(!inside || origin >= 6);
                            continue;
                        };
                        let dim = view.dims[2 - axis] as i32;
                        assert_eq!((0..dim).contains(&(i + shift)), inside);
                        if inside {
                            let at = view.address as i64
                                + i64::from(i + shift) * view.strides[1 - axis] as i64;
                            let along = if axis == 0 { 6 * 32 } else { 32 };
                            let other = if axis == 0 { 32 } else { 6 * 32 };
                            let want = i64::from(pixel) * along + i64::from(origin) * other;
                            assert_eq!(at, 4096 + want);
                        }
                    }
                }
            }
        }
    }
}
