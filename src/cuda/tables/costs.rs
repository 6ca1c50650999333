//! What the blocks of a launch take for their tiles: by this K is split, and tiles are given to blocks.

use crate::cuda::machine::abi::{EQ_TILE_JOIN, EQ_TILE_NONE, EQ_TILE_PART, EqTile};

/// Blocks of the largest `mma.sync` tile that fit on a multiprocessor.
pub const BLOCKS_PER_MULTIPROCESSOR: usize = 2;

/// Multiprocessors of an H100 or H200: for which K and the pixels of weight gradients are split, whatever the GPU.
pub const MULTIPROCESSORS: usize = 132;

/// What a launch's blocks take for their work, in clocks by the constants of `measure/chip.rs`.
#[derive(Clone, Copy)]
pub struct Costs {
    /// that work at once
    pub blocks: usize,
    /// a step of the largest tile
    pub step: usize,
    /// beginning and end of a block or tile, the update included
    pub whole: usize,
    /// the same where a part's sums are written instead
    pub part: usize,
    /// the same where sums are joined
    pub join: usize,
    /// reading a part's sums
    pub sums: usize,
    /// the second launch
    pub launch: usize,
    /// with more tiles than this, one more or less at the end matters little
    pub most_tiles: usize,
}

/// Two blocks share a multiprocessor, and its bandwidth; a part's sums are 64 KB.
pub const MMA: Costs = Costs {
    blocks: MULTIPROCESSORS * BLOCKS_PER_MULTIPROCESSOR,
    step: 960,
    whole: 3 * 960,
    part: 8 * 960,
    join: 3 * 960,
    sums: 5 * 960,
    launch: 3 * 960,
    most_tiles: 2 * MULTIPROCESSORS * BLOCKS_PER_MULTIPROCESSOR,
};

/// A slot of the ring is 48 KB, a part's sums are 128 KB; nothing is multiplied while a tile's update moves 256 KB.
pub const HOPPER: Costs = Costs {
    blocks: MULTIPROCESSORS,
    step: 2010,
    whole: 13700,
    part: 8350,
    join: 13700,
    sums: 5350,
    launch: 2550,
    most_tiles: 8 * MULTIPROCESSORS,
};

/// What a tile takes on Hopper, to be compared with others.
pub fn cost(tile: &EqTile) -> usize {
    let steps = tile.steps as usize * HOPPER.step;
    match tile.kind {
        EQ_TILE_PART => steps + HOPPER.part,
        EQ_TILE_JOIN => tile.parts as usize * HOPPER.sums + HOPPER.join,
        EQ_TILE_NONE => 0,
        _ => steps + HOPPER.whole,
    }
}
