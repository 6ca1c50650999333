//! A pass over test images: the free phase alone, from zero.

use super::Probe;
use super::metrics::Tally;
use super::progress::Progress;
use crate::data::{Batch, Loader};
use crate::ep::{Backend, BatchOutcome, CostFunction, PhaseReport, Relaxation, Start};
use crate::network::Network;
use anyhow::{Result, bail};
use std::time::Instant;

/// A cost per example beyond this means that the output ran away, though no number overflowed yet.
const RUNAWAY_COST: f64 = 1e6;

/// Numbers that training cannot go on from.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Diverged(pub String);

/// What a test pass measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    pub tally: Tally,
    /// per class: images, and correct predictions among them
    pub classes: Vec<(usize, usize)>,
}

/// Relaxes a batch freely and measures it; may be [`Diverged`].
pub(super) fn relax(
    backend: &mut dyn Backend,
    batch: &Batch,
    start: Start,
    cost: CostFunction,
    relaxation: &Relaxation,
) -> Result<(BatchOutcome, PhaseReport)> {
    backend.load_batch(&batch.images, &batch.labels, start)?;
    let report = backend.free_phase(relaxation)?;
    let outcome = backend.outcome(cost)?;
    let n = batch.len() as f64;
    let energy = outcome.energy.iter().sum::<f64>() / n;
    let mean_cost = outcome.cost.iter().sum::<f64>() / n;
    for (name, value) in [("energy", energy), ("cost", mean_cost)] {
        if !value.is_finite() {
            bail!(Diverged(format!("the {name} is {value}")));
        }
    }
    if mean_cost > RUNAWAY_COST {
        bail!(Diverged(format!("the cost is {mean_cost:.3e}")));
    }
    Ok((outcome, report))
}

/// Evaluates the backend's present parameters on every image of `loader`; `None` when `interrupted` says so in between.
pub fn evaluate(
    backend: &mut dyn Backend,
    loader: &Loader,
    network: &Network,
    cost: CostFunction,
    relaxation: &Relaxation,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Evaluation>> {
    let begun = Instant::now();
    let mut progress = Progress::start("test ".into(), loader.examples(), 0);
    let mut evaluation = Evaluation {
        tally: Tally::default(),
        classes: vec![(0, 0); network.classes()],
    };
    for batch in loader.epoch(0, 0) {
        if interrupted() {
            return Ok(None);
        }
        let (outcome, report) = relax(backend, &batch, Start::Zero, cost, relaxation)?;
        for (&label, &prediction) in batch.labels.iter().zip(&outcome.prediction) {
            let (images, correct) = &mut evaluation.classes[label];
            *images += 1;
            *correct += usize::from(prediction == label);
        }
        evaluation
            .tally
            .add(&outcome, &batch.labels, &report, relaxation.omega);
        if batch.index == loader.last_full_batch() {
            evaluation.tally.probe = Some(Probe::states(network, backend)?);
        }
        progress.advance(batch.len(), evaluation.tally.top1_error());
    }
    evaluation.tally.seconds = begun.elapsed().as_secs_f64();
    Ok(Some(evaluation))
}
