//! RandAugment (Cubuk et al. 2020) as torchvision defines it: fourteen operations, drawn uniformly and with replacement, all
//! at the same magnitude bin of 31.

use std::fmt;
use std::str::FromStr;

use super::{colour, geometry};
use crate::data::Image;
use crate::data::rng::Draw;

/// Number of magnitude bins: bin 0 is the weakest, bin 30 the strongest.
pub const MAGNITUDE_BINS: usize = 31;

/// Direction of an operation that has two, for instance a shear to the left or to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// to the right, down, or stronger
    Positive,
    /// to the left, up, or weaker
    Negative,
}

/// One operation of RandAugment. The names are torchvision's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are all there is to say")]
pub enum RandAugmentOp {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

use RandAugmentOp::*;

impl RandAugmentOp {
    /// All operations, in torchvision's order.
    pub const ALL: [Self; 14] = [
        Identity,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
        Rotate,
        Brightness,
        Color,
        Contrast,
        Sharpness,
        Posterize,
        Solarize,
        AutoContrast,
        Equalize,
    ];

    /// torchvision's name of the operation.
    pub fn name(self) -> &'static str {
        match self {
            Identity => "Identity",
            ShearX => "ShearX",
            ShearY => "ShearY",
            TranslateX => "TranslateX",
            TranslateY => "TranslateY",
            Rotate => "Rotate",
            Brightness => "Brightness",
            Color => "Color",
            Contrast => "Contrast",
            Sharpness => "Sharpness",
            Posterize => "Posterize",
            Solarize => "Solarize",
            AutoContrast => "AutoContrast",
            Equalize => "Equalize",
        }
    }

    /// Whether the operation has two directions, so that a sign is drawn for it.
    pub fn is_signed(self) -> bool {
        matches!(
            self,
            ShearX
                | ShearY
                | TranslateX
                | TranslateY
                | Rotate
                | Brightness
                | Color
                | Contrast
                | Sharpness
        )
    }

    /// The magnitude at `bin` (0 to 30; more counts as 30) for an image of `(height, width)`, in the unit of the operation:
    /// tangent (shears), pixels (translations), degrees (rotation), factor minus one (enhancers), bits kept (posterize),
    /// threshold (solarize); 0 for the others. The sign is ignored by operations that have none.
    pub fn magnitude(self, bin: usize, sign: Sign, (height, width): (usize, usize)) -> f64 {
        let bin = bin.min(MAGNITUDE_BINS - 1);
        let magnitude = match self {
            Identity | AutoContrast | Equalize => 0.0,
            ShearX | ShearY => linspace(0.0, 0.3, bin),
            TranslateX => linspace(0.0, 150.0 / 331.0 * width as f64, bin),
            TranslateY => linspace(0.0, 150.0 / 331.0 * height as f64, bin),
            Rotate => linspace(0.0, 30.0, bin),
            Brightness | Color | Contrast | Sharpness => linspace(0.0, 0.9, bin),
            Posterize => 8.0 - (bin as f64 / ((MAGNITUDE_BINS - 1) as f64 / 4.0)).round_ties_even(),
            Solarize => linspace(255.0, 0.0, bin),
        };
        if self.is_signed() && sign == Sign::Negative {
            -magnitude
        } else {
            magnitude
        }
    }

    /// Draws one of the fourteen, uniformly, at `bin` and with a random sign, and applies it.
    pub(super) fn apply_random(image: &Image, bin: usize, draw: &mut Draw) -> Image {
        let op = Self::ALL[draw.below(Self::ALL.len() as u32) as usize];
        let sign = if op.is_signed() && draw.coin() {
            Sign::Negative
        } else {
            Sign::Positive
        };
        apply(
            op,
            op.magnitude(bin, sign, (image.height, image.width)),
            image,
        )
    }
}

/// Applies `op` at `magnitude` (in the unit that [`RandAugmentOp::magnitude`] describes, sign included).
pub fn apply(op: RandAugmentOp, magnitude: f64, image: &Image) -> Image {
    match op {
        Identity => image.clone(),
        ShearX => geometry::shear(image, magnitude, 0.0),
        ShearY => geometry::shear(image, 0.0, magnitude),
        TranslateX => geometry::translate(image, magnitude, 0.0),
        TranslateY => geometry::translate(image, 0.0, magnitude),
        Rotate => geometry::rotate(image, magnitude),
        Brightness => colour::brightness(image, 1.0 + magnitude),
        Color => colour::colour(image, 1.0 + magnitude),
        Contrast => colour::contrast(image, 1.0 + magnitude),
        Sharpness => colour::sharpness(image, 1.0 + magnitude),
        Posterize => colour::posterize(image, magnitude as u32),
        Solarize => colour::solarize(image, magnitude),
        AutoContrast => colour::auto_contrast(image),
        Equalize => colour::equalize(image),
    }
}

/// Entry `bin` of the 31 single-precision values from `start` to `end`. Like torch, counted from the nearer end and rounded
/// once: at some bins the last bit of the magnitude decides bytes of the image.
fn linspace(start: f64, end: f64, bin: usize) -> f64 {
    let (start, end) = (start as f32, end as f32);
    let last = MAGNITUDE_BINS - 1;
    let step = (end - start) / last as f32;
    f64::from(if bin < MAGNITUDE_BINS / 2 {
        step.mul_add(bin as f32, start)
    } else {
        (-step).mul_add((last - bin) as f32, end)
    })
}

impl fmt::Display for RandAugmentOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not one of RandAugment's operations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown RandAugment operation `{0}`")]
pub struct UnknownOp(String);

impl FromStr for RandAugmentOp {
    type Err = UnknownOp;

    fn from_str(name: &str) -> Result<Self, UnknownOp> {
        Self::ALL
            .into_iter()
            .find(|op| op.name() == name)
            .ok_or_else(|| UnknownOp(name.to_owned()))
    }
}
