//! A pass over test images.

use super::metrics::Tally;
use super::observer::Observer;
use crate::config::Config;
use crate::data::Loader;
use crate::error::Result;
use crate::learn::LearningRule;
use crate::network::Network;
use std::time::Instant;

/// What a test pass measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// sums over all images
    pub tally: Tally,
    /// per class: images, and correct predictions among them
    pub classes: Vec<(usize, usize)>,
    /// of each image in order: label and prediction
    pub predictions: Vec<(usize, usize)>,
}

/// Evaluates what was learnt so far on every image of `loader`, of which this rank has its rows; `None` when `interrupted` says so in
/// between.
///
/// # Errors
/// When numbers run away ([`Error::Diverged`](crate::error::Error::Diverged)), or when the device fails.
pub fn evaluate(
    rule: &mut dyn LearningRule,
    config: &Config,
    network: &Network,
    loader: &Loader,
    observer: &mut dyn Observer,
    interrupted: &dyn Fn() -> Result<bool>,
) -> Result<Option<Evaluation>> {
    let begun = Instant::now();
    observer.pass_begins("test ", loader.examples(), 0);
    let mut evaluation = Evaluation {
        tally: Tally::default(),
        classes: vec![(0, 0); network.classes()],
        predictions: Vec::with_capacity(loader.examples()),
    };
    for batch in loader.epoch(0, 0) {
        if interrupted()? {
            observer.pass_ends();
            return Ok(None);
        }
        let report = rule.evaluate(&batch)?;
        let predictions = &report.outcome.prediction;
        for (&label, &prediction) in batch.labels.iter().zip(predictions) {
            let (images, correct) = &mut evaluation.classes[label];
            evaluation.predictions.push((label, prediction));
            *images += 1;
            *correct += usize::from(prediction == label);
        }
        (evaluation.tally).add(&report, &batch.labels, config);
        if batch.index == loader.last_full_batch() {
            evaluation.tally.probe = Some(rule.probe_states()?);
        }
        if config.published_series {
            (evaluation.tally.magnitudes).add(&rule.magnitudes(&batch, false)?);
        }
        observer.batch_is_over(
            loader.batch_examples(batch.index),
            evaluation.tally.top1_error(),
        );
    }
    observer.pass_ends();
    evaluation.tally.seconds = begun.elapsed().as_secs_f64();
    Ok(Some(evaluation))
}
