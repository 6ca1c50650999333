//! What the same updates would take with the kernels for Hopper (`kernels/relax_hopper.cu`), by a simpler model than that of
//! [`super::estimate`]: one block a multiprocessor takes every so-many-th tile.
//!
//! A slot of the ring (64 channels of K) takes as long as its products, or as its bytes take to come from L2, whichever is longer. Then
//! the tile's consumers finish it while nothing is multiplied: their instructions, and a latency.

use super::chip::Chip;
use crate::cuda::machine::abi::*;
use crate::cuda::phase::states::Kind;
use crate::cuda::tables::tiles::{Extent, TileList};

/// Instructions of a consumer's warp outside of its loop, read off the machine code for sm_90a: of a layer's states, and of pairs.
const EPILOGUE: [f64; 2] = [4900.0, 4900.0];
/// Warps of the two consumers.
const WARPS: f64 = 8.0;

/// Seconds of a launch that moves so many bytes of device memory, by the model.
pub fn seconds(
    list: &TileList,
    extents: &[Extent],
    kind: Kind,
    memory_bytes: f64,
    chip: &Chip,
) -> f64 {
    let pair = kind == Kind::Pair;
    let (rows, columns) = (f64::from(EQ_HOPPER_ROWS), f64::from(EQ_HOPPER_COLUMNS));
    let depth = f64::from(EQ_HOPPER_DEPTH);
    let products = 2.0 * rows * columns * depth / chip.per_clock(chip.dense);
    let per_clock = chip.per_clock(chip.l2);
    let fetched = 2.0 * depth * (rows + columns) / per_clock;
    let state = 2.0 * rows * columns;
    // In and out, four bytes a unit of constants, s0 of a pair: as of the other kernels.
    let around = 2.0 * state + if pair { 1.5 * state } else { 2.0 * state };
    let instructions = WARPS * EPILOGUE[usize::from(pair)] / chip.issue.value;
    let epilogue = instructions.max(around / per_clock) + chip.latency.value;
    let multiprocessors = chip.multiprocessors.value as usize;
    let mut blocks = vec![0.0; multiprocessors.max(1)];
    for (tile, block) in list.tiles.iter().zip((0..blocks.len()).cycle()) {
        let slots = extents[tile.target as usize].steps as f64;
        blocks[block] += slots * products.max(fetched) + epilogue;
    }
    let clocks = blocks.into_iter().fold(0.0, f64::max);
    let moving = memory_bytes / chip.memory.value;
    (clocks / chip.clock.value).max(moving) + chip.launch.value
}
