//! From bytes to the numbers that the network sees.

use super::Image;

/// Mean and standard deviation per channel, of values scaled to 0..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// By channel, of values in [0, 1].
    pub mean: Vec<f32>,
    /// By channel: standard deviation of values in [0, 1].
    pub std: Vec<f32>,
}

impl Normalization {
    /// Channels for which there are constants.
    pub fn channels(&self) -> usize {
        self.mean.len().min(self.std.len())
    }

    /// What each of the 256 bytes becomes in `channel`: `(byte / 255 - mean) / std`, each operation rounded to single precision.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[channel]) / self.std[channel])
    }

    /// The tables of all channels, for use on many images.
    pub(super) fn tables(&self) -> Vec<[f32; 256]> {
        (0..self.channels()).map(|c| self.table(c)).collect()
    }
}

/// `(C, H, W)` normalised values of an image.
///
/// # Panics
/// If `normalization` has fewer channels than the image.
pub fn normalize(image: &Image, normalization: &Normalization) -> Vec<f32> {
    let tables = normalization.tables();
    assert!(
        image.channels <= tables.len(),
        "an image of {} channels needs as many normalisation constants, there are {}",
        image.channels,
        tables.len()
    );
    let mut out = vec![0.0; image.data.len()];
    write_normalized(&image.data, &tables, &mut out);
    out
}

/// Writes the normalised values of the `(C, H, W)` bytes in `image` to `out`, with a table per channel.
pub(super) fn write_normalized(image: &[u8], tables: &[[f32; 256]], out: &mut [f32]) {
    let pixels = (image.len() / tables.len().max(1)).max(1);
    let planes = image.chunks(pixels).zip(out.chunks_mut(pixels));
    for ((from, to), table) in planes.zip(tables) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = table[usize::from(from)];
        }
    }
}
