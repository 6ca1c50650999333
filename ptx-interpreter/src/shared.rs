//! A block's shared memory.

use crate::finding::{Fault, Problem, Space, fault};
use crate::memory::clash_fault;
use crate::shadow::{self, PENDING, Stamp};

pub struct Shared {
    pub bytes: Vec<u8>,
    piece: usize,
    checked: bool,
    /// Writer and readers of each piece.
    cells: Vec<[Stamp; 2]>,
}

impl Shared {
    pub fn new(bytes: usize, piece: usize, checked: bool) -> Self {
        Self {
            // What was there before is not zero on a GPU either.
            bytes: vec![0xff; bytes],
            piece,
            checked,
            cells: vec![[0; 2]; if checked { bytes.div_ceil(piece) } else { 0 }],
        }
    }

    /// For the next block.
    pub fn clear(&mut self) {
        self.bytes.fill(0xff);
        self.cells.fill([0; 2]);
    }

    #[inline(always)]
    pub fn check_range(&self, lane: usize, address: u64, bytes: usize) -> Result<(), Fault> {
        if address as usize + bytes <= self.bytes.len() {
            return Ok(());
        }
        fault(
            lane,
            Problem::OutOfBounds {
                space: Space::Shared,
                address,
                bytes,
                detail: format!("the block has {} bytes", self.bytes.len()),
            },
        )
    }

    #[inline(always)]
    pub fn check_read(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        if !self.checked {
            return Ok(());
        }
        let first = address as usize / self.piece;
        for (i, cell) in self.cells[first..first + bytes / self.piece]
            .iter_mut()
            .enumerate()
        {
            let place = address + (i * self.piece) as u64;
            if cell[0] == 0 {
                return fault(
                    lane,
                    Problem::Uninitialised {
                        space: Space::Shared,
                        address: place,
                    },
                );
            }
            if let Some(clash) = shadow::read_clash(cell[0], me) {
                return clash_fault(lane, Space::Shared, place, clash);
            }
            cell[1] = shadow::add_reader(cell[1], me);
        }
        Ok(())
    }

    #[inline(always)]
    fn stamp_write(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
        mark: u64,
    ) -> Result<(), Fault> {
        if !self.checked {
            return Ok(());
        }
        let first = address as usize / self.piece;
        for (i, cell) in self.cells[first..first + bytes / self.piece]
            .iter_mut()
            .enumerate()
        {
            if let Some(clash) = shadow::write_clash(cell[0], cell[1], me) {
                return clash_fault(
                    lane,
                    Space::Shared,
                    address + (i * self.piece) as u64,
                    clash,
                );
            }
            cell[0] = me | mark;
        }
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
    pub fn begin_copy(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        self.stamp_write(lane, address, bytes, me, PENDING)
    }

    /// It was waited for by its thread, which writes as of now.
    pub fn end_copy(&mut self, address: u64, data: &[u8], me: Stamp) {
        self.bytes[address as usize..address as usize + data.len()].copy_from_slice(data);
        if self.checked {
            let first = address as usize / self.piece;
            for cell in &mut self.cells[first..first + data.len() / self.piece] {
                cell[0] = me;
            }
        }
    }

    #[inline(always)]
    pub fn load(&self, address: usize, bytes: usize) -> u64 {
        let part = &self.bytes[address..address + bytes];
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
