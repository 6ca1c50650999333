//! Tables of the weight gradient on Hopper: its tiles, and the views of states that its boxes are pieces of.
//!
//! K is pixels, [`EQ_HOPPER_BOX`] of them to a slot of the kernel's ring: a box of the post layer, and for each box of columns
//! ([`EQ_HOPPER_DEPTH`] pre channels of a tap) the pixels that the tap joins to those of the post layer, a box of a view ([`super::boxes`]).
//!
//! **Which edges.** A tile has [`EQ_HOPPER_GRAD_POST`] post channels and [`EQ_HOPPER_GRAD_COLUMNS`] columns. What does not fill it is
//! multiplied with zeros: an edge of few channels, as that of the image, is left to the `mma.sync` kernel, whose tiles take several taps.
//!
//! **Pairs.** Tiles lie in pairs of as many slots, one for each block of a cluster (`weight_grad_hopper_cluster`): with the same columns,
//! else with the same post channels, so that each block fetches half of what both need; what is left of two splits, which have nothing in
//! common; at last a tile with one that is empty.
//!
//! **Splits.** Pixels are cut so that the tiles of all edges together end early on an H100, on every GPU in the same way, so that sums
//! have the same bits.

use super::boxes::{BoxShape, Stored, View, number_of};
use super::costs::MULTIPROCESSORS;
use super::geometry::{Tap, taps_up, whole};
use super::layout::padded;
use super::pairs::{Pair, pair_up};
use super::products::{Products, TensorGradient};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::tensor_map::{self, TensorMap};
use crate::error::Result;
use std::sync::Arc;

/// What a tile's beginning and end take, in slots (1.15 us by the constants of `measure/chip.rs`): 128 KB of sums go to L2, and a latency.
const ENDS: f64 = 4.0;
/// Bytes of device memory that are gathered while a slot passes.
const GATHERED: f64 = 3.86e6;
/// How many slots a tile may have: those of which the best is chosen.
const SLOTS: [usize; 14] = [2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 384, 768];
/// `wgmma` does as much as 4/3 of what `mma.sync` does in the same time, where L2 bounds both (85 and 64 products and sums for a byte):
/// with more padding than that it does not pay.
const GAIN: [usize; 2] = [4, 3];

/// An edge's product in units of boxes and tiles.
#[derive(Clone, Copy)]
struct Extent {
    /// of post pixels
    boxes: usize,
    /// slots for a box
    products: usize,
    /// tiles of a split
    squares: usize,
    /// bytes of a split's sums
    bytes: usize,
}

impl Extent {
    /// `None` where the edge is left to the other kernel.
    fn of(products: &Products, images: usize) -> Option<Self> {
        let g = &products.geometry;
        let (post, columns) = (padded(g.full.channels), g.taps() * padded(g.pre.channels));
        let [tile_post, tile_columns] = [EQ_HOPPER_GRAD_POST, EQ_HOPPER_GRAD_COLUMNS];
        let squares = post.div_ceil(tile_post as usize)
            * column_boxes(products).div_ceil(boxes_of(tile_columns));
        let of_mma = |n: usize| n.div_ceil(EQ_GRAD_WIDE as usize) * EQ_GRAD_WIDE as usize;
        let area = squares * (tile_post * tile_columns) as usize;
        if area * GAIN[1] > of_mma(post) * of_mma(columns) * GAIN[0] {
            return None;
        }
        Some(Self {
            boxes: shape(products, images).count([g.full.height, g.full.width], images),
            products: if products.one { 1 } else { 2 },
            squares,
            bytes: 4 * post * columns,
        })
    }

    /// Splits of about so many slots, and the boxes of each.
    fn split(&self, slots: usize) -> (usize, usize) {
        let wanted = (self.boxes * self.products).div_ceil(slots);
        let boxes = self.boxes.div_ceil(wanted.min(self.boxes));
        (self.boxes.div_ceil(boxes), boxes)
    }
}

fn boxes_of(columns: u32) -> usize {
    (columns / EQ_HOPPER_DEPTH) as usize
}

fn boxes_per_tap(products: &Products) -> usize {
    padded(products.geometry.pre.channels).div_ceil(EQ_HOPPER_DEPTH as usize)
}

fn column_boxes(products: &Products) -> usize {
    products.geometry.taps() * boxes_per_tap(products)
}

fn shape(products: &Products, images: usize) -> BoxShape {
    let full = products.geometry.full;
    BoxShape::choose([full.height, full.width], images)
}

/// Boxes of post pixels to a split, for each part that Hopper's kernel computes: as many as end the launch and the gathering earliest.
pub fn splits(parts: &[TensorGradient], images: usize) -> Vec<Option<usize>> {
    let extents: Vec<Option<Extent>> = (parts.iter())
        .map(|part| match part {
            TensorGradient::Products(products) => Extent::of(products, images),
            _ => None,
        })
        .collect();
    let seconds = |slots: usize| -> f64 {
        let (mut work, mut gathered) = (Vec::new(), 0.0);
        for extent in extents.iter().flatten() {
            let (splits, boxes) = extent.split(slots);
            gathered += (splits * extent.bytes) as f64 / GATHERED;
            work.extend((0..splits).flat_map(|split| {
                let boxes = boxes.min(extent.boxes - split * boxes);
                std::iter::repeat_n(boxes * extent.products, extent.squares)
            }));
        }
        work.sort_unstable_by_key(|&slots| std::cmp::Reverse(slots));
        last_end(&work, MULTIPROCESSORS) + gathered
    };
    let best = SLOTS
        .into_iter()
        .min_by(|&a, &b| seconds(a).total_cmp(&seconds(b)));
    let best = best.expect("there are several");
    (extents.iter())
        .map(|extent| extent.map(|extent| extent.split(best).1))
        .collect()
}

/// When the last block ends, in slots, if they take the tiles by turns, as [`in_turn`] has them.
fn last_end(work: &[usize], blocks: usize) -> f64 {
    let mut ends = vec![0.0; blocks];
    for (round, tiles) in work.chunks(blocks).enumerate() {
        for (i, &slots) in tiles.iter().enumerate() {
            let block = if round % 2 == 0 {
                i
            } else {
                tiles.len() - 1 - i
            };
            ends[block] += slots as f64 + ENDS;
        }
    }
    ends.into_iter().fold(0.0, f64::max)
}

/// The pairs with the longest tiles first, and every other round backwards: who had the longest of one gets the shortest of the next.
fn in_turn(
    pairs: &[Pair<EqGradTile>],
    blocks: usize,
    edges: &[EqHopperGradEdge],
) -> Vec<EqGradTile> {
    let slots = |pair: &Pair<EqGradTile>| pair[0].pixels * edges[pair[0].edge as usize].products;
    let mut pairs = pairs.to_vec();
    pairs.sort_by_key(|pair| std::cmp::Reverse(slots(pair)));
    for round in pairs.chunks_mut((blocks / 2).max(1)).skip(1).step_by(2) {
        round.reverse();
    }
    pairs.concat()
}

/// Two tiles, which have this in common (`EQ_SHARED_*`).
fn pair(tiles: Pair<EqGradTile>, shared: u32) -> Pair<EqGradTile> {
    tiles.map(|tile| EqGradTile { shared, ..tile })
}

/// A tile with one that has no columns: zeros arrive, and nothing is stored.
fn with_none(tile: EqGradTile) -> Pair<EqGradTile> {
    let none = EqGradTile {
        first_column: u32::MAX / 2,
        ..tile
    };
    pair([tile, none], EQ_SHARED_LEFT)
}

/// Collects edges.
#[derive(Default)]
pub struct GradientBoxesBuilder {
    views: Vec<TensorMap>,
    edges: Vec<EqHopperGradEdge>,
    taps: Vec<EqHopperGradTap>,
    pairs: Vec<Pair<EqGradTile>>,
}

impl GradientBoxesBuilder {
    /// Adds an edge that is cut into splits of so many boxes, whose sums go to the workspace from `out` on; the number of splits.
    pub fn add(&mut self, products: &Products, images: usize, boxes: usize, out: usize) -> usize {
        let g = &products.geometry;
        let shape = shape(products, images);
        let (post, pre) = (padded(g.full.channels), padded(g.pre.channels));
        let components = if products.one { 1 } else { 2 };
        // Of a single product only the half difference of the post layer is wanted.
        let only = if products.one {
            products.post_stride
        } else {
            0
        };
        let size = [g.full.height, g.full.width];
        let stored_post = Stored {
            address: products.post as u64 + only as u64 * 2,
            components,
            component_stride: products.post_stride as u64,
            size,
            channels: post as u32,
        };
        let stored_pre = Stored {
            address: products.pre as u64,
            components,
            component_stride: products.pre_stride as u64,
            size: [g.pre.height, g.pre.width],
            channels: pre as u32,
        };
        let post_view = (stored_post.view(images, [0, 0], [1, 1], shape)).expect("it has pixels");
        let [boxes_x, boxes_y] = shape.along(size);
        let edge = self.edges.len() as u32;
        self.edges.push(EqHopperGradEdge {
            post_view: number_of(&mut self.views, post_view),
            width_bits: shape.width,
            height_bits: shape.height,
            boxes_x: boxes_x as u32,
            boxes_y: boxes_y as u32,
            products: components as u32,
            post_channels: post as u32,
            pre_channels: pre as u32,
            first_tap: self.taps.len() as u32,
            taps: g.taps() as u32,
            boxes_per_tap: boxes_per_tap(products) as u32,
        });
        for tap in taps_up(0, g, &whole(g.full)) {
            let tap = self.tap(&tap, stored_pre, images, shape);
            self.taps.push(tap);
        }
        let all = shape.count(size, images);
        let splits = all.div_ceil(boxes);
        let posts: Vec<u32> = (0..post as u32)
            .step_by(EQ_HOPPER_GRAD_POST as usize)
            .collect();
        let columns: Vec<u32> = (0..column_boxes(products) as u32)
            .step_by(boxes_of(EQ_HOPPER_GRAD_COLUMNS))
            .collect();
        let mut left: Option<EqGradTile> = None;
        for split in 0..splits {
            let out = out + split * post * g.taps() * pre;
            let tile = |first_post, first_column, shared| EqGradTile {
                edge,
                first_post,
                first_column,
                first_pixel: (split * boxes) as u32,
                pixels: boxes.min(all - split * boxes) as u32,
                shared,
                out: out as u64,
            };
            let shared = [EQ_SHARED_RIGHT, EQ_SHARED_LEFT];
            let last = pair_up(&posts, &columns, shared, tile, &mut self.pairs);
            let Some((post, column)) = last else {
                continue;
            };
            let last = tile(post, column, EQ_SHARED_NOTHING);
            match left.take() {
                Some(other) if other.pixels == last.pixels => {
                    self.pairs.push(pair([other, last], EQ_SHARED_NOTHING));
                }
                other => {
                    self.pairs.extend(other.map(with_none));
                    left = Some(last);
                }
            }
        }
        self.pairs.extend(left.map(with_none));
        splits
    }

    /// The tiles in the order in which so many blocks take them by turns: slots of each, and what it shares (`EQ_SHARED_*`).
    pub fn slots_in_turn(self, blocks: usize) -> Vec<(u32, u32)> {
        let tiles = in_turn(&self.pairs, blocks, &self.edges);
        let slots = |tile: &EqGradTile| {
            let edge = &self.edges[tile.edge as usize];
            (tile.pixels * edge.products, tile.shared)
        };
        tiles.iter().map(slots).collect()
    }

    fn tap(&mut self, tap: &Tap, pre: Stored, images: usize, shape: BoxShape) -> EqHopperGradTap {
        let View {
            origin,
            step,
            shift,
        } = View::of(tap);
        let (view, [shift_y, shift_x]) = match pre.view(images, origin, step, shape) {
            Some(view) => (view, shift),
            // No pixel of the pre layer is so far out: zeros, as behind the end of any view.
            None => {
                let any = pre.view(images, [0, 0], [1, 1], shape);
                let beyond = pre.size.map(|size| size as i32);
                (any.expect("it has pixels"), beyond)
            }
        };
        EqHopperGradTap {
            view: number_of(&mut self.views, view),
            shift_y,
            shift_x,
        }
    }

    /// The tables in device memory; `None` where no edge came.
    pub fn build(self, device: &Arc<dyn Device>) -> Result<Option<GradientBoxes>> {
        if self.pairs.is_empty() {
            return Ok(None);
        }
        let mut maps = Vec::with_capacity(self.views.len() * tensor_map::BYTES);
        for view in &self.views {
            maps.extend(device.tensor_map(view)?);
        }
        let tiles = in_turn(&self.pairs, device.multiprocessors(), &self.edges);
        Ok(Some(GradientBoxes {
            maps: Buffer::from_slice(device, &maps)?,
            edges: Buffer::from_slice(device, &self.edges)?,
            taps: Buffer::from_slice(device, &self.taps)?,
            tiles: Buffer::from_slice(device, &tiles)?,
        }))
    }
}

/// A gradient's tables for Hopper.
pub struct GradientBoxes {
    maps: Buffer<u8>,
    edges: Buffer<EqHopperGradEdge>,
    taps: Buffer<EqHopperGradTap>,
    tiles: Buffer<EqGradTile>,
}

impl GradientBoxes {
    /// Arguments of the launch, which writes to this workspace.
    pub fn args(&self, workspace: &Buffer<f32>) -> EqHopperGradArgs {
        EqHopperGradArgs {
            edges: self.edges.ptr(),
            taps: self.taps.ptr(),
            tiles: self.tiles.ptr(),
            maps: self.maps.ptr(),
            workspace: workspace.ptr(),
            map_count: (self.maps.len() / tensor_map::BYTES) as u32,
            tile_count: self.tiles.len() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::tables::geometry::Geometry;
    use crate::network::Shape;

    fn edge(pre: Shape, full: Shape, kernel: usize, stride: usize) -> TensorGradient {
        TensorGradient::Products(Products {
            geometry: Geometry {
                pre,
                full,
                pooled: false,
                average: false,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [kernel / 2; 2],
                dilation: [1, 1],
            },
            pre: std::ptr::null(),
            pre_stride: 0,
            post: std::ptr::null(),
            post_stride: 0,
            one: false,
        })
    }

    #[test]
    fn edges_of_few_channels_are_left_to_the_other_kernel() {
        let parts = [
            edge(Shape::new(3, 32, 32), Shape::new(128, 32, 32), 3, 1),
            edge(Shape::new(128, 32, 32), Shape::new(128, 16, 16), 3, 2),
            edge(Shape::new(72, 8, 8), Shape::new(136, 8, 8), 3, 1),
            TensorGradient::Zero,
            edge(Shape::new(512, 2, 2), Shape::new(512, 1, 1), 1, 2),
        ];
        let splits = splits(&parts, 128);
        let taken = splits.iter().map(Option::is_some);
        assert_eq!(taken.collect::<Vec<_>>(), [false, true, false, false, true]);
    }

    #[test]
    fn few_tiles_are_split_into_single_boxes() {
        let parts = [edge(Shape::new(128, 9, 7), Shape::new(200, 5, 4), 3, 2)];
        assert_eq!(splits(&parts, 3), [Some(1)]);
    }

    /// Every tile is in one pair, whose two have as many slots and in common what they say.
    #[test]
    fn tiles_lie_in_pairs() {
        // Post channels of one, two and three tiles; 5, 9 and 1 tiles of columns; an odd number of splits, and a rest of the pixels.
        for (post, pre, kernel, boxes) in [
            (128, 128, 3, 5),
            (256, 128, 3, 4),
            (384, 256, 3, 3),
            (200, 200, 1, 2),
        ] {
            let part = edge(Shape::new(pre, 8, 8), Shape::new(post, 8, 8), kernel, 1);
            let TensorGradient::Products(products) = part else {
                unreachable!("it is one")
            };
            let mut builder = GradientBoxesBuilder::default();
            let splits = builder.add(&products, 23, boxes, 0);
            let mut seen = std::collections::HashMap::new();
            let limit = column_boxes(&products) as u32;
            for [a, b] in &builder.pairs {
                assert_eq!((a.pixels, a.shared), (b.pixels, b.shared));
                match a.shared {
                    EQ_SHARED_RIGHT => assert_eq!(
                        (a.first_column, a.first_pixel),
                        (b.first_column, b.first_pixel)
                    ),
                    EQ_SHARED_LEFT => {
                        assert_eq!((a.first_post, a.first_pixel), (b.first_post, b.first_pixel));
                    }
                    _ => assert!(a.first_pixel != b.first_pixel),
                }
                for tile in [a, b].into_iter().filter(|tile| tile.first_column < limit) {
                    let key = (tile.first_post, tile.first_column, tile.first_pixel);
                    *seen.entry(key).or_insert(0) += 1;
                }
            }
            let tiles = post.div_ceil(128) * column_boxes(&products).div_ceil(4) * splits;
            assert_eq!(seen.len(), tiles);
            assert!(seen.values().all(|&count| count == 1));
            // At most one is lonely for each number of pixels that splits have.
            assert!(2 * builder.pairs.len() <= tiles + 2);
        }
    }

    /// Every box of pixels is in one tile of each square, and blocks have about the same to do.
    #[test]
    fn tiles_cover_all_pixels_and_are_balanced() {
        let parts = [
            edge(Shape::new(128, 32, 32), Shape::new(256, 16, 16), 3, 2),
            edge(Shape::new(256, 16, 16), Shape::new(512, 8, 8), 3, 2),
            edge(Shape::new(512, 8, 8), Shape::new(512, 4, 4), 3, 2),
        ];
        let images = 128;
        let mut builder = GradientBoxesBuilder::default();
        for (part, boxes) in parts.iter().zip(splits(&parts, images)) {
            let TensorGradient::Products(products) = part else {
                unreachable!("all are products")
            };
            builder.add(products, images, boxes.expect("all fit"), 0);
        }
        for (edge, want) in [128 * 4, 128, 32].into_iter().enumerate() {
            let of_edge =
                (builder.pairs.as_flattened().iter()).filter(|tile| tile.edge == edge as u32);
            let first = of_edge.filter(|tile| tile.first_post == 0 && tile.first_column == 0);
            let mut next = 0;
            for tile in first {
                assert_eq!(tile.first_pixel, next);
                next += tile.pixels;
            }
            assert_eq!(next, want);
        }
        let tiles = in_turn(&builder.pairs, MULTIPROCESSORS, &builder.edges);
        let mut blocks = vec![0; MULTIPROCESSORS];
        for (i, tile) in tiles.iter().enumerate() {
            blocks[i % MULTIPROCESSORS] += tile.pixels * builder.edges[tile.edge as usize].products;
        }
        let (most, all) = (blocks.iter().max().unwrap(), blocks.iter().sum::<u32>());
        let even = f64::from(all) / MULTIPROCESSORS as f64;
        assert!(
            f64::from(*most) < 1.15 * even,
            "{most} slots instead of {even}"
        );
    }
}
