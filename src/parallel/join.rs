//! How a process finds the others of its run.

use super::nccl::Nccl;
use super::place::Place;
use super::ranks::Ranks;
use super::rendezvous::Meeting;
use super::watch::Watched;
use crate::cuda;
use crate::device::Device;
#[cfg(feature = "mpi")]
use crate::error::Context;
use crate::error::{Result, bail};
use std::rc::Rc;
use std::time::Duration;

/// Joins the processes of a run, and returns them with the device of this one: for GPUs by NCCL, for CPUs (and for emulated and
/// interpreted GPUs) by MPI. No exchange waits longer than `limit`.
///
/// # Errors
/// When what the device needs is missing, or the others are not there.
pub fn join(place: &Place, device: Device, limit: Duration) -> Result<(Rc<dyn Ranks>, Device)> {
    let (ranks, device): (Rc<dyn Ranks>, _) = match device.resolved() {
        Device::Cuda(named) => {
            let ordinal = ordinal(place, named)?;
            let meeting = Meeting::find(&|name| std::env::var(name).ok())?;
            let ranks = Nccl::join(place.shard, ordinal, &meeting, limit)?;
            (Rc::new(ranks), Device::Cuda(ordinal))
        }
        device => (by_mpi(place)?, device),
    };
    Ok((Rc::new(Watched::new(ranks, limit)), device))
}

/// The GPU of this process: its number among the processes of its machine, or the only one that the launcher lets it see.
fn ordinal(place: &Place, named: usize) -> Result<usize> {
    if named > 0 {
        bail!(
            Ranks,
            "--device cuda:{named}: of {} processes each takes the GPU of its own number on its machine; say --device cuda",
            place.shard.world
        );
    }
    let count = cuda::list_gpus()?.len();
    match place.local_rank {
        _ if count == 1 => Ok(0),
        local_rank if local_rank < count => Ok(local_rank),
        local_rank => bail!(
            Ranks,
            "process {local_rank} of this machine has no GPU: the driver sees {count}; start at most {count} processes on it (counted from 0)"
        ),
    }
}

#[cfg(feature = "mpi")]
fn by_mpi(place: &Place) -> Result<Rc<dyn Ranks>> {
    let ranks = super::mpi::Mpi::join().context("MPI cannot start")?;
    let world = ranks.shard().world;
    if ranks.shard() != place.shard {
        bail!(
            Ranks,
            "{} started {} processes, but MPI knows of {world}; on CPUs start them with the mpirun of the MPI that this program was built with",
            place.launcher,
            place.shard.world
        );
    }
    Ok(Rc::new(ranks))
}

#[cfg(not(feature = "mpi"))]
fn by_mpi(place: &Place) -> Result<Rc<dyn Ranks>> {
    bail!(
        Ranks,
        "{} processes on CPUs: this build has no MPI; build it with `cargo build --release --features mpi` (Debian: libopenmpi-dev, \
         openmpi-bin, libclang-dev), or unset what {} set to train in one process",
        place.shard.world,
        place.launcher
    )
}
