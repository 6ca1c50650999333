//! What Hopper adds: barriers in shared memory, copies and products that run on their own.
//!
//! A kernel that uses any of it has its shared memory watched by `memory/order.rs` instead of by barrier intervals: its warps are ordered
//! by barriers of two or a few of them, and what runs on its own is ordered by what was waited for. `machine/units.rs` keeps what is
//! under way; `copy` moves boxes, `product` multiplies matrices.
//!
//! Boxes arrive in random order, at random moments between their issue and the moment when nothing else can happen.

mod copy;
mod product;

pub use copy::deliver;

use crate::finding::{AsyncProblem, Fault, Finding, Problem, warp_fault, wrong};
use crate::machine::{Block, Context, FULL, State, Waiting, Warp, lanes_of};
use crate::memory::shadow::next_epoch;
use crate::program::Hopper;
use std::collections::BTreeMap;

/// Whether a warp goes on.
pub enum Flow {
    Next,
    Wait(Waiting),
}

/// Executes an instruction of a warp.
pub fn execute(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    at: usize,
    op: &Hopper,
) -> Result<Flow, Fault> {
    let me = context.stamp(block, warp);
    let units = block
        .units
        .as_mut()
        .expect("a kernel with such an instruction has units");
    let order = block.shared.order.as_mut().expect("as the units");
    let first = mask.trailing_zeros() as usize;
    match op {
        Hopper::Init { barrier, count } => {
            let (addresses, counts) = (warp.addresses(*barrier), warp.get32(*count));
            for lane in lanes_of(mask) {
                let address = addresses[lane] as u32;
                block.shared.check_range(lane, address.into(), 8)?;
                let order = block.shared.order.as_mut().expect("as the units");
                order.write(lane, address.into(), 8, me + lane as u64)?;
                let made = units
                    .barriers
                    .init(address, counts[lane], order, warp.index);
                made.map_err(|problem| wrong(lane, problem))?;
            }
        }
        Hopper::Arrive {
            d,
            barrier,
            count,
            bytes,
        } => {
            let addresses = warp.addresses(*barrier);
            let counts = count.map_or([1; 32], |reg| warp.get32(reg));
            let bytes = bytes.map(|reg| warp.get32(reg));
            let mut states = [0; 32];
            for lane in lanes_of(mask) {
                let address = addresses[lane] as u32;
                let bytes = bytes.map_or(0, |b| b[lane]);
                let arrived =
                    (units.barriers).arrive(address, counts[lane], bytes, order, warp.index);
                states[lane] = arrived.map_err(|problem| wrong(lane, problem))?;
            }
            if let Some(d) = d {
                warp.set(*d, mask, &states);
            }
            order.step(warp.index);
            block.epoch = next_epoch(block.epoch);
        }
        Hopper::Expect { barrier, bytes } => {
            let (addresses, bytes) = (warp.addresses(*barrier), warp.get32(*bytes));
            for lane in lanes_of(mask) {
                let address = addresses[lane] as u32;
                let expected = (units.barriers).expect(address, bytes[lane], order, warp.index);
                expected.map_err(|problem| wrong(lane, problem))?;
            }
        }
        Hopper::Try { p, barrier, parity } => {
            let (addresses, parities) = (warp.addresses(*barrier), warp.get32(*parity));
            let mut complete = 0;
            for lane in lanes_of(mask) {
                let address = addresses[lane] as u32;
                let tried = units.barriers.known(address, order, warp.index);
                tried.map_err(|problem| wrong(lane, problem))?;
                if units.barriers.is_complete(address, parities[lane]) {
                    complete |= 1 << lane;
                } else if units.random.next().is_multiple_of(8) {
                    // It may come back with nothing, too.
                } else {
                    let (barrier, parity) = (address, parities[lane]);
                    return Ok(Flow::Wait(Waiting::Phase { barrier, parity }));
                }
            }
            for lane in lanes_of(complete) {
                units
                    .barriers
                    .acquire(addresses[lane] as u32, order, warp.index);
            }
            warp.set_predicate(*p, mask, complete);
        }
        Hopper::ProxyFence => order.fence(warp.index),
        Hopper::MapFence(at) => {
            let addresses = warp.addresses(*at);
            lanes_of(mask).for_each(|lane| {
                units.fenced.insert(addresses[lane]);
            });
        }
        Hopper::Load { .. } | Hopper::Store { .. } => {
            copy::begin(context, block, warp, mask, at, op)?;
        }
        Hopper::StoreCommit => lanes_of(mask).for_each(|lane| warp.stores[lane] += 1),
        Hopper::StoreWait(pending) => copy::wait(context, block, warp, mask, *pending)?,
        Hopper::Elect { d, p, members } => {
            let members = warp.get32(*members)[first];
            let missing = members & !mask;
            if missing != 0 || members == 0 {
                let instruction = context.opcode(at);
                return warp_fault(Problem::AbsentLanes {
                    instruction,
                    missing,
                });
            }
            let leader = members.trailing_zeros();
            if let Some(d) = d {
                warp.set32(*d, mask, &[leader; 32]);
            }
            warp.set_predicate(*p, mask, 1 << leader);
        }
        Hopper::Registers { count, more } => {
            if mask != FULL {
                let instruction = context.opcode(at);
                return warp_fault(Problem::AbsentLanes {
                    instruction,
                    missing: !mask,
                });
            }
            let set = units.set_registers(warp.index, *count, *more);
            if let Some(waiting) = set.map_err(|problem| wrong(first, problem))? {
                return Ok(Flow::Wait(waiting));
            }
        }
        Hopper::ProductFence
        | Hopper::ProductCommit
        | Hopper::ProductWait(_)
        | Hopper::Product { .. } => {
            if mask != FULL {
                let instruction = context.opcode(at);
                return warp_fault(Problem::AbsentLanes {
                    instruction,
                    missing: !mask,
                });
            }
            match op {
                Hopper::ProductFence => warp.running.fence(),
                Hopper::ProductCommit => warp.running.commit(),
                Hopper::ProductWait(pending) => {
                    let done = warp.running.wait(*pending);
                    order.products_done(warp.index, done);
                }
                _ => product::multiply(context, block, warp, op)?,
            }
        }
    }
    Ok(Flow::Next)
}

/// An instruction that touches sums of products: are they in use?
pub fn check_sums(warp: &mut Warp, touches: &[(u32, bool)]) -> Result<(), Fault> {
    (warp.running.touch(touches)).map_err(|problem| wrong(0, problem))
}

/// The block has ended: its shared memory goes.
pub fn end(context: &Context, block: &mut Block) -> Result<(), Box<Finding>> {
    let units = block.units.as_mut().expect("of a kernel that has them");
    if let Some(at) = units.unfinished() {
        let problem = Problem::Async(AsyncProblem::EndedBeforeCopy);
        return Err(context.finding(block.index, Some(at), None, problem));
    }
    while copy::deliver(context, block, true)? {}
    Ok(())
}

/// Nothing can happen any more: who waits for what.
pub fn deadlock(context: &Context, block: &Block, warps: &[Warp]) -> Box<Finding> {
    let units = block.units.as_ref().expect("of a kernel that has them");
    let mut by_wait: BTreeMap<(String, u32), Vec<String>> = BTreeMap::new();
    for warp in warps {
        let (what, line) = match &warp.state {
            State::Barrier { id, line, .. } => (format!("barrier {id}"), *line),
            State::Waiting { what, line } => (units.describe(what), *line),
            State::Ready | State::Done => continue,
        };
        by_wait
            .entry((what, line))
            .or_default()
            .push(warp.index.to_string());
    }
    let place = by_wait.keys().next().map(|(_, line)| *line);
    let place = place.and_then(|line| context.kernel.code.iter().position(|i| i.line == line));
    let waits = (by_wait.into_iter())
        .map(|((what, line), warps)| {
            format!(
                "warp {} waits for {what} (PTX line {line})",
                warps.join(", ")
            )
        })
        .collect();
    let problem = Problem::Async(AsyncProblem::Deadlock(waits));
    context.finding(block.index, place, None, problem)
}
