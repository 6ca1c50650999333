//! A hidden layer that is linear: the energy has a minimum only while the weights are small enough.

use super::definition::{Clip, Definition};

pub const DEFINITION: Definition = Definition {
    name: "identity",
    about: "no clip, in a hidden layer",
    clip: Clip::Nowhere,
    is_for_hidden: true,
};
