//! Of the input, which is clamped, and of the output. A hidden layer without bounds could grow for ever.

use super::definition::{Clip, Definition};

pub const DEFINITION: Definition = Definition {
    name: "linear",
    about: "no clip",
    clip: Clip::Nowhere,
    is_for_hidden: false,
};
