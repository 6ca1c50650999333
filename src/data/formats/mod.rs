//! The formats that datasets are published in, a file each: from bytes to labelled images, without trusting any of them.
//!
//! Whatever a header claims, no more is allocated than a dataset can hold.

pub mod cifar;
pub mod idx;
pub(crate) mod read;

use std::path::Path;

use super::{DataError, Dataset};

/// How the files of a dataset are read, and where they usually lie.
pub enum Format {
    /// Four idx files inside the program: training images, training labels, test images, test labels.
    Embedded(&'static [(&'static str, &'static [u8]); 4]),
    /// Four idx files, with or without `.gz`, in one of these folders; downloads go to the first.
    Idx { folders: &'static [&'static str] },
    /// An archive, or its unpacked folder, in one of these layouts; the first is the one that is downloaded.
    Cifar(&'static [cifar::Layout]),
}

/// What a file must hold.
#[derive(Clone, Copy, Debug)]
pub struct Contents {
    /// For messages.
    pub dataset: &'static str,
    pub channels: usize,
    /// Height and width, in pixels.
    pub side: usize,
    pub classes: usize,
}

impl Contents {
    /// Bytes per image.
    pub(super) fn pixels(&self) -> usize {
        self.channels * self.side * self.side
    }

    /// Every label must name a class.
    pub(super) fn check_labels(&self, path: &Path, labels: &[u8]) -> Result<(), DataError> {
        let wrong = |&label: &u8| usize::from(label) >= self.classes;
        match labels.iter().position(wrong) {
            None => Ok(()),
            Some(index) => Err(DataError::Label {
                path: path.to_owned(),
                dataset: self.dataset,
                classes: self.classes,
                index,
                label: labels[index],
            }),
        }
    }

    pub(super) fn dataset(&self, images: Vec<u8>, labels: Vec<u8>) -> Dataset {
        Dataset {
            images,
            labels,
            channels: self.channels,
            height: self.side,
            width: self.side,
            classes: self.classes,
        }
    }
}
