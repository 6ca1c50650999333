//! What runs beside a block's warps: barriers in shared memory, boxes under way, and the registers that warps hand to each other.

use super::barrier::Barriers;
use super::cluster_barrier::ClusterBarrier;
use super::products::Warpgroups;
use super::random::Random;
use crate::finding::AsyncProblem;
use crate::memory::shadow::Stamp;
use crate::memory::tensor_map::TensorMap;
use crate::memory::{Layout, Order};
use std::collections::HashSet;
use std::sync::Arc;

/// Registers of a multiprocessor.
const REGISTER_FILE: u32 = 1 << 16;

/// What a block, or the blocks of a cluster, have beside their warps.
pub struct Units {
    pub barriers: Barriers,
    pub cluster: ClusterBarrier,
    pub loads: Vec<Load>,
    pub stores: Vec<Store>,
    /// Tensor maps in device memory that the block of this rank may use.
    pub fenced: HashSet<(usize, u64)>,
    pub layout: Layout,
    /// Of a block.
    warps: usize,
    /// Registers of each thread of a warp, and by block those that nobody has.
    registers: Vec<u32>,
    free_registers: Vec<u32>,
    pub products: Warpgroups,
    pub random: Random,
    seed: u64,
}

/// A box on its way to shared memory.
pub struct Load {
    pub map: Arc<TensorMap>,
    pub corner: Vec<i32>,
    pub to: u64,
    pub barrier: usize,
    pub phase: u32,
    /// Whether it is fetched; otherwise another copy of the same multicast is, and this one comes with it.
    pub fetched: bool,
    pub by: Issued,
}

/// A box on its way to device memory.
pub struct Store {
    pub map: Arc<TensorMap>,
    pub corner: Vec<i32>,
    pub from: u64,
    /// Of its thread; committed or not.
    pub group: u32,
    pub by: Issued,
}

/// By whom.
#[derive(Clone, Copy)]
pub struct Issued {
    /// The instruction.
    pub at: usize,
    pub block: u32,
    pub me: Stamp,
    pub lane: usize,
    pub thread: u32,
}

/// What a warp waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    Phase {
        barrier: u32,
        parity: u32,
    },
    Registers(u32),
    /// The barrier of the cluster.
    Cluster,
}

impl Units {
    pub fn new(layout: Layout, warps: usize, seed: u64) -> Self {
        let mut units = Self {
            barriers: Barriers::default(),
            cluster: ClusterBarrier::default(),
            loads: Vec::new(),
            stores: Vec::new(),
            fenced: HashSet::new(),
            layout,
            warps,
            registers: vec![0; layout.all_warps()],
            free_registers: vec![0; layout.blocks],
            products: Warpgroups::default(),
            random: Random::new(seed),
            seed,
        };
        units.start(0);
        units
    }

    /// For the next block or cluster, whose first block this is.
    pub fn start(&mut self, block: u32) {
        // What the compiler may give each thread: an eighth part, rounded down to a multiple of eight.
        let threads = (self.warps * 32) as u32;
        let each = (REGISTER_FILE / threads / 8 * 8).min(248);
        self.registers.fill(each);
        self.free_registers.fill(REGISTER_FILE - each * threads);
        self.barriers = Barriers::default();
        self.cluster = ClusterBarrier::new(self.layout.all_warps());
        self.loads.clear();
        self.stores.clear();
        self.fenced.clear();
        self.products = Warpgroups::default();
        self.random = Random::new(self.seed ^ u64::from(block) << 32);
    }

    /// Whether what a warp waits for has come.
    pub fn holds(&self, warp: usize, waiting: &Waiting) -> bool {
        match *waiting {
            Waiting::Phase { barrier, parity } => self.barriers.is_complete(barrier, parity),
            Waiting::Registers(count) => {
                (count - self.registers[warp].min(count)) * 32 <= self.free_registers_of(warp)
            }
            Waiting::Cluster => self.cluster.holds(warp),
        }
    }

    fn free_registers_of(&self, warp: usize) -> u32 {
        self.free_registers[self.layout.rank_of_warp(warp)]
    }

    pub fn describe(&self, warp: usize, waiting: &Waiting, order: &Order) -> String {
        match *waiting {
            Waiting::Phase { barrier, parity } => self.barriers.describe(barrier, parity, order),
            Waiting::Registers(count) => {
                let free = self.free_registers_of(warp);
                format!("{count} registers a thread; {free} are free")
            }
            Waiting::Cluster => "the barrier of the cluster".into(),
        }
    }

    pub fn set_registers(
        &mut self,
        warp: usize,
        count: u32,
        more: bool,
    ) -> Result<Option<Waiting>, AsyncProblem> {
        let has = self.registers[warp];
        if (more && count < has) || (!more && count > has) {
            return Err(AsyncProblem::Registers { has, asked: count });
        }
        if !self.holds(warp, &Waiting::Registers(count)) {
            return Ok(Some(Waiting::Registers(count)));
        }
        let free = &mut self.free_registers[self.layout.rank_of_warp(warp)];
        *free = *free + has * 32 - count * 32;
        self.registers[warp] = count;
        Ok(None)
    }

    /// A copy that nobody waited for.
    pub fn unfinished(&self) -> Option<Issued> {
        let stores = self.stores.iter().map(|s| s.by);
        self.loads.iter().map(|l| l.by).chain(stores).next()
    }
}
