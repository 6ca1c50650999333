//! The pool of threads that the CPU backend computes on.

use crate::error::{Error, Result};

/// Starts it, with as many threads as cores where no number is given. Left to itself the pool would start at its first use, and
/// panic where the system allows no threads.
///
/// # Errors
/// When the system does not start that many.
pub fn start(threads: Option<usize>) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    let started = pool.build_global();
    started.map_err(|error| {
        let what = match threads {
            Some(threads) => format!("--threads {threads}: the system does not start that many"),
            None => "the system does not start a thread for each core; raise its limit (ulimit -u), or give --threads a small \
                     number"
                .to_string(),
        };
        Error::System(std::io::Error::other(error)).during(what)
    })
}
