//! Which values of a setting make sense.

use super::settings::Config;
use super::tolerance;
use crate::error::Result;
use crate::network::presets::{self, PAPER_CHANNELS};
use crate::usage::UsageError;

/// Widths above this are a slip of the finger, and would exhaust the memory before anything could be said about it.
const MAX_CHANNELS: usize = 8192;
const MAX_THREADS: usize = 1024;

impl Config {
    /// An error names the first setting whose value makes no sense.
    pub(super) fn check_ranges(&self) -> Result<()> {
        at_least_one("epochs", self.epochs)?;
        at_least_one("batch-size", self.batch_size)?;
        at_least_one("num-iterations-inference", self.num_iterations_inference)?;
        at_least_one("num-iterations-training", self.num_iterations_training)?;
        for (name, value) in [
            ("limit-train", self.limit_train),
            ("limit-test", self.limit_test),
            ("threads", self.threads),
            ("save-every", self.save_every),
        ] {
            value.map_or(Ok(()), |value| at_least_one(name, value))?;
        }
        let threads = self.threads.unwrap_or(1);
        check(threads <= MAX_THREADS, "threads", threads, "at most 1024")?;
        check(
            self.seed <= i64::MAX as u64,
            "seed",
            self.seed,
            "at most 9223372036854775807",
        )?;
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let not_negative = |v: f64| v.is_finite() && v >= 0.0;
        check(positive(self.beta), "beta", self.beta, "a positive number")?;
        let momentum = (0.0..1.0).contains(&self.momentum);
        check(
            momentum,
            "momentum",
            self.momentum,
            "a number from 0 to below 1",
        )?;
        let decay = self.weight_decay;
        check(
            not_negative(decay),
            "weight-decay",
            decay,
            "0 or a positive number",
        )?;
        let omega = positive(self.omega) && self.omega < 2.0;
        check(
            omega,
            "omega",
            self.omega,
            "a number between 0 and 2 (1.6 is a good one)",
        )?;
        for (name, value) in [
            ("tolerance", self.tolerance),
            ("tolerance-nudged", self.tolerance_nudged),
        ] {
            let value = value.and_then(|tolerance| tolerance.0).unwrap_or(0.5);
            let fits = positive(value) && value < 1.0;
            check(fits, name, value, tolerance::EXPECTED)?;
        }
        let end = self.eta_min.unwrap_or(0.0);
        check(not_negative(end), "eta-min", end, "0 or a positive number")?;
        if let Some(every) = self.restart_every {
            at_least_one("restart-every", every)?;
            let expected = "--use-warm-restarts beside it";
            check(self.use_warm_restarts, "restart-every", every, expected)?;
        }
        let rate = self.learning_rate.unwrap_or(0.0);
        check(
            not_negative(rate),
            "learning-rate",
            rate,
            "0 or a positive number",
        )?;
        for (name, list) in [
            ("weight-gains", &self.weight_gains),
            ("learning-rates-weights", &self.learning_rates_weights),
            ("learning-rates-biases", &self.learning_rates_biases),
        ] {
            for &value in list {
                check(not_negative(value), name, value, "0 or positive numbers")?;
            }
        }
        if let Some(channels) = &self.channels {
            let published = presets::find(&self.network).map_or(&PAPER_CHANNELS[..], |p| p.widths);
            let fits = channels.len() == published.len()
                && channels.iter().all(|c| (1..=MAX_CHANNELS).contains(c));
            let list = |widths: &[usize]| {
                let widths: Vec<String> = widths.iter().map(ToString::to_string).collect();
                widths.join(",")
            };
            let expected = format!(
                "{} widths from 1 to {MAX_CHANNELS}, such as {}",
                published.len(),
                list(published)
            );
            check(fits, "channels", list(channels), &expected)?;
        }
        Ok(())
    }
}

fn check(holds: bool, name: &str, value: impl std::fmt::Display, expected: &str) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(UsageError(format!("--{name} {value}: expected {expected}")).into()),
    }
}

fn at_least_one(name: &str, value: usize) -> Result<()> {
    let fits = (1..=i64::MAX as usize).contains(&value);
    check(fits, name, value, "a whole number of at least 1")
}
