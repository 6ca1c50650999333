//! What the warps of a block share, and what the blocks of a launch do.

use super::units::Units;
use super::warp::Warp;
use crate::finding::{Finding, Problem};
use crate::memory::shadow::{self, Stamp};
use crate::memory::{Memory, Shared};
use crate::options::{Dim, Options};
use crate::program::Kernel;
use crate::report::Traffic;
use crate::text::Location;

/// What all blocks of a launch share.
pub struct Context<'a> {
    pub kernel: &'a Kernel,
    pub locations: &'a [Location],
    pub memory: &'a Memory,
    pub parameters: &'a [u8],
    pub options: &'a Options,
    pub grid: Dim,
    pub cluster: Dim,
    pub threads: Dim,
    pub launch: u32,
}

impl Context<'_> {
    /// Of a block.
    pub fn warps(&self) -> usize {
        self.threads.count().div_ceil(32) as usize
    }

    /// Whether copies and products may run on their own, and blocks may reach each other's shared memory.
    pub fn asynchronous(&self) -> bool {
        self.kernel.hopper || self.cluster.count() > 1
    }

    /// Of lane 0; a lane's is as many more.
    #[inline(always)]
    pub fn stamp(&self, block: &Block, warp: &Warp) -> Stamp {
        shadow::stamp(
            self.launch,
            block.index,
            block.epoch,
            warp.sub,
            warp.index as u32 * 32,
        )
    }

    /// Text of an instruction.
    pub fn opcode(&self, at: usize) -> String {
        self.kernel.opcodes[self.kernel.code[at].text as usize].clone()
    }

    pub fn finding(
        &self,
        block: u32,
        line: Option<usize>,
        thread: Option<u32>,
        problem: Problem,
    ) -> Box<Finding> {
        let instruction = line.map(|at| &self.kernel.code[at]);
        Box::new(Finding {
            kernel: self.kernel.name.clone(),
            line: instruction.map_or(0, |i| i.line),
            instruction: instruction.map_or(String::new(), |i| {
                self.kernel.opcodes[i.text as usize].clone()
            }),
            source: instruction.map_or(Vec::new(), |i| self.locations[i.location as usize].clone()),
            block,
            thread,
            problem,
        })
    }
}

/// A block at work, or the blocks of a cluster together.
pub struct Block {
    /// Of the block whose warp is at work; those of all, by rank.
    pub index: u32,
    pub indices: Vec<u32>,
    /// The interval between two barriers.
    pub epoch: u32,
    pub shared: Shared,
    /// Of a kernel with copies and products that run on their own.
    pub units: Option<Box<Units>>,
    pub local: Vec<u8>,
    /// Per instruction: how often warps, and how often threads executed it.
    pub counts: Vec<[u64; 2]>,
    pub traffic: Traffic,
}

impl Block {
    /// A warp of the block with this rank is at work.
    pub fn enter(&mut self, rank: usize) {
        self.index = self.indices[rank];
        self.shared.enter(rank);
    }
}
