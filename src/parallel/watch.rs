//! A rank that waits too long for the others ends, rather than waiting for ever.

use super::ranks::{Awaited, Ranks};
use crate::data::Shard;
use crate::error::Result;
use crate::phase::GradientMemory;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When several ranks wait for one, the first of them speaks and ends all; the next would after this time. So where another than rank 0
/// speaks, rank 0 is the one that hangs.
const TURN: Duration = Duration::from_secs(3);

/// Ranks, of which none waits longer than a limit for the others.
#[derive(Debug)]
pub struct Watched {
    inner: Rc<dyn Ranks>,
    waiting: Arc<Mutex<Option<Instant>>>,
}

impl Watched {
    /// Ends the process with exit status 1 and one message where an exchange takes longer than `limit`.
    pub fn new(inner: Rc<dyn Ranks>, limit: Duration) -> Self {
        let waiting = Arc::new(Mutex::new(None));
        let awaited = inner.awaited();
        let Shard { rank, world } = inner.shard();
        let (since, limit_of_this) = (waiting.clone(), limit + rank.min(2) as u32 * TURN);
        let pause = (limit / 20).clamp(Duration::from_millis(10), Duration::from_secs(1));
        // Without it nothing is watched, but everything works.
        let _ = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let mut judges_from = Instant::now();
            loop {
            let slept = Instant::now();
            std::thread::sleep(pause);
            if slept.elapsed() > pause + limit / 2 {
                // This process is the one that was stopped. If the others have given it up, it will be ended meanwhile.
                judges_from = Instant::now() + 2 * TURN;
            }
            let since: Option<Instant> = *since.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() > limit_of_this) && Instant::now() > judges_from {
                let missing = match (awaited.get(), rank) {
                    (Some(missing), _) => format!("rank {missing}"),
                    (None, 0) => "another rank".to_string(),
                    (None, _) => "rank 0, or one that rank 0 waits for,".to_string(),
                };
                log::error!(
                    "{missing} hangs or is gone: rank {rank} of {world} has waited {} s for it; what was saved is kept \
                     (--collective-timeout sets how long to wait)",
                    limit.as_secs_f64()
                );
                end_now();
            }
            }
        });
        Self { inner, waiting }
    }

    fn watched<T>(&self, exchange: impl FnOnce(&dyn Ranks) -> T) -> T {
        let set = |value| *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = value;
        set(Some(Instant::now()));
        let result = exchange(&*self.inner);
        set(None);
        result
    }
}

/// Ends the process with exit status 1 at once: what would run at an ordinary end could wait for the other ranks.
pub fn end_now() -> ! {
    #[cfg(unix)]
    // SAFETY: ends the process.
    unsafe {
        libc::_exit(1)
    }
    #[cfg(not(unix))]
    std::process::exit(1)
}

impl Ranks for Watched {
    fn shard(&self) -> Shard {
        self.inner.shard()
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.watched(|ranks| ranks.sum(values))
    }

    fn sum_gradient(&self, memory: GradientMemory<'_>) -> Result<()> {
        self.watched(|ranks| ranks.sum_gradient(memory))
    }

    fn max(&self, values: &mut [f64]) -> Result<()> {
        self.watched(|ranks| ranks.max(values))
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<f64>> {
        self.watched(|ranks| ranks.gather(values))
    }

    fn awaited(&self) -> Awaited {
        self.inner.awaited()
    }

    fn abort(&self) {
        self.inner.abort();
    }
}
