//! A training recipe as a value.

use serde::{Deserialize, Serialize};

use super::geometry::{PadMode, crop, flip};
use super::rand_augment::RandAugmentOp;
use crate::choice::choices;
use crate::data::Image;
use crate::data::rng::Draw;

choices! {
    /// Which of a dataset's random transformations a run applies.
    pub enum Augment {
        /// training images as they are
        None = "none",
        /// the flips and crops of the published recipe, without RandAugment; of a folder's images flips and crops
        FlipCrop = "flip-crop",
        /// all of the published recipe; of a folder's images nothing
        Published = "published",
    }
}

#[expect(
    clippy::derivable_impls,
    reason = "`choices!` takes no attributes of values"
)]
impl Default for Augment {
    fn default() -> Self {
        Self::Published
    }
}

impl Augment {
    /// What is left of a published recipe.
    pub fn of(self, mut published: Augmentation) -> Augmentation {
        match self {
            Self::None => published.steps.clear(),
            Self::FlipCrop => (published.steps).retain(|s| !matches!(s, Step::RandAugment { .. })),
            Self::Published => {}
        }
        published
    }
}

/// One random transformation of a training image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Mirror left and right, with probability one half.
    Flip,
    /// `ops` operations of RandAugment, each at magnitude bin `magnitude` of 31.
    RandAugment {
        /// how many, one after the other
        ops: usize,
        /// bin, from 0 to 30
        magnitude: usize,
    },
    /// Pad `pad` pixels on each side, then cut out a window of the original size at a uniformly random place.
    Crop {
        /// pixels on each side
        pad: usize,
        /// what they are
        mode: PadMode,
    },
}

/// The random transformations of a training image, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Augmentation {
    /// what is done, one after the other
    pub steps: Vec<Step>,
}

impl Augmentation {
    /// Flips, and crops by up to an eighth of the side, with the border repeated: for images of `(height, width)` pixels that no recipe is
    /// published for.
    pub fn flip_crop((height, width): (usize, usize)) -> Self {
        let crop = Step::Crop {
            pad: (height.min(width) / 8).max(1),
            mode: PadMode::Edge,
        };
        Self {
            steps: vec![Step::Flip, crop],
        }
    }

    /// Applies all steps, with random numbers from `draw`.
    pub(in crate::data) fn apply(&self, image: Image, draw: &mut Draw) -> Image {
        self.steps.iter().fold(image, |image, step| match *step {
            Step::Flip if draw.coin() => flip(&image),
            Step::Flip => image,
            Step::RandAugment { ops, magnitude } => (0..ops).fold(image, |image, _| {
                RandAugmentOp::apply_random(&image, magnitude, draw)
            }),
            Step::Crop { pad, mode } => {
                let offsets = 2 * pad as u32 + 1;
                let (top, left) = (draw.below(offsets), draw.below(offsets));
                let size = (image.height, image.width);
                crop(&image, pad, mode, top as usize, left as usize, size)
            }
        })
    }
}
