//! What is wrong with a kernel, and where.

mod asynchronous;

pub use asynchronous::AsyncProblem;

use crate::text::{Location, SourceLine};
use std::fmt;

/// A state space of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    Global,
    Shared,
    /// Shared memory of a block of the cluster.
    Cluster,
    Local,
    Param,
    /// An address whose window decides.
    Generic,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Global => "device memory",
            Space::Shared => "shared memory",
            Space::Cluster => "shared memory of the cluster",
            Space::Local => "local memory",
            Space::Param => "the parameters",
            Space::Generic => "no memory",
        })
    }
}

/// A warp that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub warp: usize,
    /// The barrier that it waits at.
    pub barrier: u32,
    pub line: u32,
}

/// What a kernel did that PTX does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("an access of {bytes} bytes at {address:#x} is outside of {space}: {detail}")]
    OutOfBounds {
        space: Space,
        address: u64,
        bytes: usize,
        detail: String,
    },
    #[error("an access of {bytes} bytes at {address:#x} in {space} is not aligned to {align}")]
    Misaligned {
        space: Space,
        address: u64,
        bytes: usize,
        align: usize,
    },
    #[error("the byte at {address:#x} in {space} is read, and nobody wrote it")]
    Uninitialised { space: Space, address: u64 },
    #[error(
        "{what} at {address:#x} in {space}: thread {other} of this block accesses it with no barrier between"
    )]
    Race {
        space: Space,
        address: u64,
        what: Conflict,
        other: u32,
    },
    #[error(
        "{what} at {address:#x} in device memory: block {other} of this launch accesses it too"
    )]
    BlockRace {
        address: u64,
        what: Conflict,
        other: u32,
    },
    #[error(
        "{address:#x} in shared memory is used before the cp.async that writes it was waited for (thread {other})"
    )]
    PendingCopy { address: u64, other: u32 },
    #[error("{instruction} needs lanes {missing:#010x}, which do not execute it")]
    AbsentLanes { instruction: String, missing: u32 },
    #[error("barrier {barrier} is not reached by all threads: {detail}")]
    BarrierNotReached { barrier: u32, detail: String },
    #[error("deadlock: {}", waits(.0))]
    Deadlock(Vec<Wait>),
    #[error("no end after {0} instructions of a warp")]
    Endless(u64),
    #[error("the kernel stopped itself (trap)")]
    Trap,
    #[error("the launch is impossible: {0}")]
    Launch(String),
    #[error("{0}")]
    Async(AsyncProblem),
}

/// Which accesses meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    ReadAfterWrite,
    WriteAfterRead,
    WriteAfterWrite,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Conflict::ReadAfterWrite => "race: a read after a write",
            Conflict::WriteAfterRead => "race: a write after a read",
            Conflict::WriteAfterWrite => "race: two writes",
        })
    }
}

fn waits(waits: &[Wait]) -> String {
    let list: Vec<_> = (waits.iter())
        .map(|w| {
            format!(
                "warp {} waits at barrier {} (PTX line {})",
                w.warp, w.barrier, w.line
            )
        })
        .collect();
    list.join(", ")
}

/// A [`Problem`] with its place. Boxed, because it is large and rare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kernel: String,
    /// Line of the PTX text, from 1; 0 when the launch as a whole is meant.
    pub line: u32,
    pub instruction: String,
    /// The innermost source line first, then the calls that were inlined; empty without `-lineinfo`.
    pub source: Location,
    pub block: u32,
    /// Number of the thread in its block, where one thread is to blame.
    pub thread: Option<u32>,
    pub problem: Problem,
}

impl std::error::Error for Finding {}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}: {}", self.kernel, self.problem)?;
        write!(f, " (block {}", self.block)?;
        if let Some(thread) = self.thread {
            write!(f, ", thread {thread}")?;
        }
        if self.line > 0 {
            write!(f, "; PTX line {}: {}", self.line, self.instruction)?;
        }
        for SourceLine { file, line } in &self.source {
            let name = file.rsplit('/').next().unwrap_or(file);
            write!(f, "; {name}:{line}")?;
        }
        f.write_str(")")
    }
}

pub(crate) type Fault = Box<(Option<u32>, Problem)>;

/// A problem of one lane.
pub(crate) fn fault<T>(lane: usize, problem: Problem) -> Result<T, Fault> {
    Err(Box::new((Some(lane as u32), problem)))
}

/// A lane's access of bytes that are not all there.
#[cold]
pub(crate) fn out_of_bounds<T>(
    lane: usize,
    space: Space,
    address: u64,
    bytes: usize,
    detail: String,
) -> Result<T, Fault> {
    fault(
        lane,
        Problem::OutOfBounds {
            space,
            address,
            bytes,
            detail,
        },
    )
}

/// A lane reads a byte that nobody wrote.
#[cold]
pub(crate) fn uninitialised<T>(lane: usize, space: Space, address: u64) -> Result<T, Fault> {
    fault(lane, Problem::Uninitialised { space, address })
}

/// Whether a lane's address is a multiple of `align`.
#[inline(always)]
pub(crate) fn check_aligned(
    lane: usize,
    space: Space,
    address: u64,
    bytes: usize,
    align: usize,
) -> Result<(), Fault> {
    if address.is_multiple_of(align as u64) {
        return Ok(());
    }
    misaligned(lane, space, address, bytes, align)
}

#[cold]
fn misaligned(
    lane: usize,
    space: Space,
    address: u64,
    bytes: usize,
    align: usize,
) -> Result<(), Fault> {
    fault(
        lane,
        Problem::Misaligned {
            space,
            address,
            bytes,
            align,
        },
    )
}

/// A problem of a whole warp.
pub(crate) fn warp_fault<T>(problem: Problem) -> Result<T, Fault> {
    Err(Box::new((None, problem)))
}

/// A problem of one lane with what runs on its own.
pub(crate) fn wrong(lane: usize, problem: AsyncProblem) -> Fault {
    Box::new((Some(lane as u32), Problem::Async(problem)))
}
