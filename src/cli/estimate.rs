//! How long a run will take, before it begins: a full-width network on a CPU needs a day an epoch, and nobody should find out tomorrow.

use super::table::duration;
use crate::config::Config;
use crate::data::{Batch, Dataset, Shard};
use crate::device::Device;
use crate::network::{ModelState, Network};
use crate::optim::OptimizerState;
use crate::run::loader;
use anyhow::{Context, Result};
use std::time::Instant;

/// Images for each thread in the steps that are timed.
const IMAGES: usize = 8;
/// Iterations of the free and of a nudged phase in the two of them.
const FEW: (usize, usize) = (2, 1);
const MORE: (usize, usize) = (6, 3);
/// Shorter runs need no word.
const LONG: f64 = 120.0;

/// Seconds that images take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    pub train: f64,
    pub test: f64,
}

/// Times training steps of a few images with few iterations, by a rule that is thrown away. Nothing where the CPU does not compute: on a
/// GPU the first line of progress comes soon enough, and a second network there might not fit.
pub fn pace(
    config: &Config,
    network: &Network,
    model: &ModelState,
    data: &Dataset,
) -> Result<Option<Pace>> {
    if config.device.resolved() != Device::Cpu {
        return Ok(None);
    }
    let images = config.batch_size.min(IMAGES * rayon::current_num_threads());
    let mut trial = config.clone();
    trial.batch_size = images;
    let batches = loader(&trial, data.clone().truncated(images), false, Shard::WHOLE)?;
    let batch = batches.epoch(0, 0).next().context("no training images")?;
    let step = |iterations| seconds(&trial, network, model, &batch, iterations);
    let (free, nudged) = (
        config.num_iterations_inference,
        config.num_iterations_training,
    );
    let per_image = 1.0 / batch.len() as f64;
    if !config.algorithm.description().relaxes || free + nudged <= MORE.0 + MORE.1 {
        let train = step((free, nudged))? * per_image;
        // A backward pass is twice a forward pass, and two nudged phases and the gradient not much else.
        return Ok(Some(Pace {
            train,
            test: train / 3.0,
        }));
    }
    let (few, more) = (step(FEW)?, step(MORE)?);
    Ok(Some(extrapolated(few, more, (free, nudged), per_image)))
}

/// From two steps to one of more iterations; there are two nudged phases, or one of pairs.
fn extrapolated(few: f64, more: f64, (free, nudged): (usize, usize), per_image: f64) -> Pace {
    let count = |(free, nudged): (usize, usize)| (free + 2 * nudged) as f64;
    let iteration = (more - few).max(0.0) / (count(MORE) - count(FEW));
    let rest = (few - iteration * count(FEW)).max(0.0);
    Pace {
        train: (rest + iteration * count((free, nudged))) * per_image,
        test: iteration * free as f64 * per_image,
    }
}

/// A step's time: the second one's, when all memory is there.
fn seconds(
    config: &Config,
    network: &Network,
    model: &ModelState,
    batch: &Batch,
    (free, nudged): (usize, usize),
) -> Result<f64> {
    let mut config = config.clone();
    (
        config.num_iterations_inference,
        config.num_iterations_training,
    ) = (free, nudged);
    let mut rule = config.rule(network, None)?;
    rule.set_state(model)?;
    rule.set_optimizer(config.optimizer_config(), &OptimizerState::default())?;
    let rates = vec![0.0; model.parameters.tensors().len()];
    let mut last = 0.0;
    for _ in 0..2 {
        let begun = Instant::now();
        // Whether it goes well is for the run to find out.
        let _ = rule.train(batch, &rates);
        last = begun.elapsed().as_secs_f64();
    }
    Ok(last)
}

/// `about 3 h 20 min an epoch, 13 days in all`, if that is long.
pub fn outlook(pace: Pace, (train, test): (usize, usize), epochs: usize) -> Option<String> {
    let epoch = pace.train * train as f64 + pace.test * test as f64;
    let all = epoch * epochs as f64;
    (all >= LONG).then(|| {
        format!(
            "this will take about {} an epoch, {} in all, as far as a first try tells",
            rounded(epoch),
            rounded(all)
        )
    })
}

/// A time to two digits or so.
fn rounded(seconds: f64) -> String {
    const DAY: f64 = 86400.0;
    match seconds / DAY {
        days if days >= 2.0 => format!("{days:.0} days"),
        _ => duration(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterations_are_extrapolated() {
        // 0.1 s, and 0.01 s an iteration.
        let pace = extrapolated(0.14, 0.22, (120, 50), 0.1);
        assert!((pace.train - 0.1 * (0.1 + 2.2)).abs() < 1e-12);
        assert!((pace.test - 0.1 * 1.2).abs() < 1e-12);
    }

    #[test]
    fn long_runs_are_announced() {
        let pace = Pace {
            train: 1.5,
            test: 0.5,
        };
        assert_eq!(outlook(pace, (10, 10), 5), None);
        let said = outlook(pace, (50_000, 10_000), 300).unwrap();
        assert!(
            said.contains("22 h 13 min an epoch, 278 days in all"),
            "{said}"
        );
    }
}
