//! The training loop: epochs, metrics, checkpoints and resuming.
//!
//! [`Settings`] (what was asked for) -> [`Config`] (what that means) -> [`Checkpoint`] (a run at one moment) ->
//! [`Trainer`] (which takes it through its epochs and keeps it in a [`RunFolder`]).

pub mod atomic;
mod checkpoint;
mod config;
mod evaluate;
mod folder;
pub mod interrupt;
mod learner;
mod memory;
mod metrics;
pub mod presets;
mod probe;
mod progress;
mod run;
pub mod settings;

pub(crate) use atomic::replace as replace_file;
pub use checkpoint::{Best, Checkpoint, Position};
pub use config::{Config, UsageError};
pub use evaluate::{Evaluation, evaluate};
pub use folder::RunFolder;
pub use learner::{Learner, Lesson};
pub use metrics::{Measures, Record, Tally};
pub use probe::Probe;
pub use progress::say;
pub use run::{Ending, Trainer};
pub use settings::{Algorithm, FileSettings, OptimizerKind, ScheduleKind, Settings};
