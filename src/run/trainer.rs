//! The training loop.
//!
//! A training batch starts from the state that the batch before it left. The first batch of an epoch starts from zero:
//! in the published program the test pass in between leaves a state of (nearly always) another batch size there, which
//! means the same. So the end of an epoch has no state to keep.

use super::checkpoint::{Best, Checkpoint, Position};
use super::evaluate::{Evaluation, evaluate};
use super::folder::RunFolder;
use super::interrupt;
use super::memory;
use super::metrics::Record;
use super::observer::Observer;
use crate::data::Loader;
use crate::learn::{Diverged, LearningRule};
use anyhow::{Context, Result, anyhow};
use std::time::{Duration, Instant};

/// A run that was not told how often to save loses at most about this much when it is killed.
const SAVE_INTERVAL: Duration = Duration::from_secs(600);

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending {
    Finished(Option<Best>),
    /// saved, to be resumed
    Interrupted,
}

/// A training run under way. `run` is the checkpoint that it goes on from, and that it keeps up to date but for what
/// only the rule knows (parameters, moments, states), which its `save` fetches.
pub struct Trainer<'a> {
    run: Checkpoint,
    rule: &'a mut dyn LearningRule,
    train: Loader,
    test: Loader,
    folder: RunFolder,
    observer: &'a mut dyn Observer,
    interrupted: &'a dyn Fn() -> bool,
    saved: Instant,
}

impl<'a> Trainer<'a> {
    /// Brings the rule to where `run` is.
    ///
    /// # Errors
    /// When the rule's device cannot take the state.
    pub fn new(
        run: Checkpoint,
        rule: &'a mut dyn LearningRule,
        (train, test): (Loader, Loader),
        folder: RunFolder,
        observer: &'a mut dyn Observer,
        interrupted: &'a dyn Fn() -> bool,
    ) -> Result<Self> {
        rule.set_state(&run.model)?;
        rule.set_optimizer(run.config.optimizer_config(), &run.optimizer)?;
        rule.set_kept_state(run.kept_state.clone())?;
        Ok(Self {
            run,
            rule,
            train,
            test,
            folder,
            observer,
            interrupted,
            saved: Instant::now(),
        })
    }

    /// Trains until the last epoch is over or until it is interrupted.
    ///
    /// # Errors
    /// When numbers run away ([`Diverged`] is in the message), or when the device or the folder fails.
    pub fn run(mut self) -> Result<Ending> {
        // From here on the folder can be resumed from.
        self.save()?;
        self.folder
            .save_config(&self.run.config, &self.run.network)?;
        while self.run.position.epoch < self.run.config.epochs {
            let trained = self.train_epoch()?;
            let tested = if trained { self.test_epoch()? } else { None };
            let Some(tested) = tested else {
                self.save()?;
                self.observer.run_ends(interrupt::EXIT_CODE);
                return Ok(Ending::Interrupted);
            };
            self.end_epoch(&tested)?;
        }
        self.observer.run_ends(0);
        Ok(Ending::Finished(self.run.best))
    }

    /// The training batches of the present epoch that are left; false when interrupted.
    fn train_epoch(&mut self) -> Result<bool> {
        let Position {
            epoch,
            batch: first,
        } = self.run.position;
        if first == 0 {
            self.rule.set_kept_state(None)?;
        }
        let mut tally = self.run.tally.take().unwrap_or_default();
        let title = format!("epoch {}/{}", epoch + 1, self.run.config.epochs);
        (self.observer).pass_begins(&title, self.train.examples(), tally.examples);
        let rates = self.run.learning_rates();
        let mut begun = Instant::now();
        for batch in self.train.epoch(epoch as u64, first) {
            if (self.interrupted)() {
                self.observer.pass_ends();
                self.run.tally = Some(tally);
                return Ok(false);
            }
            let config = &self.run.config;
            let report = self.rule.train(&batch, &rates).map_err(|e| {
                self.explain(e, format!("epoch {}, batch {}", epoch + 1, batch.index + 1))
            })?;
            tally.add(&report, &batch.labels, config.omega);
            if batch.index == self.train.last_full_batch() {
                tally.probe = Some(self.rule.probe()?);
            }
            self.run.position.batch = batch.index + 1;
            (self.observer).batch_is_over(batch.len(), tally.top1_error());
            tally.seconds += begun.elapsed().as_secs_f64();
            begun = Instant::now();
            if self.is_time_to_save() {
                self.run.tally = Some(tally.clone());
                self.save()?;
                begun = Instant::now();
            }
        }
        self.observer.pass_ends();
        self.run.tally = Some(tally);
        Ok(true)
    }

    /// The test pass after an epoch; `None` when interrupted.
    fn test_epoch(&mut self) -> Result<Option<Evaluation>> {
        evaluate(
            self.rule,
            &self.run.config,
            &self.run.network,
            &self.test,
            self.observer,
            self.interrupted,
        )
        .map_err(|e| {
            self.explain(
                e,
                format!("the test after epoch {}", self.run.position.epoch + 1),
            )
        })
    }

    /// Records an epoch and saves.
    fn end_epoch(&mut self, tested: &Evaluation) -> Result<()> {
        let epoch = self.run.position.epoch + 1;
        let tally = self.run.tally.take().unwrap_or_default();
        let record = Record {
            epoch,
            train: tally.measures(),
            test: tested.tally.measures(),
            learning_rates: self.run.config.learning_rates(epoch - 1),
            peak_memory_mib: memory::peak_mib(),
        };
        self.run.position = Position { epoch, batch: 0 };
        let top1_error = record.test.top1_error;
        let improved = self
            .run
            .best
            .is_none_or(|best| top1_error < best.top1_error);
        if improved {
            self.run.best = Some(Best { epoch, top1_error });
        }
        // The last checkpoint comes last: see `folder`.
        self.folder.add_record(&record)?;
        self.observer.epoch_is_recorded(&record);
        self.collect()?;
        if improved {
            self.folder.save_best(&self.run)?;
        }
        self.write()?;
        (self.observer).epoch_is_saved(&record, self.run.config.epochs, improved);
        Ok(())
    }

    fn is_time_to_save(&self) -> bool {
        match self.run.config.save_every {
            Some(batches) => self.run.position.batch.is_multiple_of(batches),
            None => self.saved.elapsed() >= SAVE_INTERVAL,
        }
    }

    fn save(&mut self) -> Result<()> {
        self.collect()?;
        self.write()
    }

    /// Fetches what only the rule knows.
    fn collect(&mut self) -> Result<()> {
        self.run.model = self.rule.state()?;
        let mut values = self.run.model.parameters.tensors().iter().flatten();
        if !values.all(|value| value.is_finite()) {
            let error = Diverged("a parameter is not finite".into()).into();
            return Err(self.explain(error, format!("epoch {}", self.run.position.epoch + 1)));
        }
        self.run.optimizer = self.rule.optimizer_state()?;
        let within_epoch = (1..self.train.batches()).contains(&self.run.position.batch);
        self.run.kept_state = if within_epoch {
            self.rule.kept_state()?
        } else {
            None
        };
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        self.saved = Instant::now();
        self.folder.save_last(&self.run).with_context(|| {
            format!(
                "the run cannot be saved; make room and go on with `eqprop-cuda train --resume {}`",
                self.folder.path().display()
            )
        })
    }

    /// What to say when numbers ran away. The last checkpoint was written before, so it is a good one.
    fn explain(&self, error: anyhow::Error, place: String) -> anyhow::Error {
        if !error.is::<Diverged>() {
            return error.context(place);
        }
        anyhow!(
            "the training diverged in {place}: {error}; the last good checkpoint is {}; try a smaller learning rate, \
             more iterations, or a smaller omega",
            self.folder.last().display()
        )
    }
}
