//! Arithmetic as the chip's, away from any warp.

pub mod float;
pub mod matrix;
