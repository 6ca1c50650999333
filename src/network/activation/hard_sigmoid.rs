//! The activation of Hopfield networks in the literature, with states between silence and full activity.

use super::definition::{Clip, Definition};

pub const DEFINITION: Definition = Definition {
    name: "hard-sigmoid",
    about: "clip to [0, 1]",
    clip: Clip::Fixed(0.0, 1.0),
    is_for_hidden: true,
};
