//! One's own images: what lies in a folder, what it is like, and reading it.

use std::path::{Path, PathBuf};

use super::formats::classes::{self, Listing};
use super::formats::{Contents, idx, npy};
use super::{DataError, Profile, Splits};

/// Names of the two halves of a folder with a folder per class.
const TRAIN: &str = "train";
const TEST: [&str; 2] = ["test", "val"];
/// Names of arrays: training images and labels, test images and labels.
const ARRAYS: [[&str; 4]; 2] = [
    [
        "train_images.npy",
        "train_labels.npy",
        "test_images.npy",
        "test_labels.npy",
    ],
    ["x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"],
];
/// The same of the MNIST family.
const IDX: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];
/// What a folder may hold, for a message.
const EXPECTED: &str = "train/CLASS/*.png (or .jpg) with test/ or val/ beside train/; train_images.npy, train_labels.npy, \
     test_images.npy and test_labels.npy; or the four idx files of the MNIST family";

/// Labels have a byte.
const MOST_CLASSES: usize = 256;
/// Small images are padded to the 32x32 pixels of the published networks, as those of the MNIST family.
const PADDED: ((usize, usize), usize) = ((28, 28), 2);

/// What lies in a folder.
pub(super) enum Own {
    /// a folder per class, of training and of test images
    Classes { train: PathBuf, test: PathBuf },
    /// training images and labels, test images and labels
    Arrays([PathBuf; 4]),
    /// the same
    Idx([PathBuf; 4]),
}

impl Own {
    /// Looks into `folder`.
    ///
    /// # Errors
    /// When there is nothing that is known, or only a part of it.
    pub(super) fn find(folder: &Path) -> Result<Self, DataError> {
        let train = folder.join(TRAIN);
        if train.is_dir() {
            let test = TEST.iter().map(|name| folder.join(name));
            let test = test.into_iter().find(|test| test.is_dir());
            let test = test.ok_or_else(|| {
                DataError::own(
                    folder,
                    "it has train/, but no test/ or val/ beside it: put the test images there",
                )
            })?;
            return Ok(Self::Classes { train, test });
        }
        for names in ARRAYS {
            let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
            if let Some(files) = all_of(folder, names, there)? {
                return Ok(Self::Arrays(files));
            }
        }
        match all_of(folder, IDX, |name| idx::file(folder, name))? {
            Some(files) => Ok(Self::Idx(files)),
            None => Err(DataError::own(
                folder,
                format!("no images of a known layout are in it; expected {EXPECTED}"),
            )),
        }
    }

    /// What the images are like, from headers and labels alone.
    ///
    /// # Errors
    /// When they cannot be read, or do not go together.
    pub(super) fn profile(&self) -> Result<Profile, DataError> {
        let (path, (channels, height, width), classes) = match self {
            Self::Classes { train, .. } => {
                let listing = Listing::of(train, None)?;
                (train, listing.looks()?, listing.classes)
            }
            Self::Arrays([images, labels, ..]) => {
                let shape = npy::images_shape(images)?;
                (labels, shape, numbered(&npy::read_labels(labels)?))
            }
            Self::Idx([images, labels, ..]) => {
                let (height, width) = idx::images_size(images)?;
                (
                    labels,
                    (1, height, width),
                    numbered(&idx::read_labels(labels)?),
                )
            }
        };
        if !(2..=MOST_CLASSES).contains(&classes.len()) {
            return Err(DataError::own(
                path,
                format!(
                    "it has {} classes; expected 2 to {MOST_CLASSES}",
                    classes.len()
                ),
            ));
        }
        let size = (height, width);
        let (small, pad) = PADDED;
        Ok(Profile {
            channels,
            size,
            pad: if size == small { pad } else { 0 },
            classes,
        })
    }

    /// The images as they are in the files.
    ///
    /// # Errors
    /// When one cannot be read, or is unlike the others.
    pub(super) fn read(&self) -> Result<Splits, DataError> {
        let profile = self.profile()?;
        let contents = Contents {
            dataset: "folder",
            channels: profile.channels,
            height: profile.size.0,
            width: profile.size.1,
            classes: profile.classes.len(),
        };
        let (train, test) = match self {
            Self::Classes { train, test } => (
                classes::read(&contents, &Listing::of(train, None)?)?,
                classes::read(&contents, &Listing::of(test, Some(&profile.classes))?)?,
            ),
            Self::Arrays([images, labels, test_images, test_labels]) => (
                npy::read_pair(&contents, images, labels)?,
                npy::read_pair(&contents, test_images, test_labels)?,
            ),
            Self::Idx([images, labels, test_images, test_labels]) => (
                idx::read_pair(&contents, images, labels)?,
                idx::read_pair(&contents, test_images, test_labels)?,
            ),
        };
        Ok(Splits { train, test })
    }
}

/// The four files, if the first of them is there or any other.
fn all_of(
    folder: &Path,
    names: [&str; 4],
    there: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Option<[PathBuf; 4]>, DataError> {
    match names.map(&there) {
        [Some(a), Some(b), Some(c), Some(d)] => Ok(Some([a, b, c, d])),
        found if found.iter().all(Option::is_none) => Ok(None),
        found => {
            let missing = found.iter().position(Option::is_none).unwrap_or(0);
            Err(DataError::own(
                folder,
                format!("{} is missing; put it beside the others", names[missing]),
            ))
        }
    }
}

/// As many classes as the labels have, called by their numbers.
fn numbered(labels: &[u8]) -> Vec<String> {
    let classes = labels.iter().max().map_or(0, |&last| usize::from(last) + 1);
    (0..classes).map(|class| class.to_string()).collect()
}
