//! What a gradient does to a parameter: norm clipping, SGD and AdamW, and the learning rate's schedule.

mod clip;
mod schedule;
mod update;

pub use clip::{ClipNorm, MAX_NORM, NORM_EPSILON, clip_scale};
pub use schedule::{DECAY, ETA_MIN, RESTART_PERIOD, Schedule, ScheduleKind};
pub use update::{
    ADAM_EPSILON, BETA1, BETA2, Optimizer, OptimizerConfig, OptimizerKind, OptimizerState,
};
