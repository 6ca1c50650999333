//! The training loop.
//!
//! A training batch starts from the state that the batch before it left. The first batch of an epoch starts from zero:
//! in the published program the test pass in between leaves a state of (nearly always) another batch size there, which
//! means the same. So the end of an epoch has no state to keep.

use super::Learner;
use super::checkpoint::{Best, Checkpoint, Position};
use super::evaluate::{Diverged, Evaluation, evaluate};
use super::folder::RunFolder;
use super::interrupt;
use super::memory;
use super::metrics::Record;
use super::progress::Progress;
use crate::data::Loader;
use crate::output::say;
use crate::track::Tracking;
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
/// only the learner knows (parameters, moments, states), which its `save` fetches.
pub struct Trainer<'a> {
    run: Checkpoint,
    learner: &'a mut Learner,
    train: Loader,
    test: Loader,
    folder: RunFolder,
    tracking: Tracking,
    interrupted: &'a dyn Fn() -> bool,
    saved: Instant,
}

impl<'a> Trainer<'a> {
    /// Brings the learner to where `run` is.
    pub fn new(
        run: Checkpoint,
        learner: &'a mut Learner,
        (train, test): (Loader, Loader),
        folder: RunFolder,
        interrupted: &'a dyn Fn() -> bool,
    ) -> Result<Self> {
        learner.set_learned(&run.learned)?;
        learner.set_optimizer(&run.config, &run.optimizer)?;
        learner.set_kept_state(run.kept_state.clone())?;
        Ok(Self {
            run,
            learner,
            train,
            test,
            folder,
            tracking: Tracking::default(),
            interrupted,
            saved: Instant::now(),
        })
    }

    /// The same, handing its measures to `tracking` after each epoch.
    pub fn tracked(self, tracking: Tracking) -> Self {
        Self { tracking, ..self }
    }

    /// Trains until the last epoch is over or until it is interrupted.
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
                self.tracking.finish(interrupt::EXIT_CODE);
                return Ok(Ending::Interrupted);
            };
            self.end_epoch(&tested)?;
        }
        self.tracking.finish(0);
        Ok(Ending::Finished(self.run.best))
    }

    /// The training batches of the present epoch that are left; false when interrupted.
    fn train_epoch(&mut self) -> Result<bool> {
        let Position {
            epoch,
            batch: first,
        } = self.run.position;
        if first == 0 {
            self.learner.set_kept_state(None)?;
        }
        let mut tally = self.run.tally.take().unwrap_or_default();
        let title = format!("epoch {}/{}", epoch + 1, self.run.config.epochs);
        let mut progress = Progress::start(title, self.train.examples(), tally.examples);
        let rates = self.run.learning_rates();
        let mut begun = Instant::now();
        for batch in self.train.epoch(epoch as u64, first) {
            if (self.interrupted)() {
                self.run.tally = Some(tally);
                return Ok(false);
            }
            let config = &self.run.config;
            let lesson = self.learner.train(&batch, config, &rates).map_err(|e| {
                self.explain(e, format!("epoch {}, batch {}", epoch + 1, batch.index + 1))
            })?;
            tally.add(&lesson, &batch.labels, config.omega);
            if batch.index == self.train.last_full_batch() {
                tally.probe = Some(self.learner.probe()?);
            }
            self.run.position.batch = batch.index + 1;
            progress.advance(batch.len(), tally.top1_error());
            tally.seconds += begun.elapsed().as_secs_f64();
            begun = Instant::now();
            if self.is_time_to_save() {
                self.run.tally = Some(tally.clone());
                self.save()?;
                begun = Instant::now();
            }
        }
        self.run.tally = Some(tally);
        Ok(true)
    }

    /// The test pass after an epoch; `None` when interrupted.
    fn test_epoch(&mut self) -> Result<Option<Evaluation>> {
        evaluate(
            self.learner,
            &self.run.config,
            &self.run.network,
            &self.test,
            self.interrupted,
        )
        .map_err(|e| {
            self.explain(
                e,
                format!("the test after epoch {}", self.run.position.epoch + 1),
            )
        })
    }

    /// Records an epoch and prints its lines.
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
        self.tracking.log(&record);
        self.collect()?;
        if improved {
            self.folder.save_best(&self.run)?;
        }
        self.write()?;
        let title = format!("epoch {epoch}/{}", self.run.config.epochs);
        say(format_args!(
            "{title:<13} train   {}",
            record.train.columns()
        ));
        let mark = if improved { "   best" } else { "" };
        say(format_args!(
            "{:<13} test    {}{mark}",
            "",
            record.test.columns()
        ));
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

    /// Fetches what only the learner knows.
    fn collect(&mut self) -> Result<()> {
        self.run.learned = self.learner.learned()?;
        let mut values = self.run.learned.parameters.tensors().iter().flatten();
        if !values.all(|value| value.is_finite()) {
            let error = Diverged("a parameter is not finite".into()).into();
            return Err(self.explain(error, format!("epoch {}", self.run.position.epoch + 1)));
        }
        self.run.optimizer = self.learner.optimizer_state()?;
        let within_epoch = (1..self.train.batches()).contains(&self.run.position.batch);
        self.run.kept_state = if within_epoch {
            self.learner.kept_state()?
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
