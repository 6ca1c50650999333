//! [`Ranks`] over MPI, for processes on CPUs.

use super::ranks::{Awaited, Ranks};
use crate::data::Shard;
use crate::error::{Error, Result, ensure};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many values or fewer go to rank 0 one rank after the other and back: it knows whom it waits for, to the end of the exchange.
const FEW: usize = 1024;
const NOBODY: usize = usize::MAX;

/// All processes that MPI started together. An error within MPI ends them all, which is its way.
pub struct Mpi {
    world: SimpleCommunicator,
    /// the rank that rank 0 waits for; [`NOBODY`]
    awaited: Arc<AtomicUsize>,
    /// MPI ends with it
    _universe: Universe,
}

impl Mpi {
    /// Joins the other processes. Once per process.
    ///
    /// # Errors
    /// When this process has joined before.
    pub fn join() -> Result<Self> {
        // Only the thread that trains calls MPI; the loader's threads do not.
        let joined = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) =
            joined.ok_or_else(|| Error::Ranks("this process has joined MPI before".into()))?;
        Ok(Self {
            world: universe.world(),
            awaited: Arc::new(AtomicUsize::new(NOBODY)),
            _universe: universe,
        })
    }

    fn awaits(&self, rank: usize) {
        self.awaited.store(rank, Ordering::Relaxed);
    }

    /// Every rank tells rank 0 that it is there, so that rank 0 can name one that is not: a collective call just waits.
    fn roll_call(&self) {
        let Shard { rank, world } = self.shard();
        if rank > 0 {
            self.world.process_at_rank(0).send(&0_u8);
            return;
        }
        for rank in 1..world {
            self.awaits(rank);
            self.world.process_at_rank(rank as i32).receive::<u8>();
        }
        self.awaits(NOBODY);
    }

    /// Replaces each value by what `combine` and `operation`, which are the same, make of it and the other ranks' values.
    fn all_reduce(
        &self,
        values: &mut [f64],
        combine: fn(f64, f64) -> f64,
        operation: SystemOperation,
    ) {
        if values.len() > FEW {
            self.roll_call();
            let mine = values.to_vec();
            self.world.all_reduce_into(&mine[..], values, operation);
            return;
        }
        let Shard { rank, world } = self.shard();
        if rank > 0 {
            let first = self.world.process_at_rank(0);
            first.send(&*values);
            first.receive_into(values);
            return;
        }
        let mut theirs = vec![0.0; values.len()];
        for rank in 1..world {
            self.awaits(rank);
            self.world
                .process_at_rank(rank as i32)
                .receive_into(&mut theirs[..]);
            for (value, &other) in values.iter_mut().zip(&theirs) {
                *value = combine(*value, other);
            }
        }
        self.awaits(NOBODY);
        for rank in 1..world {
            self.world.process_at_rank(rank as i32).send(&*values);
        }
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Mpi({:?})", self.shard())
    }
}

impl Ranks for Mpi {
    fn shard(&self) -> Shard {
        Shard {
            rank: self.world.rank() as usize,
            world: self.world.size() as usize,
        }
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.all_reduce(values, |a, b| a + b, SystemOperation::sum());
        Ok(())
    }

    fn max(&self, values: &mut [f64]) -> Result<()> {
        self.all_reduce(values, f64::max, SystemOperation::max());
        Ok(())
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<f64>> {
        let count = i32::try_from(values.len());
        // MPI counts in 32 bits; every rank has to know before any of them waits for the others.
        let fits = !(self as &dyn Ranks).any(count.is_err())?;
        ensure!(
            Ranks,
            fits,
            "a rank's part of a state has more values than MPI counts"
        );
        let count = count.unwrap_or_default();
        let first = self.world.process_at_rank(0);
        if self.world.rank() > 0 {
            first.gather_into(&count);
            first.gather_varcount_into(values);
            return Ok(Vec::new());
        }
        let mut counts = vec![0_i32; self.world.size() as usize];
        first.gather_into_root(&count, &mut counts[..]);
        let total: i64 = counts.iter().map(|&count| i64::from(count)).sum();
        let starts: Option<Vec<i32>> = counts
            .iter()
            .scan(0_i64, |start, &count| {
                let this = *start;
                *start += i64::from(count);
                Some(i32::try_from(this).ok())
            })
            .collect();
        let starts = starts.ok_or_else(|| {
            Error::Ranks("the ranks' states together have more values than MPI counts".into())
        })?;
        let mut all = vec![0.0; total as usize];
        let mut parts = PartitionMut::new(&mut all[..], counts, &starts[..]);
        first.gather_varcount_into_root(values, &mut parts);
        Ok(all)
    }

    fn awaited(&self) -> Awaited {
        let rank = self.awaited.clone();
        Awaited::by(move || Some(rank.load(Ordering::Relaxed)).filter(|&rank| rank != NOBODY))
    }

    fn abort(&self) {
        self.world.abort(1)
    }
}
