//! A kernel, decoded: what machines execute.

use super::instruction::Instruction;
use super::operand::Reg;

/// A kernel of a module, ready to be launched.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) code: Vec<Instruction>,
    /// Texts of the opcodes that occur.
    pub(crate) opcodes: Vec<String>,
    pub(crate) rows: usize,
    pub(crate) predicates: usize,
    /// Rows that do not change during a launch.
    pub(crate) presets: Vec<(Reg, Preset)>,
    pub(crate) parameter_bytes: usize,
    /// Blocks of a cluster, where the kernel says so (`.reqnctapercluster`).
    pub(crate) cluster: Option<[u32; 3]>,
    /// Static shared memory; what the launch asks for follows it.
    pub(crate) shared_bytes: usize,
    pub(crate) local_bytes: usize,
    /// The narrowest access to shared and to device memory: 1, 2 or 4 bytes.
    pub(crate) shared_piece: usize,
    pub(crate) global_piece: usize,
    /// Whether it has barriers in shared memory, or copies and products that run on their own.
    pub(crate) hopper: bool,
    /// Per instruction: rows that are sums of products and that it reads, or writes; empty without products.
    pub(crate) touches: Vec<Box<[(u32, bool)]>>,
}

/// What a row holds from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    Constant(u64),
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    /// `%clusterid`, `%nclusterid`, `%cluster_ctaid`, `%cluster_nctaid`
    Cluster(u8),
    Clusters(u8),
    BlockInCluster(u8),
    BlocksInCluster(u8),
    /// `%cluster_ctarank`, `%cluster_nctarank`
    Rank,
    Ranks,
    Lane,
    Warp,
    Warps,
    LaneMask(LaneMask),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneMask {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Addresses of other spaces as generic ones. The lower half of a shared address is not itself: mistaking one for the
/// other must show.
pub const SHARED_WINDOW: u64 = 0x7f11_5600_0000_0000 | 0x5600_0000;
pub const LOCAL_WINDOW: u64 = 0x7f22_4700_0000_0000;
pub const PARAM_WINDOW: u64 = 0x7f33_3800_0000_0000;
