//! One's own images: whatever lies in the folder of `--data-dir`. What they are like is found there.

use super::Set;
use crate::data::formats::Format;

pub(super) const SET: Set = Set {
    name: "folder",
    aliases: &["imagefolder"],
    base: "",
    files: &[],
    format: Format::Own,
    channels: 0,
    side: 0,
    pad: 0,
    classes: &[],
    mean: &[],
    std: &[],
    augmentation: &[],
};
