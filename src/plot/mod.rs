//! Pictures of a run and of its diagnostics, as SVG and PNG.
//!
//! A figure is drawn once, as SVG, and the PNG is rendered from that. `canvas.rs` knows about files, fonts and sizes, `axis.rs`
//! about ticks, `panel.rs` about a chart and a legend; `curves.rs`, `weights.rs`, `relaxation.rs` and `gradients.rs` are one
//! figure each, from data to panels. Nothing is asked of the system: the font is inside the program.

mod axis;
mod canvas;
mod curves;
mod gradients;
mod palette;
mod panel;
mod relaxation;
mod weights;

pub use canvas::Figure;
pub use curves::{MOST_RUNS, RunCurve, learning_curves};
pub use gradients::{gradient_errors, gradient_errors_by_tensor};
pub use relaxation::relaxation;
pub use weights::weights;
