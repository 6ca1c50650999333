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
use crate::memory::{Shared, cluster};
use crate::program::{Address, Hopper};
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
                let place = (block.shared).own(lane, addresses[lane] & 0xffff_ffff, 8)?;
                let order = block.shared.order.as_mut().expect("as the units");
                order.write(lane, place, 8, me + lane as u64)?;
                let address = place as u32;
                let made = units
                    .barriers
                    .init(address, counts[lane], order, warp.place);
                made.map_err(|problem| wrong(lane, problem))?;
            }
        }
        Hopper::Arrive {
            d,
            barrier,
            count,
            bytes,
            of_cluster,
            wide,
        } => {
            let places = barrier_places(&block.shared, warp, mask, *barrier, *of_cluster)?;
            let order = block.shared.order.as_mut().expect("as the units");
            let counts = count.map_or([1; 32], |reg| warp.get32(reg));
            let bytes = bytes.map(|reg| warp.get32(reg));
            let mut states = [0; 32];
            for lane in lanes_of(mask) {
                let bytes = bytes.map_or(0, |b| b[lane]);
                let (place, count) = (places[lane], counts[lane]);
                let arrived =
                    (units.barriers).arrive(place, count, bytes, *wide, order, warp.place);
                states[lane] = arrived.map_err(|problem| wrong(lane, problem))?;
            }
            if let Some(d) = d {
                warp.set(*d, mask, &states);
            }
            order.step(warp.place);
            block.epoch = next_epoch(block.epoch);
        }
        Hopper::Expect {
            barrier,
            bytes,
            of_cluster,
        } => {
            let places = barrier_places(&block.shared, warp, mask, *barrier, *of_cluster)?;
            let order = block.shared.order.as_mut().expect("as the units");
            let bytes = warp.get32(*bytes);
            for lane in lanes_of(mask) {
                let expected =
                    (units.barriers).expect(places[lane], bytes[lane], order, warp.place);
                expected.map_err(|problem| wrong(lane, problem))?;
            }
        }
        Hopper::Try {
            p,
            barrier,
            parity,
            wide,
        } => {
            let places = barrier_places(&block.shared, warp, mask, *barrier, false)?;
            let order = block.shared.order.as_mut().expect("as the units");
            let parities = warp.get32(*parity);
            let mut complete = 0;
            for lane in lanes_of(mask) {
                let address = places[lane];
                let tried = units.barriers.known(address, order, warp.place);
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
                    .acquire(places[lane], *wide, order, warp.place);
            }
            warp.set_predicate(*p, mask, complete);
        }
        Hopper::MapAddress { d, a, rank } => {
            let (a, ranks) = (warp.get(*a), warp.get32(*rank));
            let blocks = units.layout.blocks;
            for lane in lanes_of(mask) {
                if ranks[lane] as usize >= blocks {
                    let what = format!("mapa asks for that of rank {}", ranks[lane]);
                    return Err(wrong(lane, AsyncProblem::Cluster { blocks, what }));
                }
            }
            let values = std::array::from_fn(|i| cluster::mapped(a[i], ranks[i]));
            warp.set(*d, mask, &values);
        }
        Hopper::ClusterArrive | Hopper::ClusterWait if mask != warp.alive => {
            let instruction = context.opcode(at);
            return warp_fault(Problem::AbsentLanes {
                instruction,
                missing: warp.alive & !mask,
            });
        }
        Hopper::ClusterArrive => {
            let arrived = units.cluster.arrive(warp.place, order);
            arrived.map_err(|problem| wrong(first, problem))?;
            block.epoch = next_epoch(block.epoch);
        }
        Hopper::ClusterWait => {
            let complete = units.cluster.wait(warp.place, order);
            if !complete.map_err(|problem| wrong(first, problem))? {
                return Ok(Flow::Wait(Waiting::Cluster));
            }
        }
        Hopper::ProxyFence => order.fence(warp.place),
        Hopper::MapFence(at) => {
            let addresses = warp.addresses(*at);
            lanes_of(mask).for_each(|lane| {
                units.fenced.insert((warp.rank, addresses[lane]));
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
            let set = units.set_registers(warp.place, *count, *more);
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
                    order.products_done(warp.place, done);
                }
                _ => product::multiply(context, block, warp, op)?,
            }
        }
    }
    Ok(Flow::Next)
}

/// The places of barriers, by lane.
fn barrier_places(
    shared: &Shared,
    warp: &Warp,
    mask: u32,
    barrier: Address,
    of_cluster: bool,
) -> Result<[u32; 32], Fault> {
    let addresses = warp.addresses(barrier);
    let mut places = [0; 32];
    for lane in lanes_of(mask) {
        let address = addresses[lane] & 0xffff_ffff;
        places[lane] = shared.place(of_cluster, lane, address, 8)? as u32;
    }
    Ok(places)
}

/// An instruction that touches sums of products: are they in use?
pub fn check_sums(warp: &mut Warp, touches: &[(u32, bool)]) -> Result<(), Fault> {
    (warp.running.touch(touches)).map_err(|problem| wrong(0, problem))
}

/// All warps of the block with this rank have ended.
pub fn end_block(context: &Context, block: &mut Block, rank: usize) -> Result<(), Box<Finding>> {
    let order = block.shared.order.as_mut().expect("as the units");
    let found = |problem| context.finding(block.indices[rank], None, None, Problem::Async(problem));
    order.end(rank).map_err(found)
}

/// All blocks have ended: their shared memory goes.
pub fn end(context: &Context, block: &mut Block) -> Result<(), Box<Finding>> {
    let units = block.units.as_mut().expect("of a kernel that has them");
    if let Some(by) = units.unfinished() {
        let problem = Problem::Async(AsyncProblem::EndedBeforeCopy);
        return Err(context.finding(by.block, Some(by.at), None, problem));
    }
    Ok(())
}

/// Nothing can happen any more: who waits for what.
pub fn deadlock(context: &Context, block: &Block, warps: &[Warp]) -> Box<Finding> {
    let units = block.units.as_ref().expect("of a kernel that has them");
    let order = block.shared.order.as_ref().expect("as the units");
    let mut by_wait: BTreeMap<(usize, String, u32), Vec<String>> = BTreeMap::new();
    for warp in warps {
        let (what, line) = match &warp.state {
            State::Barrier { id, line, .. } => (format!("barrier {id}"), *line),
            State::Waiting { what, line } => (units.describe(warp.place, what, order), *line),
            State::Ready | State::Done => continue,
        };
        by_wait
            .entry((warp.rank, what, line))
            .or_default()
            .push(warp.index.to_string());
    }
    let first = by_wait.keys().next().map(|(rank, _, line)| (*rank, *line));
    let place = first.and_then(|(_, l)| context.kernel.code.iter().position(|i| i.line == l));
    let index = block.indices[first.map_or(0, |(rank, _)| rank)];
    let waits = (by_wait.into_iter())
        .map(|((rank, what, line), warps)| {
            let of_block = match units.layout.blocks {
                1 => String::new(),
                _ => format!("of block {} ", block.indices[rank]),
            };
            let warps = warps.join(", ");
            format!("{of_block}warp {warps} waits for {what} (PTX line {line})")
        })
        .collect();
    let problem = Problem::Async(AsyncProblem::Deadlock(waits));
    context.finding(index, place, None, problem)
}
