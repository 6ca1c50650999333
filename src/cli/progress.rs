//! What a run shows while it goes on: a bar on stderr when that is a terminal, else a line there now and then.

use super::output::{complain, say};
use super::table::duration;
use crate::run::{Observer, Record};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

const STYLE: &str = "{prefix} {wide_bar} {pos}/{len} images  {msg}";
/// Between two lines, if nothing else was asked for.
const INTERVAL: Duration = Duration::from_secs(60);

/// How much is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct ProgressArgs {
    /// Off a terminal, say how far it is every so many seconds; 0: never [default: 60; on a terminal a bar]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true, help_heading = "Run")]
    progress_every: Option<f64>,
}

impl ProgressArgs {
    pub fn shown(&self) -> Shown {
        Shown::every(self.progress_every)
    }
}

/// What is shown of a pass that goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    Nothing,
    Bar,
    /// a line after each such time
    Lines(Duration),
}

impl Shown {
    /// A bar on a terminal, else a line every `seconds`, or every minute; none where that is 0.
    fn every(seconds: Option<f64>) -> Self {
        match seconds {
            None if stderr().is_terminal() => Self::Bar,
            None => Self::Lines(INTERVAL),
            Some(0.0) => Self::Nothing,
            Some(seconds) => Self::Lines(Duration::from_secs_f64(seconds)),
        }
    }
}

/// Seconds between lines: 0 for none.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|&s| s >= 0.0 && Duration::try_from_secs_f64(s).is_ok());
    seconds.ok_or_else(|| "expected seconds, or 0 for no lines".to_string())
}

/// One pass over a dataset.
struct Pass {
    title: String,
    images: usize,
    done: usize,
    /// of those that are done, by this process
    own: usize,
    begun: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Pass {
    /// Seconds that an image takes.
    fn seconds_per_image(&self) -> f64 {
        self.begun.elapsed().as_secs_f64() / self.own.max(1) as f64
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Prints what a run tells.
pub struct Printer {
    shown: Shown,
    pass: Option<Pass>,
    /// that are not over, the present one too
    epochs_left: usize,
    /// that the last epoch took
    epoch_seconds: Option<f64>,
}

impl Printer {
    /// For a run that has so many epochs to go; 0 for a single pass.
    pub fn new(shown: Shown, epochs_left: usize) -> Self {
        Self {
            shown,
            pass: None,
            epochs_left,
            epoch_seconds: None,
        }
    }
}

/// `1234 images/s   error 23.10 %   epoch ends in 30.2 s, run in 2 h 10 min`. Before the first epoch is over its test pass is left out.
fn outlook(
    per_image: f64,
    (images, left): (usize, usize),
    error: f64,
    epochs_left: usize,
    epoch_seconds: Option<f64>,
) -> String {
    let rest = per_image * left as f64;
    let epoch = epoch_seconds.unwrap_or(per_image * images as f64);
    let ends = match epochs_left {
        0 => format!("ends in {}", duration(rest)),
        1 => format!("run ends in {}", duration(rest)),
        n => format!(
            "epoch ends in {}, run in {}",
            duration(rest),
            duration(rest + epoch * (n - 1) as f64)
        ),
    };
    let rate = 1.0 / per_image.max(1e-9);
    // A slow machine has fractions of an image a second.
    let digits = if rate < 10.0 { 2 } else { 0 };
    format!(
        "{rate:.digits$} images/s   error {:.2} %   {ends}",
        100.0 * error
    )
}

impl Observer for Printer {
    fn pass_begins(&mut self, title: &str, images: usize, done: usize) {
        let bar = (self.shown == Shown::Bar).then(|| {
            let bar = ProgressBar::new(images as u64).with_prefix(title.to_string());
            if let Ok(style) = ProgressStyle::with_template(STYLE) {
                bar.set_style(style);
            }
            bar.set_position(done as u64);
            bar
        });
        let now = Instant::now();
        self.pass = Some(Pass {
            title: title.trim().to_string(),
            images,
            done,
            own: 0,
            begun: now,
            told: now,
            bar,
        });
    }

    fn batch_is_over(&mut self, images: usize, error: f64) {
        let Some(pass) = &mut self.pass else { return };
        pass.done += images;
        pass.own += images;
        let is_time = match self.shown {
            Shown::Nothing => false,
            Shown::Bar => true,
            Shown::Lines(interval) => pass.told.elapsed() >= interval,
        };
        if !is_time {
            return;
        }
        pass.told = Instant::now();
        let left = pass.images.saturating_sub(pass.done);
        let (per_image, images) = (pass.seconds_per_image(), (pass.images, left));
        let outlook = outlook(
            per_image,
            images,
            error,
            self.epochs_left,
            self.epoch_seconds,
        );
        match &pass.bar {
            Some(bar) => {
                bar.set_position(pass.done as u64);
                bar.set_message(outlook);
            }
            None => complain(format_args!(
                "{:<13} {}/{} images   {outlook}",
                pass.title, pass.done, pass.images
            )),
        }
    }

    fn pass_ends(&mut self) {
        self.pass = None;
    }

    fn epoch_is_saved(&mut self, record: &Record, epochs: usize, is_best: bool) {
        self.epochs_left = epochs.saturating_sub(record.epoch);
        self.epoch_seconds = Some(record.train.seconds + record.test.seconds);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_run_is_that_of_the_pass_and_the_epochs_after_it() {
        let half = (1000, 500);
        assert_eq!(
            outlook(0.01, half, 0.25, 3, None),
            "100 images/s   error 25.00 %   epoch ends in 5.0 s, run in 25.0 s"
        );
        assert_eq!(
            outlook(0.01, half, 0.25, 3, Some(12.0)),
            "100 images/s   error 25.00 %   epoch ends in 5.0 s, run in 29.0 s"
        );
        assert_eq!(
            outlook(2.0, half, 0.9, 1, None),
            "0.50 images/s   error 90.00 %   run ends in 16 min 40 s"
        );
    }

    #[test]
    fn seconds_between_lines() {
        assert_eq!(seconds("0"), Ok(0.0));
        assert_eq!(seconds("0.5"), Ok(0.5));
        for text in ["-1", "nan", "inf", "1e300", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
