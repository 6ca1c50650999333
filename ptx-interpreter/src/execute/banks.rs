//! Conflicts of shared memory's banks.

use crate::machine::{FULL, WideLanes, lanes_of};

/// Further passes that the banks need: 32 of four bytes; wide accesses go by halves and quarters of a warp.
pub fn conflicts(addresses: &WideLanes, mask: u32, bytes: usize) -> u64 {
    let group = (128 / bytes.max(4)).min(32);
    (0..32 / group)
        .map(|g| {
            let lanes = lanes_of(mask & (FULL >> (32 - group)) << (g * group));
            passes(lanes.map(|lane| addresses[lane]), bytes).saturating_sub(1)
        })
        .sum()
}

/// How many different words lie in the busiest bank.
pub fn passes(addresses: impl Iterator<Item = u64>, bytes: usize) -> u64 {
    let mut words = [[u64::MAX; 32]; 32];
    let mut counts = [0usize; 32];
    for address in addresses {
        for word in address / 4..(address + bytes as u64).div_ceil(4) {
            let bank = word as usize % 32;
            if !words[bank][..counts[bank]].contains(&word) && counts[bank] < 32 {
                words[bank][counts[bank]] = word;
                counts[bank] += 1;
            }
        }
    }
    counts.into_iter().max().unwrap_or(0) as u64
}
