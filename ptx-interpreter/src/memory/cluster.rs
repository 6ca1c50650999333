//! Blocks of a cluster: their shared memory lies one block's after the other's, and their warps are counted through.

/// Bits of an offset in an address of `shared::cluster`; above them is the block's rank, plus one. Zero above them: an address of
/// `shared::cta`, which names the memory of the block that uses it.
const OFFSET_BITS: u32 = 24;
const OFFSET: u64 = (1 << OFFSET_BITS) - 1;

/// The address of `shared::cluster` that `mapa` gives.
pub fn mapped(address: u64, rank: u32) -> u64 {
    address & OFFSET | u64::from(rank + 1) << OFFSET_BITS
}

/// The rank that an address names, and the offset; no rank: that of the block that uses it.
pub fn unmapped(address: u64) -> (Option<usize>, u64) {
    let rank = (address as usize >> OFFSET_BITS).checked_sub(1);
    (rank, address & OFFSET)
}

/// What blocks of a cluster have, each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub blocks: usize,
    /// Places for warps: a multiple of the warps of a warpgroup where there is more than one block.
    pub warps: usize,
    /// Bytes of shared memory.
    pub bytes: usize,
    /// From one block's memory to the next: a multiple of what permutations of boxes repeat after.
    pub apart: usize,
}

impl Layout {
    pub fn new(blocks: usize, warps: usize, bytes: usize) -> Self {
        let alone = blocks == 1;
        Self {
            blocks,
            warps: if alone {
                warps
            } else {
                warps.next_multiple_of(4)
            },
            bytes,
            apart: if alone {
                bytes
            } else {
                bytes.next_multiple_of(1024)
            },
        }
    }

    pub fn all_warps(&self) -> usize {
        self.blocks * self.warps
    }

    pub fn all_bytes(&self) -> usize {
        self.blocks * self.apart
    }

    /// Whose memory a place is in.
    pub fn rank_of_place(&self, place: u64) -> usize {
        if self.blocks == 1 {
            0
        } else {
            place as usize / self.apart
        }
    }

    pub fn rank_of_warp(&self, warp: usize) -> usize {
        warp / self.warps
    }

    /// A place as a finding names it: in a cluster by the address that `mapa` gives.
    pub fn name(&self, place: u64) -> u64 {
        if self.blocks == 1 {
            return place;
        }
        let rank = self.rank_of_place(place);
        mapped(place - (rank * self.apart) as u64, rank as u32)
    }
}
