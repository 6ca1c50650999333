//! An 8-bit image, channel by channel: the form in which files store images and augmentation changes them.

/// An 8-bit image with one (grey) or three (red, green, blue) planes, stored `(C, H, W)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// C: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// `channels * height * width` values, the planes one after the other.
    pub data: Vec<u8>,
}

impl Image {
    /// Wraps `data`, or returns `None` if it does not hold `channels * height * width` values (or none at all).
    pub fn new(channels: usize, height: usize, width: usize, data: Vec<u8>) -> Option<Self> {
        let expected = channels.checked_mul(height)?.checked_mul(width)?;
        (expected > 0 && data.len() == expected).then_some(Self {
            channels,
            height,
            width,
            data,
        })
    }

    /// A black image.
    pub fn zeros(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            data: vec![0; channels * height * width],
        }
    }

    /// Values per plane.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// The planes in turn, `height * width` values each.
    pub fn planes(&self) -> impl Iterator<Item = &[u8]> {
        self.data.chunks_exact(self.pixels().max(1))
    }

    /// The planes in turn, to be changed.
    pub fn planes_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let pixels = self.pixels().max(1);
        self.data.chunks_exact_mut(pixels)
    }
}
