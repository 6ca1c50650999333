//! Who wrote and who read each piece of memory last: what races are found with.
//!
//! A piece is as large as a kernel's narrowest access, so that every access covers whole pieces. Two accesses of one
//! block conflict when no barrier lies between them; of one warp, when neither a barrier nor a `bar.warp.sync` does.

use crate::finding::Conflict;

/// An access: launch (11 bits), block (20), barrier interval (14), interval of the warp (6), thread (10); and flags.
pub type Stamp = u64;

const THREAD: u64 = 0x3ff;
const SUB_SHIFT: u32 = 10;
const SUB: u64 = 0x3f << SUB_SHIFT;
const EPOCH_SHIFT: u32 = 16;
const EPOCH: u64 = 0x3fff << EPOCH_SHIFT;
const BLOCK_SHIFT: u32 = 30;
const BLOCK: u64 = 0xf_ffff << BLOCK_SHIFT;
const LAUNCH_SHIFT: u32 = 50;
const LAUNCH: u64 = 0x7ff << LAUNCH_SHIFT;
/// Several blocks, warps of the block, or lanes of the warp have read.
const BLOCKS: u64 = 1 << 61;
const WARPS: u64 = 1 << 62;
const LANES: u64 = 1 << 63;
/// In a writer's stamp: a `cp.async` that was not waited for.
pub const PENDING: u64 = LANES;

pub const MAX_BLOCKS: u32 = 1 << 20;
/// Launches are told apart by a number from 1 to this.
pub const MAX_LAUNCH: u32 = 0x7ff;

pub fn stamp(launch: u32, block: u32, epoch: u32, sub: u32, thread: u32) -> Stamp {
    u64::from(launch) << LAUNCH_SHIFT
        | u64::from(block) << BLOCK_SHIFT
        | (u64::from(epoch) << EPOCH_SHIFT) & EPOCH
        | (u64::from(sub) << SUB_SHIFT) & SUB
        | u64::from(thread)
}

pub fn thread_of(stamp: Stamp) -> u32 {
    (stamp & THREAD) as u32
}

fn block_of(stamp: Stamp) -> u32 {
    ((stamp & BLOCK) >> BLOCK_SHIFT) as u32
}

/// What two accesses do to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash {
    /// With this thread of the block.
    Thread(Conflict, u32),
    /// With this other block.
    Block(Conflict, u32),
    Pending(u32),
}

pub fn same_launch(a: Stamp, b: Stamp) -> bool {
    (a ^ b) & LAUNCH == 0
}

/// Whether an earlier access by one thread is unordered with one of `me`, in the same block.
#[inline(always)]
fn unordered(earlier: Stamp, me: Stamp) -> bool {
    let differs = earlier ^ me;
    // Another barrier interval, or the same thread.
    if differs & EPOCH != 0 || differs & THREAD == 0 {
        return false;
    }
    differs & (THREAD & !31) != 0 || differs & SUB == 0
}

/// Whether `writer`, the last one, conflicts with a read of `me`.
#[inline(always)]
pub fn read_clash(writer: Stamp, me: Stamp) -> Option<Clash> {
    if !same_launch(writer, me) {
        return None;
    }
    if writer & PENDING != 0 {
        return Some(Clash::Pending(thread_of(writer)));
    }
    after_write(writer, me, Conflict::ReadAfterWrite)
}

#[inline(always)]
fn after_write(writer: Stamp, me: Stamp, conflict: Conflict) -> Option<Clash> {
    if (writer ^ me) & BLOCK != 0 {
        return Some(Clash::Block(conflict, block_of(writer)));
    }
    unordered(writer, me).then(|| Clash::Thread(conflict, thread_of(writer)))
}

/// Whether a write of `me` conflicts with the last writer or with readers.
#[inline(always)]
pub fn write_clash(writer: Stamp, readers: Stamp, me: Stamp) -> Option<Clash> {
    if same_launch(writer, me) {
        if writer & PENDING != 0 {
            return Some(Clash::Pending(thread_of(writer)));
        }
        if let Some(clash) = after_write(writer, me, Conflict::WriteAfterWrite) {
            return Some(clash);
        }
    }
    if !same_launch(readers, me) {
        return None;
    }
    let conflict = Conflict::WriteAfterRead;
    let differs = readers ^ me;
    if differs & BLOCK != 0 || readers & BLOCKS != 0 {
        return Some(Clash::Block(conflict, block_of(readers)));
    }
    if differs & EPOCH != 0 {
        return None;
    }
    let warp = differs & (THREAD & !31) != 0 || readers & WARPS != 0;
    let lane = differs & SUB == 0 && (differs & THREAD != 0 || readers & LANES != 0);
    (warp || lane).then(|| Clash::Thread(conflict, thread_of(readers)))
}

/// The readers after one more read.
#[inline(always)]
pub fn add_reader(readers: Stamp, me: Stamp) -> Stamp {
    if !same_launch(readers, me) {
        return me;
    }
    let differs = readers ^ me;
    if differs & BLOCK != 0 {
        return me | BLOCKS;
    }
    let blocks = readers & BLOCKS;
    if differs & EPOCH != 0 {
        return me | blocks;
    }
    if differs & (THREAD & !31) != 0 {
        return me | blocks | WARPS;
    }
    let warps = readers & WARPS;
    if differs & SUB != 0 {
        return me | blocks | warps;
    }
    let lanes = if differs & THREAD != 0 {
        LANES
    } else {
        readers & LANES
    };
    me | blocks | warps | lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u32, epoch: u32, sub: u32, thread: u32) -> Stamp {
        stamp(1, block, epoch, sub, thread)
    }

    #[test]
    fn a_barrier_orders_threads_and_a_warp_sync_orders_lanes() {
        let writer = at(0, 1, 0, 3);
        assert!(read_clash(writer, at(0, 1, 0, 4)).is_some());
        assert!(read_clash(writer, at(0, 2, 0, 4)).is_none());
        assert!(read_clash(writer, at(0, 1, 1, 4)).is_none());
        assert!(read_clash(writer, at(0, 1, 1, 40)).is_some());
        assert!(read_clash(writer, at(0, 1, 0, 3)).is_none());
        assert!(read_clash(writer, at(1, 2, 0, 3)).is_some());
        assert!(read_clash(writer, stamp(2, 1, 1, 0, 9)).is_none());
    }

    #[test]
    fn a_writer_meets_every_reader_of_the_interval() {
        let readers = add_reader(add_reader(0, at(0, 1, 0, 3)), at(0, 1, 0, 40));
        assert!(write_clash(0, readers, at(0, 1, 0, 40)).is_some());
        assert!(write_clash(0, readers, at(0, 2, 0, 7)).is_none());
        let alone = add_reader(0, at(0, 1, 0, 3));
        assert!(write_clash(0, alone, at(0, 1, 0, 3)).is_none());
        let blocks = add_reader(alone, at(1, 1, 0, 3));
        assert!(write_clash(0, blocks, at(1, 1, 0, 3)).is_some());
    }
}
