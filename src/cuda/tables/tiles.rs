//! The tiles of a launch: which kernel computes them, and in which order.
//!
//! A pure function of the layers and of what the GPU is, shared by the launches themselves and by the estimate of
//! `cargo bench --bench kernels -- --estimate`.
//!
//! **Size.** Two blocks fit on a multiprocessor. A launch with fewer tiles than that leaves part of the chip idle, so it is
//! divided into the next smaller tiles, which compute the same bits, as long as that gives more blocks to run at once.
//!
//! **Order.** The heaviest first, so that small tiles fill the gaps at the end; but tiles whose product is short are bound by
//! memory, and all of them together would leave the tensor cores idle: they are spread evenly among the others.
//!
//! **Change.** Each pixel block of a layer and each strip of [`EQ_CHANGE_CHANNELS`] channels has a slot of its own, numbered
//! by target, pixel block and strip, whatever the order and the size of tiles: the sum of the change, and with it the
//! iteration at which a phase ends, does not depend on the GPU.

use crate::cuda::machine::abi::{EQ_CHANGE_CHANNELS, EqTile};
use crate::cuda::machine::kernels::{Relax, TileShape};

/// Blocks of the largest tile that fit on a multiprocessor.
pub const BLOCKS_PER_MULTIPROCESSOR: usize = 2;

/// Products per output unit below which a tile is bound by memory: its state, constants and slices move more bytes than the
/// tensor cores can hide. Layer 1 of the paper's networks has at most 4 taps x 128 channels per unit, all others 1152 or more.
const SHORT: usize = 640;

/// What a target has to be divided into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// of all images
    pub pixels: usize,
    /// padded
    pub channels: usize,
    /// products per output unit
    pub depth: usize,
    /// shifted products, and slices of K that they take
    pub taps: usize,
    pub steps: usize,
}

impl Extent {
    fn tiles(&self, shape: TileShape, components: usize) -> usize {
        self.pixels.div_ceil(shape.rows / components) * self.channels.div_ceil(shape.channels)
    }

    fn strips(&self) -> usize {
        self.channels.div_ceil(EQ_CHANGE_CHANNELS as usize)
    }
}

/// The tiles of one launch in the order of its blocks.
#[derive(Debug, Clone)]
pub struct TileList {
    pub relax: Relax,
    pub tiles: Vec<EqTile>,
    /// slots of the change
    pub changes: usize,
}

impl TileList {
    /// Divides targets into tiles of `relax` or a finer version, for a GPU of so many multiprocessors.
    pub fn new(
        relax: Relax,
        multiprocessors: usize,
        components: usize,
        extents: &[Extent],
    ) -> Self {
        let relax = fitting(
            relax,
            multiprocessors * BLOCKS_PER_MULTIPROCESSOR,
            components,
            extents,
        );
        let shape = relax.tile();
        let pixels_per_block = shape.rows / components;
        let mut first_change = 0;
        let mut of_target: Vec<(usize, Vec<EqTile>)> = Vec::new();
        for (target, extent) in extents.iter().enumerate() {
            let mut tiles = Vec::with_capacity(extent.tiles(shape, components));
            for (block, first_pixel) in (0..extent.pixels).step_by(pixels_per_block).enumerate() {
                // Tiles of the same pixels follow one another: the second finds them in the cache.
                for first_channel in (0..extent.channels).step_by(shape.channels) {
                    let strip = first_channel / EQ_CHANGE_CHANNELS as usize;
                    tiles.push(EqTile {
                        target: target as u32,
                        first_pixel: first_pixel as u32,
                        first_channel: first_channel as u32,
                        change: (first_change + block * extent.strips() + strip) as u32,
                    });
                }
            }
            first_change += extent.pixels.div_ceil(pixels_per_block) * extent.strips();
            of_target.push((extent.depth, tiles));
        }
        of_target.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        let long = of_target.partition_point(|(depth, _)| *depth >= SHORT);
        let short: Vec<EqTile> = of_target
            .split_off(long)
            .into_iter()
            .flat_map(|(_, tiles)| tiles)
            .collect();
        let long: Vec<EqTile> = of_target.into_iter().flat_map(|(_, tiles)| tiles).collect();
        Self {
            relax,
            tiles: spread(long, short),
            changes: first_change,
        }
    }
}

/// The largest tiles of which there are enough to fill the GPU; else the smallest.
fn fitting(relax: Relax, blocks: usize, components: usize, extents: &[Extent]) -> Relax {
    let count = |relax: Relax| -> usize {
        extents
            .iter()
            .map(|e| e.tiles(relax.tile(), components))
            .sum()
    };
    let mut fitting = relax;
    while count(fitting) < blocks {
        match fitting
            .finer()
            .filter(|&finer| count(finer) > count(fitting))
        {
            Some(finer) => fitting = finer,
            None => break,
        }
    }
    fitting
}

/// `short` spread evenly among `long`, both in their order.
fn spread(long: Vec<EqTile>, short: Vec<EqTile>) -> Vec<EqTile> {
    let (total, of_short) = (long.len() + short.len(), short.len());
    let (mut long, mut short) = (long.into_iter(), short.into_iter());
    let is_short = |at: usize| (at + 1) * of_short / total > at * of_short / total;
    let pick = |at| {
        if is_short(at) {
            short.next()
        } else {
            long.next()
        }
    };
    (0..total)
        .map(pick)
        .map(|tile| tile.expect("there are as many as counted"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn extents() -> Vec<Extent> {
        let extent = |pixels, channels, depth| Extent {
            pixels,
            channels,
            depth,
            ..Extent::default()
        };
        vec![
            extent(1000, 136, 128),
            extent(900, 40, 2000),
            extent(70, 512, 5000),
            extent(5, 16, 512),
        ]
    }

    /// Each pixel and channel is computed by exactly one tile, and each strip has a slot of its own.
    #[test]
    fn tiles_cover_every_unit_once_and_every_strip_has_one_slot_whatever_the_gpu() {
        for relax in [
            Relax::Simt,
            Relax::MmaWide,
            Relax::MmaMedium,
            Relax::MmaNarrow,
        ] {
            for components in [1, 2] {
                let mut slots_of = Vec::new();
                for multiprocessors in [1, 20, 132, 188] {
                    let list = TileList::new(relax, multiprocessors, components, &extents());
                    let shape = list.relax.tile();
                    let mut slots = BTreeSet::new();
                    let mut units = 0;
                    for tile in &list.tiles {
                        let extent = extents()[tile.target as usize];
                        let pixels = (extent.pixels - tile.first_pixel as usize)
                            .min(shape.rows / components);
                        let channels =
                            (extent.channels - tile.first_channel as usize).min(shape.channels);
                        units += pixels * channels;
                        for strip in 0..channels.div_ceil(EQ_CHANGE_CHANNELS as usize) {
                            let channel =
                                tile.first_channel as usize + strip * EQ_CHANGE_CHANNELS as usize;
                            let slot = tile.change as usize + strip;
                            assert!(slot < list.changes);
                            assert!(slots.insert((slot, tile.target, tile.first_pixel, channel)));
                        }
                    }
                    assert_eq!(
                        units,
                        extents()
                            .iter()
                            .map(|e| e.pixels * e.channels)
                            .sum::<usize>()
                    );
                    let distinct: BTreeSet<usize> = slots.iter().map(|slot| slot.0).collect();
                    assert_eq!(distinct.len(), slots.len());
                    assert_eq!(slots.len(), list.changes);
                    slots_of.push(slots);
                }
                assert!(slots_of.iter().all(|slots| *slots == slots_of[0]));
            }
        }
    }

    #[test]
    fn few_tiles_are_made_finer_until_two_blocks_fit_on_every_multiprocessor() {
        let one = |pixels| {
            vec![Extent {
                pixels,
                channels: 256,
                depth: 4608,
                ..Extent::default()
            }]
        };
        let chosen = |pixels, multiprocessors| {
            TileList::new(Relax::MmaWide, multiprocessors, 1, &one(pixels)).relax
        };
        assert_eq!(chosen(128 * 200, 132), Relax::MmaWide); // 400 tiles
        assert_eq!(chosen(128 * 100, 132), Relax::MmaMedium); // 200, then 400
        assert_eq!(chosen(128 * 40, 132), Relax::MmaNarrow); // 80, 160, then 320
        assert_eq!(chosen(128 * 40, 20), Relax::MmaWide);
    }

    #[test]
    fn short_products_are_spread_among_long_ones() {
        let extents = [
            Extent {
                pixels: 128 * 90,
                channels: 128,
                depth: 2304,
                ..Extent::default()
            },
            Extent {
                pixels: 128 * 30,
                channels: 128,
                depth: 256,
                ..Extent::default()
            },
        ];
        let list = TileList::new(Relax::MmaWide, 1, 1, &extents);
        for part in list.tiles.chunks(12) {
            assert_eq!(part.iter().filter(|tile| tile.target == 1).count(), 3);
        }
    }
}
