//! How long a run will take and how much memory, before it begins: a full-width network on a CPU needs a day an epoch, and nobody
//! should find out tomorrow.

use super::table::duration;
use crate::config::Config;
use crate::data::{Batch, Dataset, Shard};
use crate::device::Device;
use crate::network::{ModelState, Network};
use crate::optim::OptimizerState;
use crate::run::{loader, memory};
use anyhow::{Context, Result};
use std::time::Instant;

/// Images for each thread in the steps that are timed.
const IMAGES: usize = 8;
/// Iterations of the free and of a nudged phase in the two of them.
const FEW: (usize, usize) = (2, 1);
const MORE: (usize, usize) = (6, 3);
/// Shorter runs need no word.
const LONG: f64 = 120.0;

/// What images take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// seconds an image
    pub train: f64,
    /// the same
    pub test: f64,
    /// MiB of the process with a whole batch, where the system tells it
    pub memory: Option<f64>,
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
    let step = |iterations| costs(&trial, network, model, &batch, iterations);
    // What does not grow with the images.
    let mut alone = trial.clone();
    alone.batch_size = 1;
    let one = loader(&alone, data.clone().truncated(1), false, Shard::WHOLE)?;
    let one = one.epoch(0, 0).next().context("no training images")?;
    let one = costs(&alone, network, model, &one, FEW)?.1;
    let whole = |part| extrapolated_memory(one, part, batch.len(), config.batch_size);
    let (free, nudged) = (
        config.num_iterations_inference,
        config.num_iterations_training,
    );
    let per_image = 1.0 / batch.len() as f64;
    if !config.algorithm.description().relaxes || free + nudged <= MORE.0 + MORE.1 {
        let (seconds, memory) = step((free, nudged))?;
        let train = seconds * per_image;
        // A backward pass is twice a forward pass, and two nudged phases and the gradient not much else.
        return Ok(Some(Pace {
            train,
            test: train / 3.0,
            memory: whole(memory),
        }));
    }
    let ((few, _), (more, memory)) = (step(FEW)?, step(MORE)?);
    Ok(Some(Pace {
        memory: whole(memory),
        ..extrapolated(few, more, (free, nudged), per_image)
    }))
}

/// From the memory with one image and with several of a batch.
fn extrapolated_memory(
    one: Option<f64>,
    part: Option<f64>,
    images: usize,
    batch: usize,
) -> Option<f64> {
    let (one, part) = (one?, part?);
    let more = batch.saturating_sub(images) as f64;
    let each = (part - one).max(0.0) / images.saturating_sub(1).max(1) as f64;
    Some(part.max(one) + more * each)
}

/// From two steps to one of more iterations; there are two nudged phases, or one of pairs.
fn extrapolated(few: f64, more: f64, (free, nudged): (usize, usize), per_image: f64) -> Pace {
    let count = |(free, nudged): (usize, usize)| (free + 2 * nudged) as f64;
    let iteration = (more - few).max(0.0) / (count(MORE) - count(FEW));
    let rest = (few - iteration * count(FEW)).max(0.0);
    Pace {
        train: (rest + iteration * count((free, nudged))) * per_image,
        test: iteration * free as f64 * per_image,
        memory: None,
    }
}

/// A step's seconds, the second one's, when all memory is there; and the MiB of the process then.
fn costs(
    config: &Config,
    network: &Network,
    model: &ModelState,
    batch: &Batch,
    (free, nudged): (usize, usize),
) -> Result<(f64, Option<f64>)> {
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
    Ok((last, memory::resident_mib()))
}

/// `about 3 h 20 min an epoch, 13 days in all, and 1.4 GiB of memory`, if that is long.
pub fn outlook(pace: Pace, (train, test): (usize, usize), epochs: usize) -> Option<String> {
    let epoch = pace.train * train as f64 + pace.test * test as f64;
    let all = epoch * epochs as f64;
    (all >= LONG).then(|| {
        let memory = pace.memory.map_or(String::new(), |mib| {
            format!(", and {} of memory", size(mib))
        });
        format!(
            "this will take about {} an epoch, {} in all{memory}, as far as a first try tells",
            rounded(epoch),
            rounded(all)
        )
    })
}

/// To two digits or so.
fn size(mib: f64) -> String {
    match mib / 1024.0 {
        gib if gib >= 1.0 => format!("{gib:.1} GiB"),
        _ => format!("{mib:.0} MiB"),
    }
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
    fn memory_grows_with_the_batch() {
        assert_eq!(
            extrapolated_memory(Some(100.0), Some(130.0), 16, 128),
            Some(354.0)
        );
        assert_eq!(
            extrapolated_memory(Some(100.0), Some(99.0), 16, 128),
            Some(100.0)
        );
        assert_eq!(extrapolated_memory(None, Some(130.0), 16, 128), None);
    }

    #[test]
    fn long_runs_are_announced() {
        let pace = Pace {
            train: 1.5,
            test: 0.5,
            memory: Some(1434.0),
        };
        assert_eq!(outlook(pace, (10, 10), 5), None);
        let said = outlook(pace, (50_000, 10_000), 300).unwrap();
        assert!(
            said.contains("22 h 13 min an epoch, 278 days in all, and 1.4 GiB of memory"),
            "{said}"
        );
    }
}
