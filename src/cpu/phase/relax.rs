//! A phase: iterations until the tolerance or the count is reached, over all chunks of a batch.
//!
//! Examples do not interact while they relax, so a batch is cut into chunks of a few examples, each small enough for a
//! core's cache, and an iteration runs over the chunks in parallel. The cut depends on the batch alone, never on the
//! number of threads, and sums are taken in the chunks' order: results are the same on any number of threads.

use super::update::Change;
use crate::phase::{
    PhaseReport, Relaxation, SAFEGUARD_GROWTH, SAFEGUARD_NEGLIGIBLE, SETTLING_ITERATIONS,
};
use rayon::prelude::*;

/// Lowers omega half-way towards 1 each time the change has grown.
struct Safeguard {
    omega: f64,
    smallest: f64,
    previous: f64,
    patience: u32,
}

impl Safeguard {
    fn new(omega: f64, patience: u32) -> Self {
        Self {
            omega,
            smallest: f64::INFINITY,
            previous: f64::INFINITY,
            patience,
        }
    }

    fn observe(&mut self, change: f64) {
        let growing = change > SAFEGUARD_GROWTH * self.smallest && change >= self.previous;
        if self.patience > 0 {
            self.patience -= 1;
        } else if growing && self.omega > 1.0 {
            let excess = (self.omega - 1.0) / 2.0;
            self.omega = if excess < SAFEGUARD_NEGLIGIBLE {
                1.0
            } else {
                1.0 + excess
            };
            self.patience = SETTLING_ITERATIONS;
        }
        self.smallest = self.smallest.min(change);
        self.previous = change;
    }
}

/// Runs a phase. The safeguard waits for `patience` iterations ([`Relaxation::patience`]). `iterate` does one iteration of one
/// chunk with the given omega; `observe` sees the chunks after each.
///
/// The whole phase runs on a thread of the pool: handing every single iteration over from outside costs two wake-ups each, more
/// than a small network's iteration.
pub fn phase<C: Send>(
    chunks: &mut [C],
    relaxation: &Relaxation,
    patience: u32,
    iterate: impl Fn(&mut C, f64) -> Change + Sync + Send,
    mut observe: impl FnMut(&mut [C], &PhaseReport) + Send,
) -> PhaseReport {
    rayon::scope(move |_| {
        let mut safeguard = Safeguard::new(relaxation.omega, patience);
        let mut report = PhaseReport::default();
        for iteration in 1..=relaxation.iterations {
            let omega = safeguard.omega;
            let changes: Vec<Change> = chunks.par_iter_mut().map(|c| iterate(c, omega)).collect();
            let mut change = Change::default();
            changes.into_iter().for_each(|c| change += c);
            report.iterations = iteration;
            report.change = change.relative();
            report.omega = omega;
            observe(chunks, &report);
            if relaxation.tolerance.is_some_and(|t| report.change < t) {
                break;
            }
            safeguard.observe(report.change);
        }
        report.omega = safeguard.omega;
        report
    })
}
