//! Threads as ranks: what MPI and NCCL do between processes, by shared memory in this one.

use eqprop_cuda::Result;
use eqprop_cuda::data::Shard;
use eqprop_cuda::parallel::Ranks;
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex};

#[derive(Debug)]
struct Meeting {
    barrier: Barrier,
    given: Mutex<Vec<Vec<f64>>>,
}

#[derive(Debug)]
pub struct ThreadRanks {
    shard: Shard,
    meeting: Arc<Meeting>,
}

impl ThreadRanks {
    /// What every rank gave, once all did.
    fn exchange(&self, values: &[f64]) -> Vec<Vec<f64>> {
        self.meeting.given.lock().unwrap()[self.shard.rank] = values.to_vec();
        self.meeting.barrier.wait();
        let all = self.meeting.given.lock().unwrap().clone();
        // Nobody gives the next values before everybody has read these.
        self.meeting.barrier.wait();
        all
    }

    fn combine(&self, values: &mut [f64], with: impl Fn(f64, f64) -> f64) {
        let all = self.exchange(values);
        for (i, value) in values.iter_mut().enumerate() {
            *value = all.iter().map(|rank| rank[i]).reduce(&with).unwrap();
        }
    }
}

impl Ranks for ThreadRanks {
    fn shard(&self) -> Shard {
        self.shard
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.combine(values, |a, b| a + b);
        Ok(())
    }

    fn max(&self, values: &mut [f64]) -> Result<()> {
        self.combine(values, f64::max);
        Ok(())
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<f64>> {
        let all = self.exchange(values);
        Ok(if self.shard.rank == 0 {
            all.concat()
        } else {
            Vec::new()
        })
    }
}

/// What `of` gives on each of `world` ranks, which run at the same time.
pub fn on_ranks<T: Send>(world: usize, of: impl Fn(Rc<dyn Ranks>) -> T + Sync) -> Vec<T> {
    let meeting = Arc::new(Meeting {
        barrier: Barrier::new(world),
        given: Mutex::new(vec![Vec::new(); world]),
    });
    std::thread::scope(|scope| {
        let ranks = (0..world).map(|rank| {
            let (of, meeting) = (&of, meeting.clone());
            let shard = Shard { rank, world };
            scope.spawn(move || of(Rc::new(ThreadRanks { shard, meeting })))
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
