//! From bytes to the numbers that the network sees.

use super::{Dataset, Image};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Mean and standard deviation per channel, of values scaled to 0..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// By channel, of values in [0, 1].
    pub mean: Vec<f32>,
    /// By channel: standard deviation of values in [0, 1].
    pub std: Vec<f32>,
}

/// Which normalisation a run applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Normalize {
    /// the published one of the dataset; of a folder's images their own mean and deviation
    #[default]
    Auto,
    /// none: values from 0 to 1
    Off,
    /// a mean and a standard deviation for all channels, or the means of all channels and then their deviations
    Given(Vec<f64>),
}

/// What was expected in the place of another text.
const EXPECTED: &str = "expected auto, off, or MEAN,STD of values from 0 to 1 (of three channels 6 numbers, the means first)";

impl Normalize {
    /// The mean and the deviation of each channel over all pixels of all images, to six digits after the point. A channel that is the same
    /// everywhere keeps its contrast (deviation 1).
    pub fn of(dataset: &Dataset) -> Self {
        let mut counts = vec![[0u64; 256]; dataset.channels];
        let pixels = (dataset.height * dataset.width).max(1);
        for (plane, values) in dataset.images.chunks_exact(pixels).enumerate() {
            let counts = &mut counts[plane % dataset.channels];
            values.iter().for_each(|&v| counts[usize::from(v)] += 1);
        }
        // From the histogram: exact, whatever the number of pixels.
        let moments = counts.iter().map(|counts| {
            let pixels = counts.iter().sum::<u64>().max(1) as f64;
            let mean_of = |f: &dyn Fn(f64) -> f64| {
                let terms = counts.iter().enumerate();
                terms
                    .map(|(v, &n)| n as f64 * f(v as f64 / 255.0))
                    .sum::<f64>()
                    / pixels
            };
            let mean = mean_of(&|v| v);
            let std = rounded(mean_of(&|v| (v - mean).powi(2)).sqrt());
            (rounded(mean), if std > 0.0 { std } else { 1.0 })
        });
        let (means, deviations): (Vec<f64>, Vec<f64>) = moments.unzip();
        Self::Given([means, deviations].concat())
    }

    /// The constants for images of `channels`, where it says any: `None` for [`Auto`](Self::Auto).
    ///
    /// # Errors
    /// When there are as many numbers as for another number of channels.
    pub fn constants(&self, channels: usize) -> Result<Option<Normalization>, String> {
        let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        match self {
            Self::Auto => Ok(None),
            Self::Off => Ok(Some(Normalization {
                mean: vec![0.0; channels],
                std: vec![1.0; channels],
            })),
            Self::Given(values) if values.len() == 2 => Ok(Some(Normalization {
                mean: single(&values[..1]).repeat(channels),
                std: single(&values[1..]).repeat(channels),
            })),
            Self::Given(values) if values.len() == 2 * channels => Ok(Some(Normalization {
                mean: single(&values[..channels]),
                std: single(&values[channels..]),
            })),
            Self::Given(values) => {
                let all = match channels {
                    1 => String::new(),
                    _ => format!(" or {} (all means, then all deviations)", 2 * channels),
                };
                Err(format!(
                    "it has {} numbers; images of {channels} channels take 2 (MEAN,STD){all}",
                    values.len()
                ))
            }
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl FromStr for Normalize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let values: Result<Vec<f64>, _> = text.split(',').map(|v| v.trim().parse()).collect();
        let values = values.map_err(|_| EXPECTED)?;
        let (means, deviations) = values.split_at(values.len() / 2);
        let fits = means.len() == deviations.len()
            && means.iter().all(|mean| mean.is_finite())
            && deviations.iter().all(|std| std.is_finite() && *std > 0.0);
        match fits {
            true => Ok(Self::Given(values)),
            false => Err(EXPECTED.into()),
        }
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Given(values) => {
                let values: Vec<String> = values.iter().map(f64::to_string).collect();
                f.write_str(&values.join(","))
            }
        }
    }
}

impl TryFrom<String> for Normalize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Normalize> for String {
    fn from(normalize: Normalize) -> Self {
        normalize.to_string()
    }
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
