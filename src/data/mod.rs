//! Datasets, augmentation and loading.
//!
//! A picture's way to the network: [`load`] finds or downloads the files of a [`DatasetName`] and reads them into two
//! [`Dataset`]s of 8-bit images; a [`Loader`] shuffles one of them, applies the
//! [`Augmentation`] on threads of its own, normalises, and hands out [`Batch`]es in a
//! fixed order. The recipe of each dataset (what the published experiments do to it) is a method of its name:
//! [`DatasetName::augmentation`] and [`DatasetName::normalization`].
//!
//! Everything random depends on the seed, the epoch and the index of the example alone, never on the number of threads.

pub mod augment;
pub mod loader;

mod dataset;
mod download;
mod error;
mod formats;
mod image;
mod normalize;
mod own;
mod profile;
pub(crate) mod rng;
mod sets;
mod source;

pub use augment::{Augment, Augmentation};
pub use dataset::{Dataset, SIDE, Splits};
pub use error::DataError;
pub use formats::{Contents, Format, cifar};
pub use image::Image;
pub use loader::{Batch, Loader, LoaderOptions, Shard};
pub use normalize::{Normalization, Normalize, normalize};
pub use profile::Profile;
pub use sets::{DatasetName, Set};
pub use source::{Manifest, Plan, RemoteFile, Source};

/// Finds, or else downloads, the dataset `name` and reads it.
///
/// # Errors
/// [`DataError`]: not found, not downloaded, damaged, or not the dataset.
pub fn load(name: DatasetName, source: &Source) -> Result<Splits, DataError> {
    Plan::published(name, source).load()
}

/// [`load`] for a network whose input has `(height, width)` pixels.
///
/// # Errors
/// Also when the dataset has no images of this size, even padded.
pub fn load_at(
    name: DatasetName,
    source: &Source,
    size: (usize, usize),
) -> Result<Splits, DataError> {
    Plan::published(name, source).load_at(size)
}
