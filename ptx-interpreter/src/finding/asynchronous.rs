//! What is wrong with what runs on its own.

/// What a kernel did that PTX does not allow, with barriers in shared memory, copies and products that run on their own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AsyncProblem {
    #[error("there is no mbarrier at {0:#x} in shared memory")]
    NoBarrier(u32),
    #[error("the mbarrier at {address:#x} cannot be made: {detail}")]
    BarrierNotMade { address: u32, detail: String },
    #[error(
        "the mbarrier at {0:#x} is used, and no barrier or fence lies between its initialisation and this"
    )]
    BarrierNotKnown(u32),
    #[error("the mbarrier at {address:#x}: {count} arrivals where {pending} are expected")]
    TooManyArrivals {
        address: u32,
        count: u32,
        pending: u32,
    },
    #[error(
        "the mbarrier at {address:#x} completed a phase before a copy of {bytes} bytes that was to count in it: too few bytes were announced"
    )]
    WrongBytes { address: u32, bytes: u32 },
    #[error(
        "the mbarrier at {address:#x}: {bytes} bytes more have come than were announced, and no arrival is missing"
    )]
    TooManyBytes { address: u32, bytes: i64 },
    #[error("the mbarrier at {0:#x} is read or written as data")]
    BarrierAsData(u64),
    #[error(
        "{address:#x} in shared memory is used before the copy that writes it was waited for (mbarrier at {barrier:#x})"
    )]
    CopyNotAwaited { address: u64, barrier: u32 },
    #[error(
        "{address:#x} in shared memory is used by a copy or a product, and no fence.proxy.async follows the write of warp {warp}"
    )]
    NoProxyFence { address: u64, warp: usize },
    #[error(
        "{what} at {address:#x} in shared memory: nothing orders it after what warp {warp} did"
    )]
    Unordered {
        address: u64,
        what: &'static str,
        warp: usize,
    },
    #[error("{address:#x} in shared memory is overwritten while {user} of warp {warp} reads it")]
    InUse {
        address: u64,
        user: &'static str,
        warp: usize,
    },
    #[error("{0}")]
    Map(String),
    #[error("the tensor map at {0:#x} lies in device memory: fence.proxy.tensormap comes first")]
    MapNotFenced(u64),
    #[error("the operand descriptor {descriptor:#018x}: {detail}")]
    Descriptor { descriptor: u64, detail: String },
    #[error("the warps of a warpgroup execute different products")]
    ProductsDiffer,
    #[error("a register of a product that was not waited for is used")]
    SumsInUse,
    #[error("a register of a product was written after the last wgmma.fence")]
    NoProductFence,
    #[error("a thread has {has} registers and asks for {asked} the wrong way")]
    Registers { has: u32, asked: u32 },
    #[error("the block ends before a copy has been waited for")]
    EndedBeforeCopy,
    #[error(
        "the shared memory of the cluster's block of rank {rank} is used, and nothing says that this block has begun"
    )]
    OtherNotBegun { rank: usize },
    #[error("the shared memory of the cluster's block of rank {rank} is used, which has ended")]
    OtherHasEnded { rank: usize },
    #[error(
        "the cluster's block of rank {rank} ends, and nothing says that this lies before: {what}, in its shared memory"
    )]
    EndedBeforeOther { rank: usize, what: String },
    #[error("the cluster has {blocks} blocks, and {what}")]
    Cluster { blocks: usize, what: String },
    #[error("{0}")]
    ClusterBarrier(&'static str),
    #[error("{0} in a kernel with mbarriers: this is not modelled")]
    NotModelled(&'static str),
    #[error("deadlock: {}", .0.join("; "))]
    Deadlock(Vec<String>),
}
