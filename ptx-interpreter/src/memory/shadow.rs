//! Who wrote and who read each piece of memory last: what races are found with.
//!
//! A piece is as large as a kernel's narrowest access, so that every access covers whole pieces. Two accesses of one
//! block conflict when no barrier lies between them; of one warp, when neither a barrier nor a `bar.warp.sync` does.

use crate::finding::{Conflict, Fault, Problem, Space, fault};

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

/// What is left of a stamp in shared memory: barrier interval, interval of the warp, thread; and the flags, further down.
pub type BlockStamp = u32;
const WARPS_IN_BLOCK: BlockStamp = 1 << 30;
const LANES_IN_BLOCK: BlockStamp = 1 << 31;
pub const PENDING_IN_BLOCK: BlockStamp = LANES_IN_BLOCK;
const EPOCH_IN_BLOCK: BlockStamp = EPOCH as BlockStamp;
const SUB_IN_BLOCK: BlockStamp = SUB as BlockStamp;
const LANE: BlockStamp = 31;
const WARP: BlockStamp = THREAD as BlockStamp & !LANE;

/// Launch and block are cut off, where the flags are then.
#[inline(always)]
pub fn in_block(stamp: Stamp) -> BlockStamp {
    stamp as BlockStamp & !(WARPS_IN_BLOCK | LANES_IN_BLOCK)
}

/// The number of the barrier interval after this one: never 0, so that no stamp is.
pub fn next_epoch(epoch: u32) -> u32 {
    epoch % (EPOCH >> EPOCH_SHIFT) as u32 + 1
}

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

pub fn sub_of(stamp: Stamp) -> u32 {
    ((stamp & SUB) >> SUB_SHIFT) as u32
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

/// Whether a piece of shared memory was written, in an earlier interval, and no copy to it is under way.
#[inline(always)]
pub fn long_written(writer: BlockStamp, me: BlockStamp) -> bool {
    writer != 0 && writer & PENDING_IN_BLOCK == 0 && (writer ^ me) & EPOCH_IN_BLOCK != 0
}

/// Whether a piece was neither written nor read in this interval, and no copy to it is under way.
#[inline(always)]
pub fn long_untouched(writer: BlockStamp, readers: BlockStamp, me: BlockStamp) -> bool {
    writer & PENDING_IN_BLOCK == 0
        && (writer ^ me) & EPOCH_IN_BLOCK != 0
        && (readers ^ me) & EPOCH_IN_BLOCK != 0
}

/// [`read_clash`] in shared memory.
pub fn read_clash_in_block(writer: BlockStamp, me: BlockStamp) -> Option<Clash> {
    let flags = if writer & PENDING_IN_BLOCK != 0 {
        PENDING
    } else {
        0
    };
    read_clash(wide(writer, flags), wide(me, 0))
}

/// [`write_clash`] in shared memory.
pub fn write_clash_in_block(
    writer: BlockStamp,
    readers: BlockStamp,
    me: BlockStamp,
) -> Option<Clash> {
    let pending = if writer & PENDING_IN_BLOCK != 0 {
        PENDING
    } else {
        0
    };
    let warps = if readers & WARPS_IN_BLOCK != 0 {
        WARPS
    } else {
        0
    };
    let lanes = if readers & LANES_IN_BLOCK != 0 {
        LANES
    } else {
        0
    };
    write_clash(
        wide(writer, pending),
        wide(readers, warps | lanes),
        wide(me, 0),
    )
}

fn wide(stamp: BlockStamp, flags: u64) -> Stamp {
    u64::from(in_block(stamp.into())) | flags
}

/// [`add_reader`] in shared memory, without a branch.
#[inline(always)]
pub fn add_reader_in_block(readers: BlockStamp, me: BlockStamp) -> BlockStamp {
    let differs = readers ^ me;
    let kept = readers & WARPS_IN_BLOCK;
    let lanes = if differs & LANE != 0 {
        LANES_IN_BLOCK
    } else {
        readers & LANES_IN_BLOCK
    };
    let lanes = if differs & SUB_IN_BLOCK != 0 {
        0
    } else {
        lanes
    };
    let flags = if differs & WARP != 0 {
        WARPS_IN_BLOCK
    } else {
        kept | lanes
    };
    me | if differs & EPOCH_IN_BLOCK != 0 {
        0
    } else {
        flags
    }
}

#[cold]
pub fn clash_fault(lane: usize, space: Space, address: u64, clash: Clash) -> Result<(), Fault> {
    fault(
        lane,
        match clash {
            Clash::Thread(what, other) => Problem::Race {
                space,
                address,
                what,
                other,
            },
            Clash::Block(what, other) => Problem::BlockRace {
                address,
                what,
                other,
            },
            Clash::Pending(other) => Problem::PendingCopy { address, other },
        },
    )
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

    #[test]
    fn stamps_of_shared_memory_say_what_the_wide_ones_do() {
        let places = || {
            let numbers = (0..3).flat_map(|epoch| (0..3).map(move |sub| (epoch + 1, sub)));
            numbers.flat_map(|(epoch, sub)| [3, 4, 40, 72].map(|t| stamp(0, 0, epoch, sub, t)))
        };
        for first in places() {
            for second in places() {
                for third in places() {
                    let wide = add_reader(add_reader(first, second), third);
                    let [a, b, c] = [first, second, third].map(in_block);
                    let narrow = add_reader_in_block(add_reader_in_block(a, b), c);
                    for me in places() {
                        let want = write_clash(third, wide, me);
                        let got = write_clash_in_block(c, narrow, in_block(me));
                        assert_eq!(got, want);
                        if want.is_some() {
                            assert!(!long_untouched(c, narrow, in_block(me)));
                        }
                    }
                }
                let (writer, me) = (in_block(first), in_block(second));
                let clash = read_clash(first, second);
                assert_eq!(read_clash_in_block(writer, me), clash);
                assert!(clash.is_none() || !long_written(writer, me));
            }
        }
        assert_eq!(next_epoch(0x3fff), 1);
    }
}
