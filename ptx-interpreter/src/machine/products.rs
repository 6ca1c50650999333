//! Matrix products under way: which sums they use, and whether the warps of a warpgroup multiply the same.

use crate::finding::AsyncProblem;
use std::collections::VecDeque;

/// Warps of a warpgroup.
pub const WARPS: usize = 4;

/// A warp's products that were not waited for, by the rows of its register file that they add to.
#[derive(Default)]
pub struct Running {
    /// Group of the product that uses a row; 0: none.
    group: Vec<u32>,
    /// Whether a row was written after the last `wgmma.fence`.
    unfenced: Vec<bool>,
    committed: u32,
    any: bool,
}

impl Running {
    pub fn start(&mut self, rows: usize) {
        self.group.clear();
        self.group.resize(rows, 0);
        self.unfenced.clear();
        // What registers held before the first fence counts as written.
        self.unfenced.resize(rows, true);
        (self.committed, self.any) = (0, false);
    }

    /// An instruction reads or writes rows that are sums of products.
    pub fn touch(&mut self, touches: &[(u32, bool)]) -> Result<(), AsyncProblem> {
        for &(row, written) in touches {
            if self.any && self.group[row as usize] != 0 {
                return Err(AsyncProblem::SumsInUse);
            }
            if written {
                self.unfenced[row as usize] = true;
            }
        }
        Ok(())
    }

    pub fn fence(&mut self) {
        self.unfenced.fill(false);
    }

    pub fn commit(&mut self) {
        self.committed += 1;
    }

    /// All groups but the last `pending` are done: the number of the last such group.
    pub fn wait(&mut self, pending: u32) -> u32 {
        let done = self.committed.saturating_sub(pending);
        self.any = false;
        for group in &mut self.group {
            if *group <= done {
                *group = 0;
            }
            self.any |= *group != 0;
        }
        done
    }

    pub fn begin(&mut self, rows: impl Iterator<Item = usize>) -> Result<u32, AsyncProblem> {
        let group = self.committed + 1;
        for row in rows {
            if self.unfenced[row] {
                return Err(AsyncProblem::NoProductFence);
            }
            self.group[row] = group;
        }
        self.any = true;
        Ok(group)
    }
}

/// What the warps of each warpgroup have multiplied: all four the same.
#[derive(Default)]
pub struct Warpgroups(Vec<Warpgroup>);

#[derive(Default)]
struct Warpgroup {
    /// How many products each warp has begun, and those that some warp has yet to begin.
    begun: [usize; WARPS],
    kept: VecDeque<(u64, u64, usize)>,
}

impl Warpgroups {
    pub fn check(&mut self, warp: usize, product: (u64, u64, usize)) -> Result<(), AsyncProblem> {
        if self.0.len() <= warp / WARPS {
            self.0.resize_with(warp / WARPS + 1, Default::default);
        }
        let group = &mut self.0[warp / WARPS];
        let first = *group.begun.iter().min().expect("four of them");
        let mine = group.begun[warp % WARPS] - first;
        match group.kept.get(mine) {
            Some(other) if *other != product => return Err(AsyncProblem::ProductsDiffer),
            Some(_) => {}
            None => group.kept.push_back(product),
        }
        group.begun[warp % WARPS] += 1;
        if *group.begun.iter().min().expect("four of them") > first {
            group.kept.pop_front();
        }
        Ok(())
    }
}
