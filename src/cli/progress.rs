//! What a run shows while it goes on: a bar on stderr when that is a terminal.

use crate::output::say;
use crate::run::{Observer, Record};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

const STYLE: &str = "{prefix} {wide_bar} {pos}/{len} images  {msg}  ETA {eta}";

/// The bar of one pass over a dataset.
struct Progress {
    bar: ProgressBar,
    begun: Instant,
    images: usize,
}

impl Progress {
    /// A bar for a pass over `images` images, of which `done` are over already.
    fn start(title: String, images: usize, done: usize) -> Self {
        let bar = ProgressBar::new(images as u64).with_prefix(title);
        // indicatif draws to stderr, and not at all where that is no terminal.
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style);
        }
        bar.set_position(done as u64);
        bar.reset_eta();
        Self {
            bar,
            begun: Instant::now(),
            images: 0,
        }
    }

    /// A batch of `images` is over; `error` is the fraction of wrong predictions in the pass so far.
    fn advance(&mut self, images: usize, error: f64) {
        self.images += images;
        let rate = self.images as f64 / self.begun.elapsed().as_secs_f64().max(1e-9);
        self.bar
            .set_message(format!("{rate:.0} images/s  error {:.2} %", 100.0 * error));
        self.bar.inc(images as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Prints what a run tells.
#[derive(Default)]
pub struct Printer {
    progress: Option<Progress>,
}

impl Observer for Printer {
    fn pass_begins(&mut self, title: &str, images: usize, done: usize) {
        self.progress = Some(Progress::start(title.to_string(), images, done));
    }

    fn batch_is_over(&mut self, images: usize, error: f64) {
        if let Some(progress) = &mut self.progress {
            progress.advance(images, error);
        }
    }

    fn pass_ends(&mut self) {
        self.progress = None;
    }

    fn epoch_is_saved(&mut self, record: &Record, epochs: usize, is_best: bool) {
        let title = format!("epoch {}/{epochs}", record.epoch);
        say(format_args!(
            "{title:<13} train   {}",
            record.train.columns()
        ));
        let mark = if is_best { "   best" } else { "" };
        say(format_args!(
            "{:<13} test    {}{mark}",
            "",
            record.test.columns()
        ));
    }
}
