//! Rectified, and without a bound above: the energy has a minimum only while the weights are small enough.

use super::definition::{Clip, Definition};

pub const DEFINITION: Definition = Definition {
    name: "relu",
    about: "clip to [0, infinity)",
    clip: Clip::Fixed(0.0, f64::INFINITY),
    is_for_hidden: true,
};
