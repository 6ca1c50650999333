//! Augmentation of 8-bit images, as torchvision's transforms do it on PIL images, byte for byte.
//!
//! Three ideas, a file each: where a pixel comes from ([`geometry`]), what value it gets ([`colour`]), and which operations
//! are drawn how strongly ([`rand_augment`]). A whole training recipe is a value, [`Augmentation`]: a list of steps in the
//! order in which they are applied.

pub mod colour;
pub mod geometry;
pub mod rand_augment;
mod recipe;

pub use geometry::{PadMode, crop, crop_edge, flip, pad_zero};
pub use rand_augment::{MAGNITUDE_BINS, RandAugmentOp, Sign, apply};
pub use recipe::{Augment, Augmentation, Step};
