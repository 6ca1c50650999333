//! A phase: iterations until the tolerance or the count is reached, over all chunks of a batch.
//!
//! Examples do not interact while they relax, so a batch is cut into chunks of a few examples, each small enough for a
//! core's cache, and an iteration runs over the chunks in parallel. The cut depends on the batch alone, never on the
//! number of threads, and sums are taken in the chunks' order: results are the same on any number of threads.

use super::stack::Change;
use crate::ep::{PhaseReport, Relaxation};
use rayon::prelude::*;

/// The safeguard steps in when the change exceeds this many times the smallest one so far ...
const GROWTH: f64 = 1.5;
/// ... but not in the first iterations, while the signal is still on its way through the layers.
const SETTLING_ITERATIONS: usize = 3;

/// Runs a phase. `iterate` does one iteration of one chunk with the given omega.
///
/// Over-relaxation that does not suit the network shows as a change that grows: omega then falls half-way back to 1,
/// as often as it must.
pub fn phase<C: Send>(
    chunks: &mut [C],
    relaxation: &Relaxation,
    iterate: impl Fn(&mut C, f64) -> Change + Sync,
) -> PhaseReport {
    let mut report = PhaseReport {
        omega: relaxation.omega,
        ..PhaseReport::default()
    };
    let mut smallest = f64::INFINITY;
    for iteration in 1..=relaxation.iterations {
        let omega = report.omega;
        let changes: Vec<Change> = chunks.par_iter_mut().map(|c| iterate(c, omega)).collect();
        let mut change = Change::default();
        changes.into_iter().for_each(|c| change += c);
        report.iterations = iteration;
        report.change = change.relative();
        if relaxation.tolerance.is_some_and(|t| report.change < t) {
            break;
        }
        if iteration > SETTLING_ITERATIONS && report.change > GROWTH * smallest && omega > 1.0 {
            report.omega = 1.0 + (omega - 1.0) / 2.0;
            smallest = report.change;
        }
        smallest = smallest.min(report.change);
    }
    report
}
