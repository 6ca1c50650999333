//! Device memory: allocations far apart, so that an address past the end of one is never inside another.

use super::shadow::{self, Stamp, clash_fault};
use crate::finding::{Fault, Space, out_of_bounds, uninitialised};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// An allocation's number is in the upper bits of its addresses.
const SHIFT: u32 = 40;
const OFFSET: u64 = (1 << SHIFT) - 1;

/// The address is in no allocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes at {address:#x} are outside of device memory")]
pub struct OutsideMemory {
    pub address: u64,
    pub bytes: usize,
}

/// The memory of a device. Kernels of one launch share it; the host changes it between launches.
#[derive(Default)]
pub struct Memory {
    allocations: Vec<Option<Allocation>>,
    launches: AtomicU32,
}

struct Allocation {
    bytes: usize,
    /// Atomic, because a kernel that races must not be undefined behaviour here.
    words: Box<[AtomicU64]>,
    /// One bit a byte.
    written: Box<[AtomicU8]>,
    /// Writer and readers of each piece, by the piece's size (1, 2, 4 bytes).
    accesses: [OnceLock<Box<[[AtomicU64; 2]]>>; 3],
}

/// Zeros that the system hands out page by page when they are first touched.
fn zeroed<T>(count: usize) -> Box<[T]> {
    let layout = Layout::array::<T>(count).expect("fits in memory");
    if layout.size() == 0 {
        return Box::new([]);
    }
    // SAFETY: used with atomics and arrays of atomics only, for which zeros are a value; the layout is the slice's.
    unsafe {
        let pointer = alloc_zeroed(layout).cast::<T>();
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer, count))
    }
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    /// `bytes` bytes that nobody has written, aligned like CUDA's to 256 bytes.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        self.allocations.push(Some(Allocation {
            bytes,
            words: zeroed(bytes.div_ceil(8)),
            written: zeroed(bytes.div_ceil(8)),
            accesses: Default::default(),
        }));
        (self.allocations.len() as u64) << SHIFT
    }

    /// The address is never used again, so that a late access is noticed.
    pub fn release(&mut self, address: u64) {
        if let Some(slot) = self.slot(address) {
            self.allocations[slot] = None;
        }
    }

    fn slot(&self, address: u64) -> Option<usize> {
        let slot = ((address >> SHIFT) as usize).checked_sub(1)?;
        (slot < self.allocations.len()).then_some(slot)
    }

    fn range(&self, address: u64, bytes: usize) -> Result<(&Allocation, usize), OutsideMemory> {
        let offset = (address & OFFSET) as usize;
        let allocation = self
            .slot(address)
            .and_then(|slot| self.allocations[slot].as_ref());
        (allocation.filter(|a| offset + bytes <= a.bytes))
            .map(|a| (a, offset))
            .ok_or(OutsideMemory { address, bytes })
    }

    /// The host writes.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), OutsideMemory> {
        let (allocation, offset) = self.range(address, bytes.len())?;
        for (i, &byte) in bytes.iter().enumerate() {
            allocation.byte(offset + i).store(byte, Relaxed);
        }
        allocation.mark_all(offset, bytes.len());
        Ok(())
    }

    /// The host reads.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), OutsideMemory> {
        let (allocation, offset) = self.range(address, bytes.len())?;
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = allocation.byte(offset + i).load(Relaxed);
        }
        Ok(())
    }

    pub fn fill(&self, address: u64, value: u8, bytes: usize) -> Result<(), OutsideMemory> {
        let (allocation, offset) = self.range(address, bytes)?;
        for i in 0..bytes {
            allocation.byte(offset + i).store(value, Relaxed);
        }
        allocation.mark_all(offset, bytes);
        Ok(())
    }

    /// Copies within the device; what nobody wrote stays so.
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), OutsideMemory> {
        let (source, start) = self.range(from, bytes)?;
        let (target, offset) = self.range(to, bytes)?;
        let moved: Vec<(u8, bool)> = (start..start + bytes)
            .map(|i| (source.byte(i).load(Relaxed), source.is_written(i)))
            .collect();
        for (i, (byte, written)) in moved.into_iter().enumerate() {
            target.byte(offset + i).store(byte, Relaxed);
            target.set_written(offset + i, written);
        }
        Ok(())
    }

    /// A number for the next launch, which no access in the shadow memory has.
    pub(crate) fn begin_launch(&self) -> u32 {
        let count = self.launches.fetch_add(1, Relaxed);
        let number = count % shadow::MAX_LAUNCH + 1;
        if number == 1 && count > 0 {
            for allocation in self.allocations.iter().flatten() {
                for cells in allocation.accesses.iter().filter_map(OnceLock::get) {
                    for cell in cells.iter().flatten() {
                        cell.store(0, Relaxed);
                    }
                }
            }
        }
        number
    }

    #[inline(always)]
    pub(crate) fn locate(
        &self,
        lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<Place<'_>, Fault> {
        let slot = ((address >> SHIFT) as usize).wrapping_sub(1);
        let offset = (address & OFFSET) as usize;
        if let Some(Some(allocation)) = self.allocations.get(slot)
            && offset + bytes <= allocation.bytes
        {
            return Ok(Place { allocation, offset });
        }
        self.outside(lane, address, bytes)
    }

    #[cold]
    fn outside<T>(&self, lane: usize, address: u64, bytes: usize) -> Result<T, Fault> {
        // Just before a buffer is a huge offset from the one before it.
        let near = |slot: usize| self.allocations.get(slot).and_then(Option::as_ref);
        let slot = (address >> SHIFT) as usize;
        let detail = match (slot.checked_sub(1).and_then(near), near(slot)) {
            (_, Some(next)) if address & OFFSET > OFFSET / 2 => format!(
                "{} bytes before allocation {}, which has {} bytes",
                OFFSET + 1 - (address & OFFSET),
                slot + 1,
                next.bytes
            ),
            (Some(this), _) => format!(
                "byte {} of allocation {slot}, which has {} bytes",
                address & OFFSET,
                this.bytes
            ),
            _ if slot
                .checked_sub(1)
                .is_some_and(|i| i < self.allocations.len()) =>
            {
                format!("allocation {slot} was released")
            }
            _ => "no allocation is there".to_string(),
        };
        out_of_bounds(lane, Space::Global, address, bytes, detail)
    }
}

/// A checked range of an allocation.
pub(crate) struct Place<'a> {
    allocation: &'a Allocation,
    offset: usize,
}

impl Allocation {
    #[inline(always)]
    fn byte(&self, offset: usize) -> &AtomicU8 {
        debug_assert!(offset < self.bytes);
        // SAFETY: the offset is below `bytes` (all callers check the range), and words cover them.
        unsafe { &*self.words.as_ptr().cast::<AtomicU8>().add(offset) }
    }

    fn is_written(&self, offset: usize) -> bool {
        self.written[offset / 8].load(Relaxed) >> (offset % 8) & 1 != 0
    }

    fn set_written(&self, offset: usize, written: bool) {
        let bit = 1 << (offset % 8);
        if written {
            self.written[offset / 8].fetch_or(bit, Relaxed);
        } else {
            self.written[offset / 8].fetch_and(!bit, Relaxed);
        }
    }

    fn mark_all(&self, offset: usize, bytes: usize) {
        (offset..offset + bytes).for_each(|i| self.set_written(i, true));
    }

    fn cells(&self, piece: usize) -> &[[AtomicU64; 2]] {
        self.accesses[piece.trailing_zeros() as usize]
            .get_or_init(|| zeroed(self.bytes.div_ceil(piece)))
    }
}

impl Place<'_> {
    /// Up to eight bytes from `at` on, where the address is aligned to `bytes`.
    #[inline(always)]
    pub fn load(&self, at: usize, bytes: usize) -> u64 {
        let pointer = self.allocation.byte(self.offset + at);
        // SAFETY: inside the allocation (`locate`), aligned (the caller checked), and every byte is atomic.
        unsafe {
            let pointer: *const AtomicU8 = pointer;
            match bytes {
                1 => u64::from((*pointer).load(Relaxed)),
                2 => u64::from((*pointer.cast::<AtomicU16>()).load(Relaxed)),
                4 => u64::from((*pointer.cast::<AtomicU32>()).load(Relaxed)),
                _ => (*pointer.cast::<AtomicU64>()).load(Relaxed),
            }
        }
    }

    /// The bytes from its beginning on: whole aligned words where there are such.
    #[inline(always)]
    pub fn read(&self, to: &mut [u8]) {
        let whole = if self.offset.is_multiple_of(8) {
            to.len() / 8 * 8
        } else {
            0
        };
        for (i, word) in to[..whole].chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.load(8 * i, 8).to_le_bytes());
        }
        for (i, byte) in to.iter_mut().enumerate().skip(whole) {
            *byte = self.load(i, 1) as u8;
        }
    }

    #[inline(always)]
    pub fn store(&self, at: usize, bytes: usize, value: u64) {
        let pointer = self.allocation.byte(self.offset + at);
        // SAFETY: as in `load`.
        unsafe {
            let pointer: *const AtomicU8 = pointer;
            match bytes {
                1 => (*pointer).store(value as u8, Relaxed),
                2 => (*pointer.cast::<AtomicU16>()).store(value as u16, Relaxed),
                4 => (*pointer.cast::<AtomicU32>()).store(value as u32, Relaxed),
                _ => (*pointer.cast::<AtomicU64>()).store(value, Relaxed),
            }
        }
    }

    /// Changes a value of four or eight bytes at once; the old one.
    pub fn update(&self, bytes: usize, change: impl Fn(u64) -> u64) -> u64 {
        let pointer: *const AtomicU8 = self.allocation.byte(self.offset);
        // SAFETY: as in `load`.
        unsafe {
            if bytes == 4 {
                let word = &*pointer.cast::<AtomicU32>();
                let old =
                    word.fetch_update(Relaxed, Relaxed, |v| Some(change(u64::from(v)) as u32));
                u64::from(old.unwrap_or_else(|v| v))
            } else {
                let word = &*pointer.cast::<AtomicU64>();
                word.fetch_update(Relaxed, Relaxed, |v| Some(change(v)))
                    .unwrap_or_else(|v| v)
            }
        }
    }

    #[inline(always)]
    pub fn check_read(
        &self,
        lane: usize,
        address: u64,
        bytes: usize,
        piece: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        for at in (0..bytes).step_by(8) {
            let (offset, count) = (self.offset + at, (bytes - at).min(8));
            let mask = (0xff >> (8 - count)) << (offset % 8);
            let written = self.allocation.written[offset / 8].load(Relaxed);
            if written & mask as u8 != mask as u8 {
                let first = (0..count)
                    .find(|&i| !self.allocation.is_written(offset + i))
                    .unwrap_or(0);
                return uninitialised(lane, Space::Global, address + (at + first) as u64);
            }
        }
        let first = self.offset / piece;
        for (i, cell) in self.allocation.cells(piece)[first..first + bytes / piece]
            .iter()
            .enumerate()
        {
            if let Some(clash) = shadow::read_clash(cell[0].load(Relaxed), me) {
                return clash_fault(lane, Space::Global, address + (i * piece) as u64, clash);
            }
            let readers = cell[1].load(Relaxed);
            let with_me = shadow::add_reader(readers, me);
            if with_me != readers {
                // Another block may have come between: then both have read.
                let came_between = cell[1].swap(with_me, Relaxed);
                if came_between != readers {
                    cell[1].store(shadow::add_reader(came_between, with_me), Relaxed);
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    pub fn check_write(
        &self,
        lane: usize,
        address: u64,
        bytes: usize,
        piece: usize,
        me: Stamp,
    ) -> Result<(), Fault> {
        let first = self.offset / piece;
        for (i, cell) in self.allocation.cells(piece)[first..first + bytes / piece]
            .iter()
            .enumerate()
        {
            let writer = cell[0].swap(me, Relaxed);
            if let Some(clash) = shadow::write_clash(writer, cell[1].load(Relaxed), me) {
                return clash_fault(lane, Space::Global, address + (i * piece) as u64, clash);
            }
        }
        self.mark_written(bytes);
        Ok(())
    }

    #[inline(always)]
    pub fn mark_written(&self, bytes: usize) {
        for at in (0..bytes).step_by(8) {
            let (offset, count) = (self.offset + at, (bytes - at).min(8));
            let mask = ((0xff >> (8 - count)) << (offset % 8)) as u8;
            let written = &self.allocation.written[offset / 8];
            if written.load(Relaxed) & mask != mask {
                written.fetch_or(mask, Relaxed);
            }
        }
    }
}
