//! What a gradient does to a parameter: norm clipping, SGD and AdamW, and the learning rate's schedule.

mod clip;
mod schedule;
mod update;

pub use clip::clip_scale;
pub use schedule::{ETA_MIN, RESTART_PERIOD, Schedule};
pub use update::{Optimizer, OptimizerConfig, OptimizerState};
