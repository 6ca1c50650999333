//! A pass over test images.

use super::metrics::Tally;
use super::progress::Progress;
use super::{Config, Learner};
use crate::data::Loader;
use crate::network::Network;
use anyhow::Result;
use std::time::Instant;

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
    /// of each image in order: label and prediction
    pub predictions: Vec<(usize, usize)>,
}

/// Evaluates what was learnt so far on every image of `loader`; `None` when `interrupted` says so in between.
pub fn evaluate(
    learner: &mut Learner,
    config: &Config,
    network: &Network,
    loader: &Loader,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Evaluation>> {
    let begun = Instant::now();
    let mut progress = Progress::start("test ".into(), loader.examples(), 0);
    let mut evaluation = Evaluation {
        tally: Tally::default(),
        classes: vec![(0, 0); network.classes()],
        predictions: Vec::with_capacity(loader.examples()),
    };
    for batch in loader.epoch(0, 0) {
        if interrupted() {
            return Ok(None);
        }
        let lesson = learner.test(&batch, config)?;
        let predictions = &lesson.outcome.prediction;
        for (&label, &prediction) in batch.labels.iter().zip(predictions) {
            let (images, correct) = &mut evaluation.classes[label];
            evaluation.predictions.push((label, prediction));
            *images += 1;
            *correct += usize::from(prediction == label);
        }
        (evaluation.tally).add(&lesson, &batch.labels, config.omega);
        if batch.index == loader.last_full_batch() {
            evaluation.tally.probe = Some(learner.probe_states()?);
        }
        progress.advance(batch.len(), evaluation.tally.top1_error());
    }
    evaluation.tally.seconds = begun.elapsed().as_secs_f64();
    Ok(Some(evaluation))
}
