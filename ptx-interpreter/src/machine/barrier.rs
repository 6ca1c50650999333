//! Barriers in shared memory (`mbarrier`): arrivals and bytes of a phase.

use crate::finding::AsyncProblem;
use crate::memory::{Clock, Order};
use std::collections::HashMap;

/// Arrivals and bytes that the hardware can count.
const MOST: u32 = (1 << 20) - 1;

/// A barrier. What arriving warps know is handed to those who wait.
pub struct Barrier {
    address: u32,
    expected: u32,
    pending: u32,
    /// Bytes that were announced and have not come; below zero when they came first.
    bytes: i64,
    /// How many phases are complete.
    phase: u32,
    /// What everyone who waits learns, and what only `.acquire.cluster` learns: of arrivals from other blocks with `.release.cluster`.
    gathering: [[Clock; 2]; 2],
    published: [[Clock; 2]; 2],
    /// Who made it, and when.
    made: (usize, u32),
}

/// A barrier's address as findings name it.
fn named(place: u32, order: &Order) -> u32 {
    order.layout.name(place.into()) as u32
}

/// Barriers of a block, or of all blocks of a cluster, by their places.
#[derive(Default)]
pub struct Barriers {
    list: Vec<Barrier>,
    by_address: HashMap<u32, usize>,
}

impl Barriers {
    fn find(&self, address: u32, order: &Order) -> Result<usize, AsyncProblem> {
        let found = self.by_address.get(&address).copied();
        found.ok_or(AsyncProblem::NoBarrier(named(address, order)))
    }

    /// The barrier, if the warp may know that it was made.
    pub fn known(&self, address: u32, order: &Order, warp: usize) -> Result<usize, AsyncProblem> {
        let index = self.find(address, order)?;
        let (maker, when) = self.list[index].made;
        if order.checked && maker != warp && order.seen(warp, maker) < when {
            return Err(AsyncProblem::BarrierNotKnown(named(address, order)));
        }
        Ok(index)
    }

    /// The barrier, if copies of the warp may know that it was made.
    pub fn known_to_copies(
        &self,
        address: u32,
        order: &Order,
        warp: usize,
    ) -> Result<usize, AsyncProblem> {
        let index = self.known(address, order, warp)?;
        let (maker, when) = self.list[index].made;
        if order.checked && order.proxied(warp, maker) < when {
            return Err(AsyncProblem::BarrierNotKnown(named(address, order)));
        }
        Ok(index)
    }

    pub fn phase(&self, index: usize) -> u32 {
        self.list[index].phase
    }

    pub fn init(
        &mut self,
        address: u32,
        count: u32,
        order: &mut Order,
        warp: usize,
    ) -> Result<(), AsyncProblem> {
        let not_made = |detail: String| AsyncProblem::BarrierNotMade {
            address: named(address, order),
            detail,
        };
        if !address.is_multiple_of(8) {
            return Err(not_made("its address is no multiple of 8".into()));
        }
        if !(1..=MOST).contains(&count) {
            return Err(not_made(format!("{count} arrivals; 1 to {MOST} can be")));
        }
        if self.by_address.contains_key(&address) {
            return Err(not_made("there is one already".into()));
        }
        self.by_address.insert(address, self.list.len());
        order.reserve(address);
        self.list.push(Barrier {
            address,
            expected: count,
            pending: count,
            bytes: 0,
            phase: 0,
            gathering: Default::default(),
            published: Default::default(),
            made: (warp, order.seen(warp, warp)),
        });
        Ok(())
    }

    /// A warp arrives, for the cluster to know (`wide`) or for its block. The phase's number, which is all that the returned state says.
    pub fn arrive(
        &mut self,
        address: u32,
        count: u32,
        bytes: u32,
        wide: bool,
        order: &mut Order,
        warp: usize,
    ) -> Result<u64, AsyncProblem> {
        order.reach(address.into(), warp, (warp, order.seen(warp, warp)))?;
        let index = self.known(address, order, warp)?;
        let layout = order.layout;
        let of_other = layout.rank_of_place(address.into()) != layout.rank_of_warp(warp);
        let barrier = &mut self.list[index];
        let (pending, phase) = (barrier.pending, barrier.phase);
        if count == 0 || count > pending {
            return Err(AsyncProblem::TooManyArrivals {
                address: named(address, order),
                count,
                pending,
            });
        }
        barrier.bytes += i64::from(bytes);
        for (i, known) in order.knowledge(warp).iter().enumerate() {
            let [of_block, of_others] = &mut barrier.gathering;
            match (of_other, wide) {
                (false, _) => of_block[i].join(known),
                (true, true) => of_others[i].join(known),
                // That what ran on its own has ended does not hang on what is seen of memory.
                (true, false) => of_block[i].join_from(known, order.first_on_its_own()),
            }
        }
        barrier.pending -= count;
        barrier.complete_if_so(order)?;
        Ok(phase.into())
    }

    pub fn expect(
        &mut self,
        address: u32,
        bytes: u32,
        order: &mut Order,
        warp: usize,
    ) -> Result<(), AsyncProblem> {
        order.reach(address.into(), warp, (warp, order.seen(warp, warp)))?;
        let index = self.known(address, order, warp)?;
        self.list[index].bytes += i64::from(bytes);
        Ok(())
    }

    /// A copy that was issued in phase `phase` has arrived.
    pub fn deliver(
        &mut self,
        index: usize,
        phase: u32,
        bytes: u32,
        order: &Order,
    ) -> Result<(), AsyncProblem> {
        let barrier = &mut self.list[index];
        if barrier.phase != phase {
            let address = named(barrier.address, order);
            return Err(AsyncProblem::WrongBytes { address, bytes });
        }
        barrier.bytes -= i64::from(bytes);
        barrier.complete_if_so(order)
    }

    /// Whether the phase of this parity is complete: that before the present one.
    pub fn is_complete(&self, address: u32, parity: u32) -> bool {
        let found = self.by_address.get(&address);
        found.is_some_and(|&index| self.list[index].phase & 1 != parity & 1)
    }

    /// A warp has waited for it, and knows what those of its block knew who arrived; with `wide` (`.acquire.cluster`) those of others, too.
    pub fn acquire(&self, address: u32, wide: bool, order: &mut Order, warp: usize) {
        if let Some(&index) = self.by_address.get(&address) {
            let barrier = &self.list[index];
            order.learn(warp, &barrier.published[0]);
            if wide {
                order.learn(warp, &barrier.published[1]);
            }
            order.copies_done(warp, index, barrier.phase);
        }
    }

    pub fn describe(&self, address: u32, parity: u32, order: &Order) -> String {
        let name = named(address, order);
        match self.by_address.get(&address) {
            Some(&index) => {
                let b = &self.list[index];
                format!(
                    "parity {parity} of the mbarrier at {name:#x}, whose phase {} lacks {} arrivals and {} bytes",
                    b.phase, b.pending, b.bytes
                )
            }
            None => format!("an mbarrier at {name:#x} that was never made"),
        }
    }
}

impl Barrier {
    fn complete_if_so(&mut self, order: &Order) -> Result<(), AsyncProblem> {
        if self.pending > 0 || self.bytes > 0 {
            return Ok(());
        }
        if self.bytes < 0 {
            let (address, bytes) = (named(self.address, order), -self.bytes);
            return Err(AsyncProblem::TooManyBytes { address, bytes });
        }
        self.phase += 1;
        self.pending = self.expected;
        self.published = std::mem::take(&mut self.gathering);
        Ok(())
    }
}
