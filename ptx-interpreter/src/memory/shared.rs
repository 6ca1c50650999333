//! A block's shared memory, or that of all blocks of a cluster, one after the other.
//!
//! Instructions name addresses; `own` and `of_cluster` make places of them, which all else here is told.
//!
//! Stamps of accesses are the lower half of [`super::shadow`]'s: within a block, launch and block say nothing. A thread's are checked
//! one after the other, those of neighbouring lanes at neighbouring addresses in a loop that the compiler turns into vectors.

use super::cluster::{Layout, unmapped};
use super::order::Order;
use super::shadow::{self, BlockStamp, PENDING_IN_BLOCK, Stamp, clash_fault};
use crate::finding::{AsyncProblem, Fault, Space, out_of_bounds, uninitialised, wrong};

pub struct Shared {
    bytes: Vec<u8>,
    layout: Layout,
    /// Where the memory of the block begins whose warp is at work.
    base: u64,
    /// Bytes of a piece are so many bits' worth.
    piece_shift: u32,
    checked: bool,
    /// The last writer of each piece; 0: nobody.
    writers: Vec<BlockStamp>,
    readers: Vec<BlockStamp>,
    /// Instead of those two, for kernels whose warps are ordered by more than barriers of all.
    pub order: Option<Box<Order>>,
}

impl Shared {
    pub fn new(bytes: usize, piece: usize, checked: bool) -> Self {
        let pieces = if checked { bytes.div_ceil(piece) } else { 0 };
        Self {
            // What was there before is not zero on a GPU either.
            bytes: vec![0xff; bytes],
            layout: Layout::new(1, 1, bytes),
            base: 0,
            piece_shift: piece.trailing_zeros(),
            checked,
            writers: vec![0; pieces],
            readers: vec![0; pieces],
            order: None,
        }
    }

    /// For the next block.
    pub fn clear(&mut self) {
        self.bytes.fill(0xff);
        self.writers.fill(0);
        self.readers.fill(0);
        if let Some(order) = &mut self.order {
            order.clear();
        }
    }

    /// Watched by `order` alone.
    pub fn ordered(order: Order) -> Self {
        let layout = order.layout;
        Self {
            layout,
            order: Some(Box::new(order)),
            ..Self::new(layout.all_bytes(), 4, false)
        }
    }

    /// A warp of the block with this rank is at work.
    pub fn enter(&mut self, rank: usize) {
        self.base = (rank * self.layout.apart) as u64;
        if let Some(order) = &mut self.order {
            order.rank = rank;
        }
    }

    /// Bytes that a copy brings.
    pub fn put(&mut self, address: usize, bytes: &[u8]) {
        self.bytes[address..address + bytes.len()].copy_from_slice(bytes);
    }

    /// Bytes of a block.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.layout.bytes
    }

    #[inline(always)]
    pub fn check_range(&self, lane: usize, address: u64, bytes: usize) -> Result<(), Fault> {
        if address as usize + bytes <= self.layout.bytes {
            return Ok(());
        }
        let detail = format!("the block has {} bytes", self.layout.bytes);
        out_of_bounds(lane, Space::Shared, address, bytes, detail)
    }

    /// The place of an address of the block at work, which was checked.
    #[inline(always)]
    pub fn own_place(&self, address: u64) -> u64 {
        self.base + address
    }

    /// The place of an address of the block at work (`shared::cta`).
    #[inline(always)]
    pub fn own(&self, lane: usize, address: u64, bytes: usize) -> Result<u64, Fault> {
        self.check_range(lane, address, bytes)?;
        Ok(self.own_place(address))
    }

    /// The place of an address of any block of the cluster (`shared::cluster`).
    pub fn of_cluster(&self, lane: usize, address: u64, bytes: usize) -> Result<u64, Fault> {
        let (rank, offset) = unmapped(address);
        match rank {
            Some(rank) if rank < self.layout.blocks => {
                self.check_range(lane, offset, bytes)?;
                Ok((rank * self.layout.apart) as u64 + offset)
            }
            Some(rank) => {
                let detail = format!("the cluster has no block of rank {rank}");
                out_of_bounds(lane, Space::Cluster, address, bytes, detail)
            }
            None => self.own(lane, address, bytes),
        }
    }

    /// The place of what an instruction names: by an address of `shared::cluster` or of `shared::cta`.
    pub fn place(
        &self,
        of_cluster: bool,
        lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<u64, Fault> {
        match of_cluster {
            true => self.of_cluster(lane, address, bytes),
            false => self.own(lane, address, bytes),
        }
    }

    /// The same offset in the memory of the block with this rank.
    pub fn in_block(&self, place: u64, rank: usize) -> u64 {
        place % self.layout.apart.max(1) as u64 + (rank * self.layout.apart) as u64
    }

    /// A read of `bytes` bytes by each of `lanes` lanes, one after the other in memory; `me` is the first lane's stamp.
    #[inline(always)]
    pub fn check_reads(
        &mut self,
        lane: usize,
        lanes: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        if !self.checked {
            return self.ordered_reads(lane, lanes, address, bytes, me);
        }
        let me = shadow::in_block(me);
        let first = address as usize >> self.piece_shift;
        let each = bytes >> self.piece_shift;
        let writers = &self.writers[first..first + each * lanes];
        let readers = &mut self.readers[first..first + each * lanes];
        let mut ordered = true;
        let mut stamp = me;
        if each == 1 {
            for (writer, reader) in writers.iter().zip(readers) {
                ordered &= shadow::long_written(*writer, me);
                *reader = shadow::add_reader_in_block(*reader, stamp);
                stamp += 1;
            }
        } else {
            let by_lane = writers
                .chunks_exact(each)
                .zip(readers.chunks_exact_mut(each));
            for (writers, readers) in by_lane {
                for (writer, reader) in writers.iter().zip(readers) {
                    ordered &= shadow::long_written(*writer, me);
                    *reader = shadow::add_reader_in_block(*reader, stamp);
                }
                stamp += 1;
            }
        }
        if ordered {
            return Ok(());
        }
        self.recheck_reads(lane, lanes, address, bytes, me)
    }

    /// The same, where `order` watches.
    #[cold]
    fn ordered_reads(
        &mut self,
        lane: usize,
        lanes: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        let Some(order) = &mut self.order else {
            return Ok(());
        };
        for i in 0..lanes {
            let address = address + (i * bytes) as u64;
            order.read(lane + i, address, bytes, me + i as u64)?;
        }
        Ok(())
    }

    #[cold]
    fn ordered_write(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
        mark: BlockStamp,
    ) -> Result<(), Fault> {
        match &mut self.order {
            None => Ok(()),
            Some(_) if mark != 0 => Err(wrong(lane, AsyncProblem::NotModelled("cp.async"))),
            Some(order) => order.write(lane, address, bytes, me),
        }
    }

    /// Something was written in this interval, or never.
    #[cold]
    fn recheck_reads(
        &self,
        lane: usize,
        lanes: usize,
        address: u64,
        bytes: usize,
        me: BlockStamp,
    ) -> Result<(), Fault> {
        let piece = 1 << self.piece_shift;
        for i in 0..lanes {
            for offset in (0..bytes).step_by(piece) {
                let place = address + (i * bytes + offset) as u64;
                let writer = self.writers[place as usize >> self.piece_shift];
                if writer == 0 {
                    return uninitialised(lane + i, Space::Shared, place);
                }
                if let Some(clash) = shadow::read_clash_in_block(writer, me + i as BlockStamp) {
                    return clash_fault(lane + i, Space::Shared, place, clash);
                }
            }
        }
        Ok(())
    }

    /// A write of a thread, or of its `cp.async` (`mark`).
    #[inline(always)]
    fn stamp_write(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
        mark: BlockStamp,
    ) -> Result<(), Fault> {
        if !self.checked {
            return self.ordered_write(lane, address, bytes, me, mark);
        }
        let me = shadow::in_block(me);
        let first = address as usize >> self.piece_shift;
        let each = bytes >> self.piece_shift;
        let writers = &mut self.writers[first..first + each];
        let readers = &self.readers[first..first + each];
        let mut ordered = true;
        for (writer, reader) in writers.iter().zip(readers) {
            ordered &= shadow::long_untouched(*writer, *reader, me);
        }
        if !ordered {
            for (i, (writer, reader)) in writers.iter().zip(readers).enumerate() {
                if let Some(clash) = shadow::write_clash_in_block(*writer, *reader, me) {
                    let place = address + ((i as u64) << self.piece_shift);
                    return clash_fault(lane, Space::Shared, place, clash);
                }
            }
        }
        writers.fill(me | mark);
        Ok(())
    }

    #[inline(always)]
    pub fn check_write(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        self.stamp_write(lane, address, bytes, me, 0)
    }

    /// A `cp.async` is issued: from now until it is waited for, nobody may touch the place.
    #[inline(always)]
    pub fn begin_copy(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        self.stamp_write(lane, address, bytes, me, PENDING_IN_BLOCK)
    }

    /// It was waited for by its thread, which writes as of now.
    #[inline(always)]
    pub fn end_copy(&mut self, address: u64, data: &[u8], me: Stamp) {
        self.bytes[address as usize..address as usize + data.len()].copy_from_slice(data);
        if self.checked {
            let first = address as usize >> self.piece_shift;
            self.writers[first..first + (data.len() >> self.piece_shift)]
                .fill(shadow::in_block(me));
        }
    }

    #[inline(always)]
    pub fn bytes(&self, address: usize, count: usize) -> &[u8] {
        &self.bytes[address..address + count]
    }

    #[inline(always)]
    pub fn load(&self, address: usize, bytes: usize) -> u64 {
        let part = self.bytes(address, bytes);
        match bytes {
            1 => u64::from(part[0]),
            2 => u64::from(u16::from_le_bytes([part[0], part[1]])),
            4 => u64::from(u32::from_le_bytes(part.try_into().expect("four bytes"))),
            _ => u64::from_le_bytes(part.try_into().expect("eight bytes")),
        }
    }

    #[inline(always)]
    pub fn store(&mut self, address: usize, bytes: usize, value: u64) {
        self.bytes[address..address + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }
}
