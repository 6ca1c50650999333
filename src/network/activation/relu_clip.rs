//! Rectified, with a bound of its own for each layer: part of the network, and stored with it.

use super::definition::{Clip, Definition};

pub const DEFINITION: Definition = Definition {
    name: "reluclip",
    about: "clip to [0, c], c drawn from [1, 10] for each layer",
    clip: Clip::Drawn(1.0, 10.0),
    is_for_hidden: true,
};
