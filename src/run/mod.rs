//! The training loop: epochs, metrics, checkpoints and resuming.
//!
//! [`Settings`] (what was asked for) -> [`Config`] (what that means) -> [`Checkpoint`] (a run at one moment) ->
//! [`Trainer`] (which takes it through its epochs and keeps it in a [`RunFolder`]).

pub mod atomic;
mod checkpoint;
mod evaluate;
mod folder;
pub mod interrupt;
mod memory;
mod metrics;
mod probe;
mod progress;
mod trainer;

pub use crate::config::presets;
pub use crate::config::settings;
pub use crate::config::{Algorithm, FileSettings, OptimizerKind, ScheduleKind, Settings};
pub use crate::config::{Config, UsageError};
pub use crate::learn::{Learner, Lesson};
pub use crate::output::say;
pub(crate) use atomic::replace as replace_file;
pub use checkpoint::{Best, Checkpoint, Position};
pub use evaluate::{Diverged, Evaluation, evaluate};
pub use folder::RunFolder;
pub use metrics::{Measures, Record, Tally};
pub use probe::Probe;
pub use trainer::{Ending, Trainer};
