//! The images of a run, and their batches.

use super::interrupt;
use crate::config::Config;
use crate::data::{Dataset, DatasetName, Loader, LoaderOptions, Normalize, Plan, Shard, Splits};
use crate::error::{Error, Result};
use crate::network::Network;
use std::sync::Arc;

/// Loads the configured dataset at the size that the network takes, cut to the limits. Of a folder's images the constants of
/// `--normalize auto` are put into the configuration, which keeps them: they are those of the training images, as the network gets them.
///
/// # Errors
/// When it cannot be had, or the process was asked to end meanwhile ([`Error::Interrupted`]).
pub fn load_data(config: &mut Config, network: &Network) -> Result<Splits> {
    let _watch = interrupt::watch("the dataset is given up")?;
    let loaded = Plan {
        stop: interrupt::requested,
        ..Plan::published(config.dataset, &config.source())
    }
    .load_at((network.input().shape.height, network.input().shape.width));
    if interrupt::requested() {
        return Err(Error::Interrupted);
    }
    let mut splits = loaded?;
    if config.dataset == DatasetName::Folder && config.normalize == Normalize::Auto {
        config.normalize = Normalize::of(&splits.train);
    }
    // A folder's images may be in the order of their classes.
    let cut = match config.dataset {
        DatasetName::Folder => Dataset::spread,
        _ => Dataset::truncated,
    };
    if let Some(limit) = config.limit_train {
        splits.train = cut(splits.train, limit);
    }
    if let Some(limit) = config.limit_test {
        splits.test = cut(splits.test, limit);
    }
    Ok(splits)
}

/// Most threads that make batches; more than this are never behind.
const MAX_LOADER_THREADS: usize = 8;
/// Batches that wait for the network: a short stall of the disk or of a thread goes unnoticed.
const PREFETCH: usize = 4;

/// Batches of a dataset, or of each the rows of a rank; training batches are shuffled and augmented.
///
/// # Errors
/// When the normalisation is that of images of another number of channels.
pub fn loader(config: &Config, dataset: Dataset, training: bool, shard: Shard) -> Result<Loader> {
    let threads = config.threads.unwrap_or_else(rayon::current_num_threads);
    let options = LoaderOptions {
        batch_size: config.batch_size,
        shuffle: training,
        augment: training.then(|| config.augmentation(dataset.size())),
        normalization: config.normalization(dataset.channels)?,
        seed: config.seed,
        threads: threads.min(MAX_LOADER_THREADS),
        prefetch: PREFETCH,
        shard,
    };
    Ok(Loader::new(Arc::new(dataset), options))
}
