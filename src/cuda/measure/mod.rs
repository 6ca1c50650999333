//! Timing of kernels on their own, for `cargo bench --bench kernels`.

mod chip;
#[cfg(feature = "interpreter")]
mod counted;
mod estimate;
mod feedforward;
mod hopper;
mod model;
mod relaxation;
mod timing;
mod traffic;
mod weight_gradient;

pub use chip::{Chip, Constant, INSTRUCTIONS, Instructions};
#[cfg(feature = "interpreter")]
pub use counted::{Counted, Family, counts};
pub use estimate::estimates;
pub use feedforward::feed_forward_kernels;
pub use hopper::Hopper;
pub use model::{Estimate, Launch};
pub use relaxation::kernels;
pub use timing::{Effort, Measurement, Roofline, roofline};
