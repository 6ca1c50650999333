//! What a launch is asked to do.

use crate::number::matrix::Sums;

/// Blocks in a grid, or threads in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dim {
    pub x: u32,
    pub y: u32,
    pub z: u32,
}

impl Dim {
    pub fn count(self) -> u64 {
        u64::from(self.x) * u64::from(self.y) * u64::from(self.z)
    }
}

impl From<u32> for Dim {
    fn from(x: u32) -> Self {
        Self { x, y: 1, z: 1 }
    }
}

/// How a launch is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides in which order warps and blocks run.
    pub seed: u64,
    /// Blocks of a cluster, as an attribute of the launch says. `None`: as the kernel says (`.reqnctapercluster`), or one.
    pub cluster: Option<Dim>,
    /// How sums inside an `mma` are rounded.
    pub sums: Sums,
    /// Whether races and reads of what nobody wrote are looked for. Bounds and alignment always are.
    pub checks: bool,
    /// Blocks, or clusters, that a worker runs by turns: more than one for kernels whose blocks wait for one another.
    pub resident: usize,
    /// A warp gives way after so many instructions.
    pub slice: u64,
    /// A warp that executes more has no end.
    pub limit: u64,
    /// Whether conflicts of shared memory's banks are counted.
    pub bank_conflicts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            cluster: None,
            sums: Sums::Rounded,
            checks: true,
            resident: 1,
            slice: 1 << 16,
            limit: 1 << 36,
            bank_conflicts: false,
        }
    }
}
