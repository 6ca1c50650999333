//! The tiles of a launch: which kernel computes them, and in which order.
//!
//! A pure function of the layers and of what the GPU is, shared by the launches themselves and by the estimate of
//! `cargo bench --bench kernels -- --estimate`.
//!
//! **Splits.** Layers of few tiles leave most of a GPU idle. Where it shortens a launch, K is split ([`super::splits`]): blocks compute the
//! sums of parts of it, and a second launch joins the parts in their order.
//!
//! **Size.** Two blocks fit on a multiprocessor. A launch of no more than one for each is divided into the next smaller tiles, which
//! compute the same bits, if that gives more of them. With more than one, large tiles end earlier: half as many channels take three
//! quarters of the bytes of a large tile, and L2 bounds most launches.
//!
//! **Order.** The heaviest first, so that small tiles fill the gaps at the end; but tiles whose product is short are bound by
//! memory, and all of them together would leave the tensor cores idle: they are spread evenly among the others.
//!
//! Where blocks stay and take tiles by turns, as on Hopper, each gets as much to do as the others ([`super::turns`]); there two blocks of a
//! cluster take tiles in pairs ([`super::pairs`]).
//!
//! **Change.** Each pixel block of a layer and each strip of [`EQ_CHANGE_CHANNELS`] channels has a slot of its own, numbered
//! by target, pixel block and strip, whatever the order and the size of tiles: the sum of the change, and with it the
//! iteration at which a phase ends, does not depend on the GPU.

use super::costs::cost;
use super::pairs::{Pair, pair_up};
use super::turns::{NONE, by_turns};
use crate::cuda::machine::abi::{
    EQ_CHANGE_CHANNELS, EQ_NO_CHANGE, EQ_SHARED_LEFT, EQ_SHARED_NOTHING, EQ_SHARED_RIGHT,
    EQ_TILE_JOIN, EQ_TILE_PART, EQ_TILE_WHOLE, EqTile,
};
use crate::cuda::machine::kernels::{Relax, TileShape};
use std::collections::{BTreeMap, BTreeSet};

/// A pixel that no layer has.
const BEYOND: u32 = 1 << 30;

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
    /// slices of K that they take
    pub steps: usize,
}

impl Extent {
    pub(super) fn tiles(&self, shape: TileShape, components: usize) -> usize {
        self.pixels.div_ceil(shape.rows / components) * self.channels.div_ceil(shape.channels)
    }

    fn strips(&self) -> usize {
        self.channels.div_ceil(EQ_CHANGE_CHANNELS as usize)
    }
}

/// The tiles of one sweep in the order of its blocks.
#[derive(Debug, Clone)]
pub struct TileList {
    pub relax: Relax,
    /// of the first launch: whole updates, and parts of others; on Hopper in pairs
    pub tiles: Vec<EqTile>,
    /// of the second launch, which joins the parts
    pub joins: Vec<EqTile>,
    pub parts: usize,
    /// slots of the change
    pub changes: usize,
}

impl TileList {
    /// Divides targets into tiles of `relax` or a finer version, for a GPU of so many multiprocessors, and the K of each into so many
    /// parts.
    pub fn new(
        relax: Relax,
        multiprocessors: usize,
        components: usize,
        extents: &[Extent],
        splits: &[usize],
    ) -> Self {
        let relax = fitting(relax, multiprocessors, components, extents, splits);
        let shape = relax.tile();
        let pixels_per_block = shape.rows / components;
        let (mut long, mut short, mut joins) = (Vec::new(), Vec::new(), Vec::new());
        let (mut changes, mut parts) = (0, 0);
        for (target, (extent, &split)) in extents.iter().zip(splits).enumerate() {
            for (block, first_pixel) in (0..extent.pixels).step_by(pixels_per_block).enumerate() {
                // Tiles of the same pixels follow one another: the second finds them in the cache.
                for first_channel in (0..extent.channels).step_by(shape.channels) {
                    let strip = first_channel / EQ_CHANGE_CHANNELS as usize;
                    let whole = EqTile {
                        target: target as u32,
                        first_pixel: first_pixel as u32,
                        first_channel: first_channel as u32,
                        change: (changes + block * extent.strips() + strip) as u32,
                        kind: EQ_TILE_WHOLE,
                        steps: extent.steps as u32,
                        ..EqTile::default()
                    };
                    if split == 1 {
                        let tiles = if extent.depth < SHORT {
                            &mut short
                        } else {
                            &mut long
                        };
                        tiles.push(whole);
                        continue;
                    }
                    let begin = |part: usize| part * extent.steps / split;
                    long.extend((0..split).map(|part| EqTile {
                        kind: EQ_TILE_PART,
                        first_step: begin(part) as u32,
                        steps: (begin(part + 1) - begin(part)) as u32,
                        first_part: (parts + part) as u32,
                        ..whole
                    }));
                    joins.push(EqTile {
                        kind: EQ_TILE_JOIN,
                        steps: 0,
                        first_part: parts as u32,
                        parts: split as u32,
                        ..whole
                    });
                    parts += split;
                }
            }
            changes += extent.pixels.div_ceil(pixels_per_block) * extent.strips();
        }
        long.sort_by_key(|tile| std::cmp::Reverse(tile.steps));
        short.sort_by_key(|tile| std::cmp::Reverse(tile.steps));
        let tiles = match relax {
            Relax::Hopper => {
                let [long, short] = [long, short].map(|tiles| in_pairs(&tiles));
                let pairs = spread(long, short);
                joins = by_turns(joins, multiprocessors, cost, NONE);
                by_turns(
                    pairs,
                    multiprocessors / 2,
                    |[tile, _]| cost(tile),
                    [NONE; 2],
                )
                .concat()
            }
            _ => spread(long, short),
        };
        Self {
            relax,
            tiles,
            joins,
            parts,
            changes,
        }
    }
}

/// The tiles in pairs, the heaviest first: of the same pixels, which the two blocks then fetch together, else of the same channels, whose
/// slab they do; what is left of two targets, with nothing in common; at last a tile with one that is empty.
fn in_pairs(tiles: &[EqTile]) -> Vec<Pair<EqTile>> {
    // Of each target and part: by channels and pixels.
    let mut parts: BTreeMap<(u32, u32), BTreeMap<(u32, u32), EqTile>> = BTreeMap::new();
    for tile in tiles {
        let part = parts.entry((tile.target, tile.first_step)).or_default();
        part.insert((tile.first_channel, tile.first_pixel), *tile);
    }
    let mut pairs = Vec::new();
    // By what two tiles must have in common to be computed side by side.
    let mut left: BTreeMap<(u32, u32), EqTile> = BTreeMap::new();
    for part in parts.values() {
        let channels: BTreeSet<u32> = part.keys().map(|key| key.0).collect();
        let pixels: BTreeSet<u32> = part.keys().map(|key| key.1).collect();
        let [channels, pixels] = [channels, pixels].map(|all| all.into_iter().collect::<Vec<_>>());
        let tile = |channel, pixel, shared| EqTile {
            shared,
            ..part[&(channel, pixel)]
        };
        let shared = [EQ_SHARED_LEFT, EQ_SHARED_RIGHT];
        let last = pair_up(&channels, &pixels, shared, tile, &mut pairs);
        let Some((channel, pixel)) = last else {
            continue;
        };
        let last = tile(channel, pixel, EQ_SHARED_NOTHING);
        let key = (last.kind, last.steps);
        match left.remove(&key) {
            Some(other) => pairs.push([other, last]),
            None => drop(left.insert(key, last)),
        }
    }
    pairs.extend(left.into_values().map(|tile| {
        let none = EqTile {
            first_pixel: BEYOND,
            change: EQ_NO_CHANGE,
            ..tile
        };
        [tile, none].map(|tile| EqTile {
            shared: EQ_SHARED_RIGHT,
            ..tile
        })
    }));
    pairs.sort_by_key(|[tile, _]| std::cmp::Reverse(tile.steps));
    pairs
}

/// The largest tiles of which there is more than one for each multiprocessor; else the smallest.
fn fitting(
    relax: Relax,
    multiprocessors: usize,
    components: usize,
    extents: &[Extent],
    splits: &[usize],
) -> Relax {
    let count = |relax: Relax| -> usize {
        (extents.iter().zip(splits))
            .map(|(e, split)| e.tiles(relax.tile(), components) * split)
            .sum()
    };
    let mut fitting = relax;
    while count(fitting) <= multiprocessors {
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
fn spread<T>(long: Vec<T>, short: Vec<T>) -> Vec<T> {
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
    use crate::cuda::machine::abi::EQ_TILE_NONE;
    use crate::cuda::tables::splits::chosen;

    fn divided(
        relax: Relax,
        multiprocessors: usize,
        components: usize,
        extents: &[Extent],
    ) -> TileList {
        let splits = chosen(relax, components, extents);
        TileList::new(relax, multiprocessors, components, extents, &splits)
    }

    fn extents() -> Vec<Extent> {
        let extent = |pixels, channels, depth| Extent {
            pixels,
            channels,
            depth,
            steps: depth / 32,
        };
        vec![
            extent(1000, 136, 128),
            extent(900, 40, 2000),
            extent(70, 512, 5000),
            extent(5, 16, 512),
        ]
    }

    /// The tiles that end an update.
    fn updates(list: &TileList) -> impl Iterator<Item = &EqTile> {
        let is_whole = |tile: &&EqTile| tile.kind == EQ_TILE_WHOLE && tile.change != EQ_NO_CHANGE;
        let whole = list.tiles.iter().filter(is_whole);
        let joins = list.joins.iter().filter(|tile| tile.kind == EQ_TILE_JOIN);
        whole.chain(joins)
    }

    /// Each pixel and channel is computed by exactly one tile, and each strip has a slot of its own.
    #[test]
    fn tiles_cover_every_unit_once_and_every_strip_has_one_slot_whatever_the_gpu() {
        for relax in [
            Relax::Simt,
            Relax::MmaWide,
            Relax::MmaMedium,
            Relax::MmaNarrow,
            Relax::Hopper,
        ] {
            for components in [1, 2] {
                let mut slots_of = Vec::new();
                for multiprocessors in [1, 20, 132, 188] {
                    let list = divided(relax, multiprocessors, components, &extents());
                    let shape = list.relax.tile();
                    let mut slots = BTreeSet::new();
                    let mut units = 0;
                    for tile in updates(&list) {
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

    /// On Hopper two neighbours have as many slots, and in common what they say; each tile is in one pair.
    #[test]
    fn tiles_for_hopper_lie_in_pairs() {
        for (components, multiprocessors) in [(1, 1), (2, 5), (1, 132), (2, 132)] {
            let list = divided(Relax::Hopper, multiprocessors, components, &extents());
            let (pairs, rest) = list.tiles.as_chunks::<2>();
            assert!(rest.is_empty());
            let mut seen = BTreeSet::new();
            let is_there = |tile: &EqTile| tile.change != EQ_NO_CHANGE;
            for [a, b] in pairs {
                assert_eq!((a.kind, a.steps, a.shared), (b.kind, b.steps, b.shared));
                if a.kind == EQ_TILE_NONE {
                    continue;
                }
                let same = (a.target, a.first_step) == (b.target, b.first_step);
                match a.shared {
                    EQ_SHARED_LEFT => assert!(same && a.first_pixel == b.first_pixel),
                    EQ_SHARED_RIGHT => assert!(same && a.first_channel == b.first_channel),
                    _ => assert!(is_there(a) && is_there(b)),
                }
                for tile in [a, b].into_iter().filter(|tile| is_there(tile)) {
                    let of_pixel = (tile.first_pixel, tile.first_channel);
                    assert!(seen.insert((tile.target, tile.first_step, of_pixel)));
                }
            }
            let extents = extents();
            let parts = chosen(Relax::Hopper, components, &extents);
            let tiles =
                |(e, parts): (&Extent, usize)| e.tiles(Relax::Hopper.tile(), components) * parts;
            let all: usize = extents.iter().zip(parts).map(tiles).sum();
            assert_eq!(seen.len(), all);
        }
    }

    #[test]
    fn few_tiles_are_made_finer_until_multiprocessors_have_two() {
        let one = |pixels| {
            vec![Extent {
                pixels,
                channels: 256,
                depth: 4608,
                steps: 1, // K is not split
            }]
        };
        let chosen = |pixels, multiprocessors| {
            divided(Relax::MmaWide, multiprocessors, 1, &one(pixels)).relax
        };
        assert_eq!(chosen(128 * 67, 132), Relax::MmaWide); // 134 tiles
        assert_eq!(chosen(128 * 66, 132), Relax::MmaMedium); // 132, then 264
        assert_eq!(chosen(128 * 33, 132), Relax::MmaNarrow); // 66, 132, then 264
        assert_eq!(chosen(128 * 40, 20), Relax::MmaWide);
    }

    #[test]
    fn parts_divide_k_evenly_and_are_the_same_on_every_gpu() {
        for (relax, most_steps) in [(Relax::MmaWide, 81), (Relax::Hopper, 112)] {
            parts_divide_k(relax, most_steps);
        }
        // One tile of 125 steps, as in tests/kernel_suites/half.rs; of 75 on Hopper.
        for (relax, steps) in [(Relax::MmaWide, 125), (Relax::Hopper, 75)] {
            let output = Extent {
                pixels: 2,
                channels: 16,
                depth: 25 * 136,
                steps,
            };
            let list = divided(relax, 1, 1, &[output]);
            assert!(list.parts > 2 && list.joins.len() == 1, "{list:?}");
            // Enough tiles: none is split.
            let many = Extent {
                pixels: 256 * 1057,
                ..output
            };
            assert_eq!(divided(relax, 20, 1, &[many]).parts, 0);
        }
    }

    fn parts_divide_k(relax: Relax, most_steps: u32) {
        // 144 tiles of 128 x 128, about half of what runs at once.
        let extents = [(8192, 256, 224), (512, 512, 161)].map(|(pixels, channels, steps)| Extent {
            pixels,
            channels,
            depth: steps * 32,
            steps,
        });
        let mut parts_of = Vec::new();
        for multiprocessors in [20, 132, 188] {
            let list = divided(relax, multiprocessors, 1, &extents);
            let mut parts = BTreeSet::new();
            let joins = list.joins.iter().filter(|tile| tile.kind == EQ_TILE_JOIN);
            for join in joins {
                assert_eq!(join.steps, 0);
                let mut next = 0;
                for number in join.first_part..join.first_part + join.parts {
                    let same = |part: &&EqTile| part.first_part == number;
                    let part = list.tiles.iter().find(same).expect("a block for each part");
                    assert_eq!(
                        (part.kind, part.target, part.first_pixel, part.first_channel),
                        (
                            EQ_TILE_PART,
                            join.target,
                            join.first_pixel,
                            join.first_channel
                        )
                    );
                    assert_eq!(part.first_step, next);
                    assert!(part.steps <= most_steps, "{part:?}");
                    next += part.steps;
                    parts.insert((part.target, part.first_step, part.steps));
                }
                assert_eq!(next as usize, extents[join.target as usize].steps);
            }
            let of_parts = (list.tiles.iter())
                .filter(|tile| tile.kind == EQ_TILE_PART && tile.change != EQ_NO_CHANGE);
            assert_eq!(of_parts.count(), list.parts);
            parts_of.push(parts);
        }
        assert!(parts_of.iter().all(|parts| *parts == parts_of[0]));
    }

    #[test]
    fn short_products_are_spread_among_long_ones() {
        let extents = [
            Extent {
                pixels: 128 * 90,
                channels: 128,
                depth: 2304,
                steps: 1,
            },
            Extent {
                pixels: 128 * 30,
                channels: 128,
                depth: 256,
                steps: 1,
            },
        ];
        let list = divided(Relax::MmaWide, 1, 1, &extents);
        for part in list.tiles.chunks(12) {
            assert_eq!(part.iter().filter(|tile| tile.target == 1).count(), 3);
        }
    }
}
