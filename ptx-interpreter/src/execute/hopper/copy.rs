//! Boxes of tensors on their way to shared memory and back (`cp.async.bulk.tensor`).

use crate::finding::{AsyncProblem, Fault, Finding, Space, check_aligned, wrong};
use crate::machine::{Block, Context, Issued, Load, Store, Units, Warp, lanes_of};
use crate::memory::shadow::{Stamp, next_epoch};
use crate::memory::tensor_map::{self, TensorMap, swizzled};
use crate::memory::{Layout, Shared};
use crate::program::{Hopper, PARAM_WINDOW};
use crate::report::Traffic;
use std::sync::Arc;

/// A tensor map at an address, if it may be used.
fn map_at(
    context: &Context,
    units: &Units,
    (rank, lane): (usize, usize),
    address: u64,
    me: Stamp,
) -> Result<TensorMap, Fault> {
    let bytes = tensor_map::BYTES;
    check_aligned(lane, Space::Global, address, bytes, 64)?;
    let mut encoded = [0; tensor_map::BYTES];
    if let Some(offset) = address.checked_sub(PARAM_WINDOW)
        && offset as usize + bytes <= context.parameters.len()
    {
        encoded.copy_from_slice(&context.parameters[offset as usize..][..bytes]);
    } else {
        let place = context.memory.locate(lane, address, bytes)?;
        if context.options.checks {
            place.check_read(lane, address, bytes, context.kernel.global_piece, me)?;
            if !units.fenced.contains(&(rank, address)) {
                return Err(wrong(lane, AsyncProblem::MapNotFenced(address)));
            }
        }
        place.read(&mut encoded);
    }
    let unreadable = || {
        let what = format!("there is no tensor map at {address:#x}");
        wrong(lane, AsyncProblem::Map(what))
    };
    TensorMap::decode(&encoded).ok_or_else(unreadable)
}

/// The blocks of a multicast.
fn ranks(mask: u32, blocks: usize) -> Result<Vec<usize>, AsyncProblem> {
    let mask = mask & 0xffff;
    if mask == 0 || mask >> blocks != 0 {
        let what = format!("a multicast goes to those of the mask {mask:#b}");
        return Err(AsyncProblem::Cluster { blocks, what });
    }
    Ok(lanes_of(mask).collect())
}

/// The block that a copy to a single one goes to.
fn one_rank(layout: Layout, place: u64, barrier: u64) -> Result<Vec<usize>, AsyncProblem> {
    let rank = layout.rank_of_place(place);
    if layout.rank_of_place(barrier) != rank {
        return Err(AsyncProblem::Cluster {
            blocks: layout.blocks,
            what: "a copy goes to one of them and counts in another".into(),
        });
    }
    Ok(vec![rank])
}

/// A copy is issued by each lane of the mask.
pub fn begin(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    at: usize,
    op: &Hopper,
) -> Result<(), Fault> {
    let me = context.stamp(block, warp);
    let units = block.units.as_mut().expect("checked by the caller");
    let (map, corner, shared) = match op {
        Hopper::Load {
            map, corner, to, ..
        } => (map, corner, to),
        Hopper::Store { map, corner, from } => (map, corner, from),
        _ => unreachable!("only copies come here"),
    };
    let (maps, shared) = (warp.addresses(*map), warp.addresses(*shared));
    let corners: Vec<_> = corner.iter().map(|reg| warp.get32(*reg)).collect();
    for lane in lanes_of(mask) {
        let map = Arc::new(map_at(
            context,
            units,
            (warp.rank, lane),
            maps[lane],
            me + lane as u64,
        )?);
        if map.dims.len() != corners.len() {
            let what = format!(
                "a copy of {} dimensions by a map of {}",
                corners.len(),
                map.dims.len()
            );
            return Err(wrong(lane, AsyncProblem::Map(what)));
        }
        let address = shared[lane] & 0xffff_ffff;
        let bytes = map.box_bytes() as usize;
        check_aligned(lane, Space::Shared, address, bytes, 128)?;
        let corner: Vec<i32> = corners.iter().map(|c| c[lane] as i32).collect();
        let by = Issued {
            at,
            block: block.index,
            me: me + lane as u64,
            lane,
            thread: (warp.index * 32 + lane) as u32,
        };
        if let Hopper::Load {
            barrier,
            of_cluster,
            blocks,
            ..
        } = op
        {
            let barrier = warp.addresses(*barrier)[lane] & 0xffff_ffff;
            let place = (block.shared).place(*of_cluster, lane, address, bytes)?;
            let barrier = (block.shared).place(*of_cluster, lane, barrier, 8)?;
            let blocks = match blocks {
                Some(mask) => ranks(warp.get32(*mask)[lane], units.layout.blocks),
                None => one_rank(units.layout, place, barrier),
            };
            let blocks = blocks.map_err(|problem| wrong(lane, problem))?;
            for (i, &rank) in blocks.iter().enumerate() {
                let to = block.shared.in_block(place, rank);
                let at = block.shared.in_block(barrier, rank) as u32;
                let order = block.shared.order.as_mut().expect("as the units");
                let known = (units.barriers).known_to_copies(at, order, warp.place);
                let barrier = known.map_err(|problem| wrong(lane, problem))?;
                let phase = units.barriers.phase(barrier);
                order.copy_writes(lane, to, bytes, warp.place, (barrier, phase))?;
                units.loads.push(Load {
                    map: map.clone(),
                    corner: corner.clone(),
                    to,
                    barrier,
                    phase,
                    fetched: i == 0,
                    by,
                });
            }
        } else {
            let group = warp.stores[lane] + 1;
            let place = block.shared.own(lane, address, bytes)?;
            let order = block.shared.order.as_mut().expect("as the units");
            order.store_reads(lane, place, bytes, warp.place, group)?;
            units.stores.push(Store {
                map,
                corner,
                from: place,
                group,
                by,
            });
        }
    }
    Ok(())
}

/// `cp.async.bulk.wait_group`: the stores of all groups but the last `pending` are carried out now.
pub fn wait(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    pending: u32,
) -> Result<(), Fault> {
    let units = block.units.as_mut().expect("checked by the caller");
    let mut read_all = u32::MAX;
    for lane in lanes_of(mask) {
        let thread = (warp.index * 32 + lane) as u32;
        let mine = |store: &Store| store.by.thread == thread && store.by.block == block.index;
        let done = warp.stores[lane].saturating_sub(pending);
        let mut kept = Vec::new();
        for store in std::mem::take(&mut units.stores) {
            if mine(&store) && store.group <= done {
                carry_out(context, &mut block.shared, &mut block.traffic, &store)?;
            } else {
                kept.push(store);
            }
        }
        units.stores = kept;
        if warp.stores[lane] > 0 {
            read_all = read_all.min(done);
        }
    }
    if read_all != u32::MAX {
        let order = block.shared.order.as_mut().expect("as the units");
        order.stores_read(warp.place, read_all);
    }
    Ok(())
}

/// Rows of a box: where each begins in the box, and how much of it lies in the tensor, from which coordinate on.
fn rows<E>(
    map: &TensorMap,
    corner: &[i32],
    mut visit: impl FnMut(u64, Option<(u64, u64, u64)>) -> Result<(), E>,
) -> Result<(), E> {
    let inner = u64::from(map.inner_bytes());
    let count: u32 = map.box_dims[1..].iter().product();
    // The part of the innermost dimension that lies inside.
    let first = i64::from(corner[0]).max(0);
    let last = (i64::from(corner[0]) + i64::from(map.box_dims[0])).min(map.dims[0] as i64);
    for row in 0..count {
        let (mut rest, mut address, mut inside) = (row, map.address, first < last);
        let outer = corner[1..].iter().zip(&map.box_dims[1..]);
        let of_tensor = map.dims[1..].iter().zip(&map.strides);
        for ((&first, &side), (&dim, &stride)) in outer.zip(of_tensor) {
            let coordinate = i64::from(first) + i64::from(rest % side);
            rest /= side;
            if coordinate < 0 || coordinate >= dim as i64 {
                inside = false;
            } else {
                address += coordinate as u64 * stride;
            }
        }
        let element = u64::from(map.element_bytes);
        let part = inside.then(|| {
            let skipped = (first - i64::from(corner[0])) as u64 * element;
            let bytes = (last - first) as u64 * element;
            (address + first as u64 * element, skipped, bytes)
        });
        visit(u64::from(row) * inner, part)?;
    }
    Ok(())
}

/// Copies a row's bytes between a buffer and its permuted place in shared memory.
fn permuted(
    at: u64,
    bytes: usize,
    map: &TensorMap,
    mut move_piece: impl FnMut(usize, std::ops::Range<usize>),
) {
    for first in (0..bytes).step_by(16) {
        let place = swizzled(at + first as u64, map.swizzle) as usize;
        move_piece(place, first..(first + 16).min(bytes));
    }
}

/// Reads device memory and writes shared memory.
fn arrive(context: &Context, block: &mut Block, load: &Load) -> Result<(), Fault> {
    let Issued { lane, me, .. } = load.by;
    let piece = context.kernel.global_piece;
    let inner = load.map.inner_bytes() as usize;
    let mut row_bytes = vec![0u8; inner];
    let (shared, traffic) = (&mut block.shared, &mut block.traffic);
    rows(&load.map, &load.corner, |offset, part| {
        row_bytes.fill(0);
        if let Some((address, skipped, bytes)) = part {
            let place = context.memory.locate(lane, address, bytes as usize)?;
            if context.options.checks {
                let whole = bytes as usize / piece * piece;
                place.check_read(lane, address, whole, piece, me)?;
            }
            place.read(&mut row_bytes[skipped as usize..][..bytes as usize]);
            traffic.global_read += if load.fetched { bytes } else { 0 };
        }
        permuted(load.to + offset, inner, &load.map, |place, part| {
            shared.put(place, &row_bytes[part]);
        });
        traffic.shared_written += inner as u64;
        Ok(())
    })
}

/// Reads shared memory and writes device memory.
fn carry_out(
    context: &Context,
    shared: &mut Shared,
    traffic: &mut Traffic,
    store: &Store,
) -> Result<(), Fault> {
    let Issued { lane, me, .. } = store.by;
    let piece = context.kernel.global_piece;
    let inner = store.map.inner_bytes() as usize;
    let mut row_bytes = vec![0u8; inner];
    rows(&store.map, &store.corner, |offset, part| {
        permuted(store.from + offset, inner, &store.map, |place, part| {
            let count = part.len();
            row_bytes[part].copy_from_slice(shared.bytes(place, count));
        });
        traffic.shared_read += inner as u64;
        let Some((address, skipped, bytes)) = part else {
            return Ok(());
        };
        let place = context.memory.locate(lane, address, bytes as usize)?;
        if context.options.checks {
            let whole = bytes as usize / piece * piece;
            place.check_write(lane, address, whole, piece, me)?;
        }
        place.mark_written(bytes as usize);
        for (i, &byte) in row_bytes[skipped as usize..][..bytes as usize]
            .iter()
            .enumerate()
        {
            place.store(i, 1, byte.into());
        }
        traffic.global_written += bytes;
        Ok(())
    })
}

/// Lets copies arrive: all of a random choice, or (`one`) a single one. Whether there was any.
pub fn deliver(context: &Context, block: &mut Block, one: bool) -> Result<bool, Box<Finding>> {
    let mut any = false;
    loop {
        let units = block.units.as_mut().expect("checked by the caller");
        let count = units.loads.len();
        if count == 0 || (!one || any) && units.random.next().is_multiple_of(3) {
            return Ok(any);
        }
        if one && any {
            return Ok(true);
        }
        any = true;
        let chosen = (units.random.next() % count as u64) as usize;
        let load = units.loads.swap_remove(chosen);
        let found = |fault: Fault| {
            context.finding(
                load.by.block,
                Some(load.by.at),
                Some(load.by.thread),
                fault.1,
            )
        };
        arrive(context, block, &load).map_err(found)?;
        let units = block.units.as_mut().expect("checked by the caller");
        let order = block.shared.order.as_ref().expect("as the units");
        let bytes = load.map.box_bytes();
        let delivered = (units.barriers).deliver(load.barrier, load.phase, bytes, order);
        delivered.map_err(|problem| found(wrong(load.by.lane, problem)))?;
        block.epoch = next_epoch(block.epoch);
    }
}
