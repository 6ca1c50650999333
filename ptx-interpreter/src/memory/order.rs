//! Who knows of what: vector clocks, and what they say about accesses to shared memory.
//!
//! Every warp counts its own steps, and keeps for every other agent the last step that it knows to lie before its own present. Agents are
//! the warps, each warp's products and its stores (whose steps are groups), and each barrier (whose steps are phases: a copy that counts
//! in one is done when the phase is). Knowledge travels where a warp waits for others: `bar.sync`, and phases of an mbarrier.
//!
//! A second clock says which writes the async proxy may rely on: those that a `fence.proxy.async` followed.
//!
//! Writers are kept for each piece of memory (as large as the kernel's narrowest access), with lane and `bar.warp.sync` interval, so that
//! lanes of a warp are told apart; readers by warp, for 16 bytes. Reads and later writes of different lanes of one warp are not compared.
//!
//! The blocks of a cluster are watched together. One that works on another's shared memory must know that the other has begun (that it was
//! at a barrier of the cluster, say), and when a block ends one of its warps must know of all that others did there.

use super::clock::Clock;
use super::cluster::Layout;
use super::shadow::{self, Stamp};
use crate::finding::{AsyncProblem, Fault, Space, uninitialised, wrong};
use std::collections::HashSet;

/// Bytes whose readers are kept together.
const CHUNK: usize = 16;

/// A writer: agent (16 bits), step (32), interval of the warp (8), lane (8). Zero: nobody.
type Writer = u64;

fn writer(agent: usize, step: u32, sub: u32, lane: u32) -> Writer {
    (agent as u64) << 48 | u64::from(step) << 16 | u64::from(sub & 0xff) << 8 | u64::from(lane)
}

fn agent_of(writer: Writer) -> (usize, u32) {
    ((writer >> 48) as usize, (writer >> 16) as u32)
}

/// What is known about accesses to the shared memory of a block, or of all blocks of a cluster.
pub struct Order {
    pub layout: Layout,
    /// Of the block whose warp is at work.
    pub rank: usize,
    /// Of all blocks.
    warps: usize,
    pub checked: bool,
    piece_shift: u32,
    writers: Vec<Writer>,
    /// Of each 16 bytes: the last step at which a warp, its products and its stores read them.
    readers: Vec<u32>,
    /// By warp: what it knows, and what the async proxy may rely on.
    knowledge: Vec<[Clock; 2]>,
    /// Addresses of barriers.
    reserved: HashSet<u64>,
    /// Of each barrier.
    addresses: Vec<u32>,
    /// By block: whether it has ended, and what others did in its memory.
    ended: Vec<bool>,
    reached: Vec<Clock>,
}

impl Order {
    pub fn new(layout: Layout, piece: usize, checked: bool) -> Self {
        let (bytes, warps) = (layout.all_bytes(), layout.all_warps());
        let count = |size: usize| if checked { bytes.div_ceil(size) } else { 0 };
        let mut order = Self {
            layout,
            rank: 0,
            warps,
            checked,
            piece_shift: piece.trailing_zeros(),
            writers: vec![0; count(piece)],
            readers: vec![0; count(CHUNK) * 3 * warps],
            knowledge: Vec::new(),
            reserved: HashSet::new(),
            addresses: Vec::new(),
            ended: Vec::new(),
            reached: Vec::new(),
        };
        order.clear();
        order
    }

    /// For the next block or cluster.
    pub fn clear(&mut self) {
        self.writers.fill(0);
        self.readers.fill(0);
        self.reserved.clear();
        self.addresses.clear();
        self.ended = vec![false; self.layout.blocks];
        self.reached = vec![Clock::default(); self.layout.blocks];
        self.knowledge = vec![Default::default(); self.warps];
        (0..self.warps).for_each(|warp| self.step(warp));
    }

    /// Agents from this one on are products, stores and copies.
    pub fn first_on_its_own(&self) -> usize {
        self.warps
    }

    fn products(&self, warp: usize) -> usize {
        self.warps + warp
    }

    fn stores(&self, warp: usize) -> usize {
        2 * self.warps + warp
    }

    fn copies(&self, barrier: usize) -> usize {
        3 * self.warps + barrier
    }

    pub fn seen(&self, warp: usize, agent: usize) -> u32 {
        self.knowledge[warp][0].get(agent)
    }

    pub fn proxied(&self, warp: usize, agent: usize) -> u32 {
        self.knowledge[warp][1].get(agent)
    }

    pub fn knowledge(&self, warp: usize) -> &[Clock; 2] {
        &self.knowledge[warp]
    }

    /// What this warp does from now on is not what others have just learned of.
    pub fn step(&mut self, warp: usize) {
        let next = self.seen(warp, warp) + 1;
        self.knowledge[warp][0].raise(warp, next);
    }

    pub fn learn(&mut self, warp: usize, of: &[Clock; 2]) {
        for (mine, theirs) in self.knowledge[warp].iter_mut().zip(of) {
            mine.join(theirs);
        }
    }

    /// A barrier of these warps opens.
    pub fn meet(&mut self, warps: &[usize]) {
        let mut all: [Clock; 2] = Default::default();
        for &warp in warps {
            for (all, known) in all.iter_mut().zip(&self.knowledge[warp]) {
                all.join(known);
            }
        }
        for &warp in warps {
            self.learn(warp, &all);
            self.step(warp);
        }
    }

    /// `fence.proxy.async`
    pub fn fence(&mut self, warp: usize) {
        let [seen, proxied] = &mut self.knowledge[warp];
        proxied.join(seen);
        self.step(warp);
    }

    pub fn products_done(&mut self, warp: usize, groups: u32) {
        let agent = self.products(warp);
        self.both(warp, agent, groups);
    }

    pub fn stores_read(&mut self, warp: usize, groups: u32) {
        let agent = self.stores(warp);
        self.both(warp, agent, groups);
    }

    pub fn copies_done(&mut self, warp: usize, barrier: usize, phases: u32) {
        let agent = self.copies(barrier);
        self.both(warp, agent, phases);
    }

    fn both(&mut self, warp: usize, agent: usize, step: u32) {
        for clock in &mut self.knowledge[warp] {
            clock.raise(agent, step);
        }
    }

    fn warps_of(&self, rank: usize) -> std::ops::Range<usize> {
        rank * self.layout.warps..(rank + 1) * self.layout.warps
    }

    /// A warp has something done, as this step of an agent, in memory that may be another block's.
    pub fn reach(
        &mut self,
        place: u64,
        warp: usize,
        (agent, step): (usize, u32),
    ) -> Result<(), AsyncProblem> {
        let rank = self.layout.rank_of_place(place);
        if !self.checked || rank == self.layout.rank_of_warp(warp) {
            return Ok(());
        }
        if self.ended[rank] {
            return Err(AsyncProblem::OtherHasEnded { rank });
        }
        if self.warps_of(rank).all(|other| self.seen(warp, other) == 0) {
            return Err(AsyncProblem::OtherNotBegun { rank });
        }
        self.reached[rank].raise(agent, step);
        Ok(())
    }

    /// The last warp of a block has ended.
    pub fn end(&mut self, rank: usize) -> Result<(), AsyncProblem> {
        self.ended[rank] = true;
        for (agent, step) in self.reached[rank].steps() {
            if (self.warps_of(rank)).any(|warp| self.seen(warp, agent) >= step) {
                continue;
            }
            let what = match agent.checked_sub(3 * self.warps) {
                Some(barrier) => {
                    let address = self.layout.name(self.addresses[barrier].into());
                    format!("a copy that counts at the mbarrier at {address:#x}")
                }
                None => format!("what warp {agent} did there"),
            };
            return Err(AsyncProblem::EndedBeforeOther { rank, what });
        }
        Ok(())
    }

    /// A barrier lies here, and data does not.
    pub fn reserve(&mut self, address: u32) {
        self.addresses.push(address);
        self.reserved
            .extend([u64::from(address), u64::from(address) + 4]);
    }

    fn check_reserved(&self, lane: usize, address: u64, bytes: usize) -> Result<(), Fault> {
        if self.reserved.is_empty() {
            return Ok(());
        }
        let first = address & !3;
        for place in (first..address + bytes as u64).step_by(4) {
            if self.reserved.contains(&place) {
                return Err(wrong(
                    lane,
                    AsyncProblem::BarrierAsData(self.layout.name(place)),
                ));
            }
        }
        Ok(())
    }

    /// Whether an earlier write lies before an access of a warp; `lane` and `sub` of one of its threads.
    fn after_write(
        &self,
        earlier: Writer,
        warp: usize,
        thread: Option<(u32, u32)>,
        address: u64,
        what: &'static str,
    ) -> Result<(), AsyncProblem> {
        let (agent, step) = agent_of(earlier);
        let address = self.layout.name(address);
        if agent >= 3 * self.warps {
            let barrier = self.addresses[agent - 3 * self.warps];
            let barrier = self.layout.name(barrier.into()) as u32;
            return match self.seen(warp, agent) >= step {
                true => Ok(()),
                false => Err(AsyncProblem::CopyNotAwaited { address, barrier }),
            };
        }
        let ordered = match thread {
            Some((lane, sub)) if agent == warp => {
                let same_interval = (earlier >> 8 & 0xff) as u32 == sub & 0xff;
                let other_lane = earlier as u32 & 0xff != lane;
                !(same_interval && other_lane && step == self.seen(warp, warp))
            }
            _ => agent == warp || self.seen(warp, agent) >= step,
        };
        if !ordered {
            return Err(AsyncProblem::Unordered {
                address,
                what,
                warp: agent,
            });
        }
        if thread.is_none() && self.proxied(warp, agent) < step {
            return Err(AsyncProblem::NoProxyFence {
                address,
                warp: agent,
            });
        }
        Ok(())
    }

    fn after_reads(&self, chunk: usize, warp: usize, address: u64) -> Result<(), AsyncProblem> {
        let agents = 3 * self.warps;
        let readers = &self.readers[chunk * agents..(chunk + 1) * agents];
        for (agent, &step) in readers.iter().enumerate() {
            if step <= self.seen(warp, agent) || agent == warp {
                continue;
            }
            let of = agent % self.warps;
            let address = self.layout.name(address);
            return Err(match agent / self.warps {
                0 => AsyncProblem::Unordered {
                    address,
                    what: "a write after a read",
                    warp: of,
                },
                1 => AsyncProblem::InUse {
                    address,
                    user: "a product",
                    warp: of,
                },
                _ => AsyncProblem::InUse {
                    address,
                    user: "a store",
                    warp: of,
                },
            });
        }
        Ok(())
    }

    fn pieces(&self, address: u64, bytes: usize) -> std::ops::Range<usize> {
        let first = address as usize >> self.piece_shift;
        let last = (address as usize + bytes - 1) >> self.piece_shift;
        first..last + 1
    }

    fn read_by(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        warp: usize,
        thread: Option<(u32, u32)>,
        (reader, step): (usize, u32),
    ) -> Result<(), Fault> {
        if !self.checked {
            return Ok(());
        }
        self.check_reserved(lane, address, bytes)?;
        let reached = self.reach(address, warp, (reader, step));
        reached.map_err(|problem| wrong(lane, problem))?;
        let mut passed = 0;
        for piece in self.pieces(address, bytes) {
            let writer = self.writers[piece];
            let place = (piece as u64) << self.piece_shift;
            if writer == 0 {
                return uninitialised(lane, Space::Shared, self.layout.name(place));
            }
            if writer != passed {
                let after = self.after_write(writer, warp, thread, place, "a read after a write");
                after.map_err(|problem| wrong(lane, problem))?;
                passed = writer;
            }
        }
        let agents = 3 * self.warps;
        for chunk in address as usize / CHUNK..=(address as usize + bytes - 1) / CHUNK {
            self.readers[chunk * agents + reader] = step;
        }
        Ok(())
    }

    fn write_by(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        warp: usize,
        thread: Option<(u32, u32)>,
        as_writer: Writer,
    ) -> Result<(), Fault> {
        if !self.checked {
            return Ok(());
        }
        self.check_reserved(lane, address, bytes)?;
        let reached = self.reach(address, warp, agent_of(as_writer));
        reached.map_err(|problem| wrong(lane, problem))?;
        let mut passed = 0;
        for piece in self.pieces(address, bytes) {
            let writer = self.writers[piece];
            let place = (piece as u64) << self.piece_shift;
            if writer != 0 && writer != passed {
                let after = self.after_write(writer, warp, thread, place, "a write after a write");
                after.map_err(|problem| wrong(lane, problem))?;
                passed = writer;
            }
            self.writers[piece] = as_writer;
        }
        for chunk in address as usize / CHUNK..=(address as usize + bytes - 1) / CHUNK {
            let after = self.after_reads(chunk, warp, (chunk * CHUNK) as u64);
            after.map_err(|problem| wrong(lane, problem))?;
        }
        Ok(())
    }

    fn thread(&self, me: Stamp) -> (usize, (u32, u32)) {
        let thread = shadow::thread_of(me);
        let warp = self.rank * self.layout.warps + thread as usize / 32;
        (warp, (thread % 32, shadow::sub_of(me)))
    }

    /// A thread reads.
    pub fn read(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        let (warp, thread) = self.thread(me);
        let step = self.seen(warp, warp);
        self.read_by(lane, address, bytes, warp, Some(thread), (warp, step))
    }

    /// A thread writes.
    pub fn write(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        let (warp, thread) = self.thread(me);
        let as_writer = writer(warp, self.seen(warp, warp), thread.1, thread.0);
        self.write_by(lane, address, bytes, warp, Some(thread), as_writer)
    }

    /// A product of the warp reads, in the group of this number (from 1).
    pub fn product_reads(
        &mut self,
        address: u64,
        bytes: usize,
        warp: usize,
        group: u32,
    ) -> Result<(), Fault> {
        let reader = (self.products(warp), group);
        self.read_by(0, address, bytes, warp, None, reader)
    }

    /// A store of the warp reads, likewise.
    pub fn store_reads(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        warp: usize,
        group: u32,
    ) -> Result<(), Fault> {
        let reader = (self.stores(warp), group);
        self.read_by(lane, address, bytes, warp, None, reader)
    }

    /// A copy that the warp issues will write, by the end of this phase (from 0) of the barrier.
    pub fn copy_writes(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        warp: usize,
        (barrier, phase): (usize, u32),
    ) -> Result<(), Fault> {
        let as_writer = writer(self.copies(barrier), phase + 1, 0, 0);
        self.write_by(lane, address, bytes, warp, None, as_writer)
    }
}
