//! Hopper's instructions with their operands resolved.

use super::operand::{Address, Pred, Reg};

#[derive(Debug, Clone, PartialEq)]
pub enum Hopper {
    /// `mbarrier.init`
    Init {
        barrier: Address,
        count: Reg,
    },
    /// `mbarrier.arrive`, with `expect_tx` if there are bytes.
    Arrive {
        d: Option<Reg>,
        barrier: Address,
        count: Option<Reg>,
        bytes: Option<Reg>,
        /// `.shared::cluster`: the barrier may be another block's.
        of_cluster: bool,
        /// `.release.cluster`
        wide: bool,
    },
    /// `mbarrier.expect_tx`
    Expect {
        barrier: Address,
        bytes: Reg,
        of_cluster: bool,
    },
    /// `mbarrier.try_wait.parity`, `mbarrier.test_wait.parity`
    Try {
        p: Pred,
        barrier: Address,
        parity: Reg,
        /// `.acquire.cluster`
        wide: bool,
    },
    /// `mapa.shared::cluster`
    MapAddress {
        d: Reg,
        a: Reg,
        rank: Reg,
    },
    /// `barrier.cluster.arrive`, with `.release` written or not; `barrier.cluster.wait`, with `.acquire` likewise
    ClusterArrive,
    ClusterWait,
    /// `fence.proxy.async`
    ProxyFence,
    /// `fence.proxy.tensormap::generic.acquire`
    MapFence(Address),
    /// `cp.async.bulk.tensor` to shared memory
    Load {
        to: Address,
        map: Address,
        corner: Box<[Reg]>,
        barrier: Address,
        /// `.shared::cluster`: to another block, perhaps
        of_cluster: bool,
        /// `.multicast::cluster`: to the blocks whose bits are set
        blocks: Option<Reg>,
    },
    /// `cp.async.bulk.tensor` to device memory
    Store {
        map: Address,
        corner: Box<[Reg]>,
        from: Address,
    },
    StoreCommit,
    /// `cp.async.bulk.wait_group`, with or without `.read`: what was read is written at once here.
    StoreWait(u32),
    Elect {
        d: Option<Reg>,
        p: Pred,
        members: Reg,
    },
    /// `setmaxnreg`
    Registers {
        count: u32,
        more: bool,
    },
    ProductFence,
    ProductCommit,
    ProductWait(u32),
    /// `wgmma.mma_async` of m64nNk16, both operands in shared memory. Sums in order of registers.
    Product {
        sums: Box<[Reg]>,
        a: Reg,
        b: Reg,
        /// 0: the sums begin at zero
        scale: Pred,
        /// Whether a has its rows, and b its columns, side by side in memory, instead of K.
        transposed: [bool; 2],
        brain: bool,
    },
}
