//! The paper's choice: rectified, and bounded so that the energy has a minimum.

use super::definition::{Clip, Definition};

pub const DEFINITION: Definition = Definition {
    name: "relu6",
    about: "clip to [0, 6]",
    clip: Clip::Fixed(0.0, 6.0),
    is_for_hidden: true,
};
