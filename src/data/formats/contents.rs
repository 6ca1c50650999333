//! What the files of a dataset hold, as the formats have to know it.

use std::path::Path;

use crate::data::{DataError, Dataset};

/// What a file must hold.
#[derive(Clone, Copy, Debug)]
pub struct Contents {
    /// For messages.
    pub dataset: &'static str,
    /// Values a pixel.
    pub channels: usize,
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
    /// Labels are below this number.
    pub classes: usize,
}

impl Contents {
    /// Bytes per image.
    pub(super) fn pixels(&self) -> usize {
        self.channels * self.height * self.width
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
            height: self.height,
            width: self.width,
            classes: self.classes,
        }
    }
}
