//! Pictures of a run and of its diagnostics, as SVG, PNG and PDF.
//!
//! A figure is drawn once, as SVG, and the other formats are rendered from that. `canvas.rs` knows about files, fonts and
//! sizes, `pdf.rs` about pages, `axis.rs` about ticks, `pen.rs` about a line, `panel.rs` about a chart and a legend, `figure.rs` about a
//! grid of charts; `curves.rs`, `weights.rs`, `relaxation.rs` and `gradients.rs` are one figure each, from data to panels. Nothing is asked
//! of the system: the font is inside the program.

mod axis;
mod canvas;
mod curves;
mod figure;
mod gradients;
mod palette;
mod panel;
mod pdf;
mod pen;
mod relaxation;
mod weights;

pub use canvas::{Figure, Format, Output};
pub use curves::{Curve, MOST_CURVES, learning_curves};
pub use figure::Style;
pub use gradients::{gradient_errors, gradient_errors_by_tensor};
pub use relaxation::relaxation;
pub use weights::weights;
