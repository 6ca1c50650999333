//! Training in several processes, as far as it is the command line's.

use super::output::{be_silent, complain};
use crate::cuda;
use crate::data::Shard;
use crate::device::Device;
use crate::parallel::{self, Alone, Place, Ranks};
use crate::run::interrupt;
use crate::usage::usage;
use anyhow::{Context, Result};
use clap::Args;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// What a rank waits before it complains: it has been ended by then when rank 0 complains of the same, so that one message is left.
const TURN: Duration = Duration::from_secs(3);

/// How many processes train.
#[derive(Args, Clone)]
pub struct RankArgs {
    /// Train on so many GPUs of this machine, or on all of them: one process each. Not with torchrun, srun or mpirun, which start the
    /// processes themselves
    #[arg(long, value_name = "N|auto", help_heading = "Several processes")]
    gpus_per_node: Option<String>,
    /// Machines that --gpus-per-node is for: 1. For more of them use torchrun, srun or mpirun
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        requires = "gpus_per_node",
        help_heading = "Several processes"
    )]
    nodes: usize,
    /// Seconds that a process waits for the others before it gives them up
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 600.0,
        help_heading = "Several processes"
    )]
    collective_timeout: f64,
}

/// To be called before a complaint that every process of a run may have.
pub fn wait_for_turn() {
    if let Ok(Some(place)) = Place::of_this_process()
        && place.shard.rank > 0
    {
        std::thread::sleep(TURN);
    }
}

impl RankArgs {
    /// Runs `train` in this process, or in processes that this one starts.
    pub fn run(&self, train: impl FnOnce(&mut Joining) -> Result<ExitCode>) -> Result<ExitCode> {
        let limit = self.limit()?;
        let place = Place::of_this_process()?;
        if let Some(gpus) = &self.gpus_per_node {
            if let Some(place) = place {
                usage!(
                    "--gpus-per-node: {} has started {} processes already; leave the option out",
                    place.launcher,
                    place.shard.world
                );
            }
            return self.spawn(gpus);
        }
        let mut joining = Joining {
            place,
            limit,
            ranks: None,
        };
        let shard = joining.shard();
        if shard.rank > 0 {
            be_silent();
        }
        let outcome = train(&mut joining);
        match outcome {
            Err(error) if shard.world > 1 => {
                wait_for_turn();
                let text = crate::shown::one_line(&format!("{error:#}"));
                complain(format_args!("error: {shard}: {text}"));
                // An ordinary end could wait for the others, who wait for this one.
                if let Some(ranks) = &joining.ranks {
                    ranks.abort();
                }
                parallel::end_now()
            }
            outcome => outcome,
        }
    }

    fn limit(&self) -> Result<Duration> {
        let seconds = self.collective_timeout;
        match Duration::try_from_secs_f64(seconds) {
            Ok(limit) if !limit.is_zero() => Ok(limit),
            _ => usage!("--collective-timeout {seconds}: expected a number of seconds above 0"),
        }
    }

    fn spawn(&self, gpus: &str) -> Result<ExitCode> {
        if self.nodes != 1 {
            usage!(
                "--nodes {}: this program starts processes on its own machine only; start it with torchrun, srun or mpirun on several",
                self.nodes
            );
        }
        let there_are = cuda::list_gpus().context("--gpus-per-node")?.len();
        let world = match (gpus, gpus.parse()) {
            ("auto", _) => there_are,
            (_, Ok(number)) => number,
            _ => usage!("--gpus-per-node {gpus:?}: expected a number of GPUs, or auto"),
        };
        if world == 0 || world > there_are {
            usage!("--gpus-per-node {gpus}: this machine has {there_are} GPUs");
        }
        let _watch = interrupt::watch("all processes finish the batch, and the run is saved")?;
        let status = parallel::spawn(
            world,
            &without_own_options(std::env::args().skip(1)),
            &interrupt::requested,
        )?;
        Ok(ExitCode::from(status))
    }
}

/// The arguments of the processes: those of this one without `--nodes` and `--gpus-per-node`.
fn without_own_options(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let own = ["--nodes", "--gpus-per-node", "--gpus_per_node"];
    let mut arguments = arguments.peekable();
    let mut kept = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            Some((name, _)) if own.contains(&name) => {}
            None if own.contains(&argument.as_str()) => drop(arguments.next()),
            _ => kept.push(argument),
        }
    }
    kept
}

/// A process on its way to the others.
pub struct Joining {
    place: Option<Place>,
    limit: Duration,
    /// held to the end, which for MPI is a meeting of all
    ranks: Option<Rc<dyn Ranks>>,
}

impl Joining {
    /// Meets the others, if there are any, and sets the device to the one of this process.
    pub fn join(&mut self, device: &mut Device) -> Result<Rc<dyn Ranks>> {
        let Some(place) = &self.place else {
            return Ok(Rc::new(Alone));
        };
        let (ranks, own) = parallel::join(place, *device, self.limit)?;
        *device = own;
        self.ranks = Some(ranks.clone());
        Ok(ranks)
    }

    /// The processes, once they have met, if there are several.
    pub fn several(&self) -> Option<Rc<dyn Ranks>> {
        self.ranks.clone()
    }

    /// Whether this is the process that prints and writes.
    pub fn is_first(&self) -> bool {
        self.shard().rank == 0
    }

    fn shard(&self) -> Shard {
        self.place
            .as_ref()
            .map_or(Shard::WHOLE, |place| place.shard)
    }
}

/// `work` on the first rank, then, when it is done, on the others: what it downloads is there for them.
pub fn first_then_others<T>(ranks: &dyn Ranks, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if ranks.shard().rank == 0 {
        let done = work()?;
        ranks.any(true)?;
        return Ok(done);
    }
    ranks.any(true)?;
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_get_all_options_but_the_number_of_processes() {
        let given = "train --gpus-per-node 4 --preset fast --nodes=1 --epochs 3 --gpus_per_node=auto --nodes 1 --x";
        let kept = without_own_options(given.split(' ').map(str::to_string));
        assert_eq!(kept.join(" "), "train --preset fast --epochs 3 --x");
    }
}
