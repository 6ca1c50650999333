//! Timing of kernels on their own, for `cargo bench --bench kernels`.

mod feedforward;
mod relaxation;
mod timing;

pub use feedforward::feed_forward_kernels;
pub use relaxation::kernels;
pub use timing::{Effort, Measurement, Roofline, roofline};
