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
use super::metrics::{Record, Tally};
use super::observer::Observer;
use crate::data::Loader;
use crate::error::{Context, Error, Result, ensure};
use crate::learn::LearningRule;
use crate::parallel::{Alone, Ranks};
use crate::shown::shell_word;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A run that was not told how often to save loses at most about this much when it is killed.
const SAVE_INTERVAL: Duration = Duration::from_secs(600);

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending {
    /// all epochs are done; the best one, unless there was none
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
    /// on the first rank alone, which writes for all
    folder: Option<RunFolder>,
    observer: &'a mut dyn Observer,
    interrupted: &'a dyn Fn() -> bool,
    ranks: Rc<dyn Ranks>,
    saved: Instant,
    /// a checkpoint that is written once another batch has shown that its parameters are good ones
    unproven: Option<Vec<u8>>,
    /// whether a batch went well since the run was begun or resumed: that the last checkpoint is a good one
    proven: bool,
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
        let ranks = Rc::new(Alone);
        Self::on_ranks(
            run,
            rule,
            (train, test),
            Some(folder),
            observer,
            interrupted,
            ranks,
        )
    }

    /// The same as one of several processes, whose loaders give it its rows, and of which the first has the folder. All of them make
    /// every step together.
    ///
    /// # Errors
    /// When the rule's device cannot take the state.
    pub fn on_ranks(
        run: Checkpoint,
        rule: &'a mut dyn LearningRule,
        (train, test): (Loader, Loader),
        folder: Option<RunFolder>,
        observer: &'a mut dyn Observer,
        interrupted: &'a dyn Fn() -> bool,
        ranks: Rc<dyn Ranks>,
    ) -> Result<Self> {
        let mut run = run;
        // The first rank has what all of them counted; the others begin to count, but only where it goes on.
        if ranks.shard().rank > 0 {
            run.tally = run.tally.map(|_| Default::default());
        }
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
            ranks,
            saved: Instant::now(),
            unproven: None,
            proven: false,
        })
    }

    /// Trains until the last epoch is over or until it is interrupted.
    ///
    /// # Errors
    /// When numbers run away ([`Error::Diverged`]), or when the device or the folder fails.
    pub fn run(mut self) -> Result<Ending> {
        self.begin()?;
        if let Some(folder) = &self.folder {
            folder.save_config(&self.run.config, &self.run.network)?;
        }
        while self.run.position.epoch < self.run.config.epochs {
            let trained = self.train_epoch()?;
            let tested = if trained { self.test_epoch()? } else { None };
            let Some(tested) = tested else {
                self.save()?;
                self.observer.run_ends(interrupt::exit_code());
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
        // Whether a batch of this session is over, after which it may be time to save.
        let mut has_trained = false;
        for batch in self.train.epoch(epoch as u64, first) {
            let save = has_trained && self.is_time_to_save();
            let [stop, save] = self.ranks.any_of([(self.interrupted)(), save])?;
            if stop {
                self.observer.pass_ends();
                self.run.tally = Some(tally);
                return Ok(false);
            }
            if save {
                begun += self.set_aside(&tally)?;
            }
            let report = self.rule.train(&batch, &rates).map_err(|e| {
                self.explain(e, format!("epoch {}, batch {}", epoch + 1, batch.index + 1))
            })?;
            self.parameters_are_good()?;
            tally.add(&report, &batch.labels, &self.run.config);
            if batch.index == self.train.last_full_batch() {
                tally.probe = Some(self.rule.probe()?);
            }
            if self.run.config.published_series {
                (tally.magnitudes).add(&self.rule.magnitudes(&batch, true)?);
            }
            self.run.position.batch = batch.index + 1;
            let examples = self.train.batch_examples(batch.index);
            (self.observer).batch_is_over(examples, tally.top1_error());
            tally.seconds += begun.elapsed().as_secs_f64();
            begun = Instant::now();
            has_trained = true;
        }
        // Before the test pass, which may be long.
        if self.ranks.any(has_trained && self.is_time_to_save())? {
            self.set_aside(&tally)?;
        }
        self.observer.pass_ends();
        self.run.tally = Some(tally);
        Ok(true)
    }

    /// Makes a checkpoint, which is written once another batch has shown that it is a good one; how long that took.
    fn set_aside(&mut self, tally: &Tally) -> Result<Duration> {
        let begun = Instant::now();
        self.run.tally = Some(tally.clone());
        self.collect()?;
        self.unproven = self.checkpoint()?;
        self.saved = Instant::now();
        Ok(begun.elapsed())
    }

    /// The test pass after an epoch; `None` when interrupted.
    fn test_epoch(&mut self) -> Result<Option<Evaluation>> {
        let interrupted = || self.ranks.any((self.interrupted)());
        evaluate(
            self.rule,
            &self.run.config,
            &self.run.network,
            &self.test,
            self.observer,
            &interrupted,
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
        let ranks = &*self.ranks;
        let tally = self.run.tally.take().unwrap_or_default().over(ranks)?;
        let tested = tested.tally.over(ranks)?;
        let record = Record {
            epoch,
            train: tally.measures(),
            test: tested.measures(),
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
        if let Some(folder) = &mut self.folder {
            let recorded = folder.add_record(&record);
            recorded.with_context(|| no_room(folder))?;
        }
        self.observer.epoch_is_recorded(&record);
        self.collect()?;
        (self.observer).epoch_ends_with(epoch, &self.run.model.parameters);
        if let (true, Some(folder)) = (improved, &self.folder) {
            let saved = folder.save_best(&self.run);
            saved.with_context(|| no_room(folder))?;
        }
        // Newer than one that waits, and the test pass went well.
        self.unproven = None;
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

    /// Makes the folder one that can be resumed from.
    fn begin(&mut self) -> Result<()> {
        self.collect()?;
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let saved = folder.save_last(&self.run.encode()?);
        if saved.is_err() && self.run.position == Position::default() {
            folder.abandon();
        }
        saved.context(
            "the run cannot be saved, so it does not begin; make room, or choose another --output",
        )
    }

    /// A batch went well with them: what was to be saved before it is worth keeping.
    fn parameters_are_good(&mut self) -> Result<()> {
        self.proven = true;
        match self.unproven.take() {
            Some(checkpoint) => self.put(&checkpoint),
            None => Ok(()),
        }
    }

    fn save(&mut self) -> Result<()> {
        self.collect()?;
        self.write()
    }

    /// Fetches what only the rule knows.
    fn collect(&mut self) -> Result<()> {
        self.run.model = self.rule.state()?;
        let sum: f64 = self.run.model.parameters.tensors().iter().flatten().sum();
        ensure!(
            Ranks,
            !sum.is_finite() || self.ranks.agree(sum)?,
            "the ranks have drifted apart: their parameters are not the same; all of them must run the same program on the same kind of processor"
        );
        // What the others had of the epoch is in the first one's part from here on.
        let tally = self.run.tally.take();
        self.run.tally = tally.map(|tally| tally.over(&*self.ranks)).transpose()?;
        self.run.optimizer = self.rule.optimizer_state()?;
        let moments = self.run.optimizer.moments.iter();
        for (what, mut tensors) in std::iter::once(("parameter", &self.run.model.parameters))
            .chain(moments.map(|moment| ("moment of the optimizer", moment)))
            .map(|(what, set)| (what, set.tensors().iter()))
        {
            if !tensors.all(|tensor| tensor.iter().all(|value| value.is_finite())) {
                let error = Error::Diverged(format!("a {what} is not finite"));
                return Err(self.explain(error, format!("epoch {}", self.run.position.epoch + 1)));
            }
        }
        let within_epoch = (1..self.train.batches()).contains(&self.run.position.batch);
        self.run.kept_state = if within_epoch {
            self.rule.kept_state()?
        } else {
            None
        };
        Ok(())
    }

    /// What is to be written, by whoever has the folder.
    fn checkpoint(&self) -> Result<Option<Vec<u8>>> {
        let encoded = self.folder.as_ref().map(|_| self.run.encode());
        encoded.transpose()
    }

    fn write(&mut self) -> Result<()> {
        match self.checkpoint()? {
            Some(checkpoint) => self.put(&checkpoint),
            None => Ok(()),
        }
    }

    fn put(&mut self, checkpoint: &[u8]) -> Result<()> {
        self.saved = Instant::now();
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        folder
            .save_last(checkpoint)
            .with_context(|| no_room(folder))
    }

    /// What to say when numbers ran away, and how to go on.
    fn explain(&self, error: Error, place: String) -> Error {
        if !matches!(error.root(), Error::Diverged(_)) {
            return error.during(place);
        }
        let relaxes = !(self.run.config.algorithm.description().foreign).contains(&"omega");
        let remedies = match relaxes {
            true => "a smaller learning rate, more iterations, or a smaller omega",
            false => "a smaller learning rate",
        };
        let Some(folder) = &self.folder else {
            return Error::Diverged(format!(
                "the training diverged in {place}: {error}; begin another run with {remedies}"
            ));
        };
        let last = folder.last();
        let last = last.display();
        let kept = match (self.proven, self.run.best) {
            (true, _) => format!("the last good checkpoint is {last}"),
            (false, _) if self.run.position == Position::default() => {
                "it does so from its beginning".to_string()
            }
            (false, Some(best)) => format!(
                "{last} leads there; best.safetensors beside it, of epoch {}, is an earlier one",
                best.epoch
            ),
            (false, None) => format!("{last} leads there"),
        };
        let rates = self.run.config.learning_rates(0);
        let rate = rates.into_iter().fold(0.0, f64::max) / 10.0;
        Error::Diverged(format!(
            "the training diverged in {place}: {error}; {kept}; a resumed run keeps its settings, so begin another with \
             {remedies}, for instance `eqprop-cuda train --config {} --learning-rate {rate:.1e}`",
            shell_word(&folder.config())
        ))
    }
}

fn no_room(folder: &RunFolder) -> String {
    format!(
        "the run cannot be saved; make room and go on with `eqprop-cuda train --resume {}`",
        shell_word(folder.path())
    )
}
