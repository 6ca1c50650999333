//! What runs beside a block's warps: barriers in shared memory, boxes under way, and the registers that warps hand to each other.

use super::barrier::Barriers;
use super::products::Warpgroups;
use super::random::Random;
use crate::finding::AsyncProblem;
use crate::memory::shadow::Stamp;
use crate::memory::tensor_map::TensorMap;
use std::collections::HashSet;
use std::sync::Arc;

/// Registers of a multiprocessor.
const REGISTER_FILE: u32 = 1 << 16;

/// What a block has beside its warps.
pub struct Units {
    pub barriers: Barriers,
    pub loads: Vec<Load>,
    pub stores: Vec<Store>,
    /// Tensor maps in device memory that this block may use.
    pub fenced: HashSet<u64>,
    /// Registers of each thread of a warp, and those that nobody has.
    registers: Vec<u32>,
    free_registers: u32,
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
    pub me: Stamp,
    pub lane: usize,
    pub thread: u32,
}

/// What a warp waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    Phase { barrier: u32, parity: u32 },
    Registers(u32),
}

impl Units {
    pub fn new(warps: usize, seed: u64) -> Self {
        let mut units = Self {
            barriers: Barriers::default(),
            loads: Vec::new(),
            stores: Vec::new(),
            fenced: HashSet::new(),
            registers: vec![0; warps],
            free_registers: 0,
            products: Warpgroups::default(),
            random: Random::new(seed),
            seed,
        };
        units.start(0);
        units
    }

    /// For the next block.
    pub fn start(&mut self, block: u32) {
        // What the compiler may give each thread: an eighth part, rounded down to a multiple of eight.
        let threads = (self.registers.len() * 32) as u32;
        let each = (REGISTER_FILE / threads / 8 * 8).min(248);
        self.registers.fill(each);
        self.free_registers = REGISTER_FILE - each * threads;
        self.barriers = Barriers::default();
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
                (count - self.registers[warp].min(count)) * 32 <= self.free_registers
            }
        }
    }

    pub fn describe(&self, waiting: &Waiting) -> String {
        match *waiting {
            Waiting::Phase { barrier, parity } => self.barriers.describe(barrier, parity),
            Waiting::Registers(count) => {
                format!(
                    "{count} registers a thread; {} are free",
                    self.free_registers
                )
            }
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
        self.free_registers = self.free_registers + has * 32 - count * 32;
        self.registers[warp] = count;
        Ok(None)
    }

    /// The instruction of a copy that nobody waited for.
    pub fn unfinished(&self) -> Option<usize> {
        let stores = self.stores.iter().map(|s| s.by.at);
        self.loads.iter().map(|l| l.by.at).chain(stores).next()
    }
}
