//! Labelled images in memory.

use super::augment::pad_zero;
use super::{DatasetName, Image};

/// Height and width of every image that leaves this module, in pixels.
pub const SIDE: usize = 32;

/// Labelled images in memory, 32 x 32 pixels of 8 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: DatasetName,
    /// `(N, C, 32, 32)`.
    pub images: Vec<u8>,
    /// N labels, each below `classes`.
    pub labels: Vec<u8>,
    pub channels: usize,
    pub classes: usize,
}

/// The two halves of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    pub train: Dataset,
    pub test: Dataset,
}

impl Dataset {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes per image.
    pub(super) fn stride(&self) -> usize {
        self.channels * SIDE * SIDE
    }

    /// The bytes of example `i`, `(C, 32, 32)`.
    ///
    /// # Panics
    /// If there are not that many examples.
    pub fn bytes(&self, i: usize) -> &[u8] {
        &self.images[i * self.stride()..(i + 1) * self.stride()]
    }

    /// A copy of the image of example `i`.
    ///
    /// # Panics
    /// If there are not that many examples.
    pub fn image(&self, i: usize) -> Image {
        Image {
            channels: self.channels,
            height: SIDE,
            width: SIDE,
            data: self.bytes(i).to_vec(),
        }
    }

    /// The first `n` examples (all of them if there are fewer).
    pub fn truncated(mut self, n: usize) -> Self {
        let n = n.min(self.len());
        self.images.truncate(n * self.stride());
        self.labels.truncate(n);
        self
    }

    /// A dataset from grey 28 x 28 images, which are padded to 32 x 32 with black.
    pub(super) fn from_28(name: DatasetName, pixels: &[u8], labels: Vec<u8>) -> Self {
        const SMALL: usize = 28;
        let mut images = Vec::with_capacity(labels.len() * SIDE * SIDE);
        for data in pixels.chunks_exact(SMALL * SMALL) {
            let small = Image {
                channels: 1,
                height: SMALL,
                width: SMALL,
                data: data.to_vec(),
            };
            images.extend(pad_zero(&small, (SIDE - SMALL) / 2).data);
        }
        Self::new(name, images, labels)
    }

    /// A dataset from images that have their final size.
    pub(super) fn new(name: DatasetName, images: Vec<u8>, labels: Vec<u8>) -> Self {
        Self {
            name,
            images,
            labels,
            channels: name.channels(),
            classes: name.classes(),
        }
    }
}
