//! A warp: its registers, and where its lanes are.

use super::products::Running;
use super::units::Waiting;
use crate::options::Dim;
use crate::program::{Address, FALSE, Kernel, LaneMask, NOWHERE, Pred, Preset, Reg, TRUE};
use std::collections::VecDeque;

pub type Lanes = [u32; 32];
pub type WideLanes = [u64; 32];
pub const FULL: u32 = u32::MAX;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Row(Lanes);

/// Lanes that are at the same place, until they come to where others wait.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub next: u32,
    pub until: u32,
    pub mask: u32,
}

/// A `cp.async` under way: its group, where to, what.
pub struct Pending {
    pub group: u32,
    pub to: u64,
    pub bytes: usize,
    pub data: [u8; 16],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Ready,
    Barrier {
        id: u32,
        threads: Option<u32>,
        line: u32,
    },
    /// For a phase of an mbarrier, or for registers.
    Waiting {
        what: Waiting,
        line: u32,
    },
    Done,
}

pub struct Warp {
    /// In its block.
    pub index: usize,
    /// The block in its cluster, and the warp among all of the cluster.
    pub rank: usize,
    pub place: usize,
    rows: Vec<Row>,
    predicates: Vec<u32>,
    pub stack: Vec<Frame>,
    /// Lanes that have not left the kernel.
    pub alive: u32,
    pub state: State,
    /// Intervals between `bar.warp.sync`.
    pub sub: u32,
    pub copies: [VecDeque<Pending>; 32],
    pub committed: Lanes,
    pub executed: u64,
    /// Groups of `cp.async.bulk` that each thread has committed.
    pub stores: Lanes,
    /// Products that run.
    pub running: Running,
}

/// Lanes of a mask, from the first.
pub fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let lane = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        Some(lane)
    })
}

impl Warp {
    /// Warp `index` of the block with rank `rank`, where blocks have `apart` places for warps.
    pub fn new(index: usize, rank: usize, apart: usize, kernel: &Kernel) -> Self {
        Self {
            index,
            rank,
            place: rank * apart + index,
            rows: vec![Row([0; 32]); kernel.rows],
            predicates: vec![0; kernel.predicates],
            stack: Vec::new(),
            alive: 0,
            state: State::Done,
            sub: 0,
            copies: std::array::from_fn(|_| VecDeque::new()),
            committed: [0; 32],
            executed: 0,
            stores: [0; 32],
            running: Running::default(),
        }
    }

    /// Begins a block. What registers held before stays: no program may depend on it.
    pub fn start(
        &mut self,
        kernel: &Kernel,
        block: [u32; 3],
        grid: Dim,
        cluster: Dim,
        threads: Dim,
    ) {
        let first = self.index as u32 * 32;
        let count = threads.count() as u32 - first;
        self.alive = if count >= 32 { FULL } else { (1 << count) - 1 };
        self.stack.clear();
        self.stack.push(Frame {
            next: 0,
            until: NOWHERE,
            mask: self.alive,
        });
        self.state = State::Ready;
        self.sub = 0;
        self.copies.iter_mut().for_each(VecDeque::clear);
        self.committed = [0; 32];
        self.executed = 0;
        self.stores = [0; 32];
        if !kernel.touches.is_empty() {
            self.running.start(kernel.rows);
        }
        self.predicates[TRUE as usize] = FULL;
        self.predicates[FALSE as usize] = 0;
        for &(reg, preset) in &kernel.presets {
            let value = |lane: u32| -> u64 {
                let thread = first + lane;
                let of = |dim: Dim, axis: u8| [dim.x, dim.y, dim.z][axis as usize];
                u64::from(match preset {
                    Preset::Constant(bits) => return bits,
                    Preset::Thread(0) => thread % threads.x,
                    Preset::Thread(1) => thread / threads.x % threads.y,
                    Preset::Thread(_) => thread / threads.x / threads.y,
                    Preset::Threads(axis) => of(threads, axis),
                    Preset::Block(axis) => block[axis as usize],
                    Preset::Blocks(axis) => of(grid, axis),
                    Preset::Cluster(axis) => block[axis as usize] / of(cluster, axis),
                    Preset::Clusters(axis) => of(grid, axis) / of(cluster, axis),
                    Preset::BlockInCluster(axis) => block[axis as usize] % of(cluster, axis),
                    Preset::BlocksInCluster(axis) => of(cluster, axis),
                    Preset::Rank => self.rank as u32,
                    Preset::Ranks => cluster.count() as u32,
                    Preset::Lane => lane,
                    Preset::Warp => self.index as u32,
                    Preset::Warps => (threads.count() as u32).div_ceil(32),
                    Preset::LaneMask(mask) => match mask {
                        LaneMask::Eq => 1 << lane,
                        LaneMask::Lt => (1 << lane) - 1,
                        LaneMask::Le => FULL >> (31 - lane),
                        LaneMask::Gt => !(FULL >> (31 - lane)),
                        LaneMask::Ge => !((1 << lane) - 1),
                    },
                })
            };
            let values: WideLanes = std::array::from_fn(|lane| value(lane as u32));
            self.set(reg, FULL, &values);
        }
    }

    #[inline(always)]
    pub fn narrow(&self, reg: Reg) -> &Lanes {
        &self.rows[reg.row()].0
    }

    #[inline(always)]
    pub fn wide(&self, reg: Reg) -> &WideLanes {
        let rows = &self.rows[reg.row()..reg.row() + 2];
        // SAFETY: two rows lie one after the other and have the size of 32 numbers of 64 bits, and more alignment.
        unsafe { &*rows.as_ptr().cast::<WideLanes>() }
    }

    /// Whatever the width, zero-extended.
    #[inline(always)]
    pub fn get(&self, reg: Reg) -> WideLanes {
        if reg.wide() {
            *self.wide(reg)
        } else {
            let row = self.narrow(reg);
            std::array::from_fn(|i| u64::from(row[i]))
        }
    }

    #[inline(always)]
    pub fn get32(&self, reg: Reg) -> Lanes {
        *self.narrow(reg)
    }

    #[inline(always)]
    pub fn set32(&mut self, reg: Reg, mask: u32, values: &Lanes) {
        let row = &mut self.rows[reg.row()].0;
        merge(row, mask, values);
    }

    #[inline(always)]
    pub fn set64(&mut self, reg: Reg, mask: u32, values: &WideLanes) {
        let rows = &mut self.rows[reg.row()..reg.row() + 2];
        // SAFETY: as in `wide`.
        let row = unsafe { &mut *rows.as_mut_ptr().cast::<WideLanes>() };
        merge(row, mask, values);
    }

    /// Cut off to the register's width.
    #[inline(always)]
    pub fn set(&mut self, reg: Reg, mask: u32, values: &WideLanes) {
        if reg.wide() {
            self.set64(reg, mask, values);
        } else {
            self.set32(reg, mask, &std::array::from_fn(|i| values[i] as u32));
        }
    }

    #[inline(always)]
    pub fn predicate(&self, p: Pred) -> u32 {
        self.predicates[p as usize]
    }

    #[inline(always)]
    pub fn set_predicate(&mut self, p: Pred, mask: u32, bits: u32) {
        let old = &mut self.predicates[p as usize];
        *old = *old & !mask | bits & mask;
    }

    pub fn addresses(&self, at: Address) -> WideLanes {
        match at.base {
            Some(base) => self.get(base).map(|a| a.wrapping_add_signed(at.offset)),
            None => [at.offset as u64; 32],
        }
    }
}

/// The values of the lanes in `mask`.
#[inline(always)]
fn merge<T: Copy>(row: &mut [T; 32], mask: u32, values: &[T; 32]) {
    if mask == FULL {
        *row = *values;
    } else {
        for i in 0..32 {
            row[i] = if mask >> i & 1 != 0 {
                values[i]
            } else {
                row[i]
            };
        }
    }
}
