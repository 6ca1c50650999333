//! What a run shows while it goes on: a bar on stderr when that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

const STYLE: &str = "{prefix} {wide_bar} {pos}/{len} images  {msg}  ETA {eta}";

/// The bar of one pass over a dataset.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    images: usize,
}

impl Progress {
    /// A bar for a pass over `images` images, of which `done` are over already.
    pub fn start(title: String, images: usize, done: usize) -> Self {
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
    pub fn advance(&mut self, images: usize, error: f64) {
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
