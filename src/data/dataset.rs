//! Labelled images in memory.

use super::Image;
use super::augment::pad_zero;

/// Height and width of the images that the published networks take, in pixels.
pub const SIDE: usize = 32;

/// Labelled images in memory, of 8 bits a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// `(N, C, H, W)`.
    pub images: Vec<u8>,
    /// N labels, each below `classes`.
    pub labels: Vec<u8>,
    /// C: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// Number of classes; labels are below it.
    pub classes: usize,
}

/// The two halves of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    /// What is trained on.
    pub train: Dataset,
    /// What is never trained on.
    pub test: Dataset,
}

impl Splits {
    /// The same images with `pad` black pixels on each side.
    pub(super) fn padded(self, pad: usize) -> Self {
        Self {
            train: self.train.padded(pad),
            test: self.test.padded(pad),
        }
    }
}

impl Dataset {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Height and width of the images, in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes per image.
    pub(super) fn stride(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The bytes of example `i`, `(C, H, W)`.
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
            height: self.height,
            width: self.width,
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

    /// `n` examples, evenly spread over all of them (all of them if there are fewer): of images in the order of their classes a share of
    /// each.
    pub fn spread(self, n: usize) -> Self {
        if n >= self.len() {
            return self;
        }
        let chosen: Vec<usize> = (0..n).map(|i| i * self.len() / n).collect();
        let images = chosen.iter().flat_map(|&i| self.bytes(i)).copied();
        Self {
            images: images.collect(),
            labels: chosen.iter().map(|&i| self.labels[i]).collect(),
            ..self
        }
    }

    fn padded(self, pad: usize) -> Self {
        if pad == 0 {
            return self;
        }
        let images = (0..self.len())
            .flat_map(|i| pad_zero(&self.image(i), pad).data)
            .collect();
        Self {
            images,
            height: self.height + 2 * pad,
            width: self.width + 2 * pad,
            ..self
        }
    }
}
