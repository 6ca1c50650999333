//! What the same updates would take with the kernels for Hopper (`kernels/relax_hopper.cu`), by a simpler model than that of
//! [`super::estimate`]: one block a multiprocessor takes every so-many-th tile.
//!
//! A slot of the ring (64 channels of K) takes as long as its products, or as its bytes take to come from L2, whichever is longer. Then
//! the tile's consumers finish it while nothing is multiplied: their instructions, and a latency. Where K is split they write their sums
//! instead, and a second launch reads those of all parts before it finishes the tile.

use super::chip::Chip;
use crate::cuda::machine::abi::*;
use crate::cuda::phase::states::Kind;
use crate::cuda::tables::tiles::TileList;

/// Instructions of a consumer's warp outside of its loop, read off the machine code for sm_90a: of a layer's states, and of pairs.
const EPILOGUE: [f64; 2] = [4900.0, 4900.0];
/// Warps of the two consumers.
const WARPS: f64 = 8.0;

/// Seconds by the model, without clusters and with what the kernels do not do, too.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Hopper {
    /// without clusters: with EQPROP_CLUSTERS=off
    pub seconds: f64,
    /// as the kernels are: two neighbouring blocks, a cluster, fetch once what both of them need
    pub clusters: f64,
    /// if all multiprocessors ended together and no launch cost anything: the most that one launch for a whole phase can bring
    pub one_launch: f64,
    /// both
    pub both: f64,
}

impl std::iter::Sum for Hopper {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            seconds: a.seconds + b.seconds,
            clusters: a.clusters + b.clusters,
            one_launch: a.one_launch + b.one_launch,
            both: a.both + b.both,
        })
    }
}

impl Hopper {
    /// The same in every case.
    pub fn plus(self, seconds: f64) -> Self {
        let more = Self {
            seconds,
            clusters: seconds,
            one_launch: seconds,
            both: seconds,
        };
        [self, more].into_iter().sum()
    }

    /// Of a launch whose blocks take tiles by turns: clocks of each, without and with clusters. It moves so many bytes of device memory.
    pub(super) fn of(tiles: &[[f64; 2]], memory_bytes: f64, chip: &Chip) -> Self {
        let multiprocessors = chip.multiprocessors.value as usize;
        let moving = memory_bytes / chip.memory.value;
        let seconds = |clocks: f64| (clocks / chip.clock.value).max(moving);
        let [apart, together] = [0, 1].map(|case| {
            let mut blocks = vec![0.0; multiprocessors.max(1)];
            for (tile, block) in tiles.iter().zip((0..blocks.len()).cycle()) {
                blocks[block] += tile[case];
            }
            let longest = blocks.iter().copied().fold(0.0, f64::max);
            let even = blocks.iter().sum::<f64>() / blocks.len() as f64;
            (seconds(longest) + chip.launch.value, seconds(even))
        });
        Self {
            seconds: apart.0,
            clusters: together.0,
            one_launch: apart.1,
            both: together.1,
        }
    }
}

/// Clocks of a slot, without and with clusters: its products, or so many bytes from L2.
pub(super) fn slot(operations: f64, bytes: [f64; 2], chip: &Chip) -> [f64; 2] {
    let products = operations / chip.per_clock(chip.dense);
    bytes.map(|bytes| products.max(bytes / chip.per_clock(chip.l2)))
}

/// An update that moves so many bytes of device memory.
pub fn update(list: &TileList, kind: Kind, memory_bytes: f64, chip: &Chip) -> Hopper {
    let pair = kind == Kind::Pair;
    let (rows, columns) = (f64::from(EQ_HOPPER_ROWS), f64::from(EQ_HOPPER_COLUMNS));
    let depth = f64::from(EQ_HOPPER_DEPTH);
    let per_clock = chip.per_clock(chip.l2);
    let [pixels, slab] = [rows, columns].map(|side| 2.0 * depth * side);
    let state = 2.0 * rows * columns;
    // In and out, four bytes a unit of constants, s0 of a pair: as of the other kernels.
    let around = 2.0 * state + if pair { 1.5 * state } else { 2.0 * state };
    let sums = 4.0 * rows * columns;
    let instructions = WARPS * EPILOGUE[usize::from(pair)] / chip.issue.value;
    let clocks = |tile: &EqTile| {
        let together = match tile.shared {
            EQ_SHARED_LEFT => pixels / 2.0 + slab,
            EQ_SHARED_RIGHT => pixels + slab / 2.0,
            _ => pixels + slab,
        };
        let end = match tile.kind {
            EQ_TILE_NONE => return [0.0; 2],
            EQ_TILE_PART => sums / per_clock,
            _ => instructions.max((around + f64::from(tile.parts) * sums) / per_clock),
        };
        let operations = 2.0 * rows * columns * depth;
        slot(operations, [pixels + slab, together], chip)
            .map(|clocks| f64::from(tile.steps) * clocks + end + chip.latency.value)
    };
    let of = |tiles: &[EqTile], memory_bytes| {
        let clocks: Vec<[f64; 2]> = tiles.iter().map(clocks).collect();
        Hopper::of(&clocks, memory_bytes, chip)
    };
    match list.joins.is_empty() {
        true => of(&list.tiles, memory_bytes),
        false => [of(&list.tiles, memory_bytes), of(&list.joins, 0.0)]
            .into_iter()
            .sum(),
    }
}
