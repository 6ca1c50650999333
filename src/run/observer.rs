//! Who listens to a run: the printer of the command line, TensorBoard, Weights & Biases.

use super::Record;
use crate::network::ParameterSet;

/// What a run tells while it goes on, in this order; a listener takes what it wants. Nothing that a listener does changes the run.
pub trait Observer {
    /// A pass over `images` images begins, of which `done` are over already.
    fn pass_begins(&mut self, _title: &str, _images: usize, _done: usize) {}

    /// A batch of `images` is over; `error` is the fraction of wrong predictions in the pass so far.
    fn batch_is_over(&mut self, _images: usize, _error: f64) {}

    /// The pass is over, or was interrupted.
    fn pass_ends(&mut self) {}

    /// An epoch is over and recorded in the run's folder.
    fn epoch_is_recorded(&mut self, _record: &Record) {}

    /// The parameters after that epoch.
    fn epoch_ends_with(&mut self, _epoch: usize, _parameters: &ParameterSet<f64>) {}

    /// The same epoch is in the checkpoint too, of a run of `epochs`; whether its test error is the smallest so far.
    fn epoch_is_saved(&mut self, _record: &Record, _epochs: usize, _is_best: bool) {}

    /// The run came to its end with the exit status that the process will have. Not told when an error ended it.
    fn run_ends(&mut self, _exit_code: u8) {}
}

/// Listens to nothing.
impl Observer for () {}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn pass_begins(&mut self, title: &str, images: usize, done: usize) {
        self.0.pass_begins(title, images, done);
        self.1.pass_begins(title, images, done);
    }

    fn batch_is_over(&mut self, images: usize, error: f64) {
        self.0.batch_is_over(images, error);
        self.1.batch_is_over(images, error);
    }

    fn pass_ends(&mut self) {
        self.0.pass_ends();
        self.1.pass_ends();
    }

    fn epoch_is_recorded(&mut self, record: &Record) {
        self.0.epoch_is_recorded(record);
        self.1.epoch_is_recorded(record);
    }

    fn epoch_ends_with(&mut self, epoch: usize, parameters: &ParameterSet<f64>) {
        self.0.epoch_ends_with(epoch, parameters);
        self.1.epoch_ends_with(epoch, parameters);
    }

    fn epoch_is_saved(&mut self, record: &Record, epochs: usize, is_best: bool) {
        self.0.epoch_is_saved(record, epochs, is_best);
        self.1.epoch_is_saved(record, epochs, is_best);
    }

    fn run_ends(&mut self, exit_code: u8) {
        self.0.run_ends(exit_code);
        self.1.run_ends(exit_code);
    }
}
