//! What was asked for ([`Settings`]), settings by name ([`presets`]), and what they mean ([`Config`]).

pub mod presets;
mod resolved;
pub mod settings;

pub use crate::learn::Algorithm;
pub use crate::usage::UsageError;
pub use resolved::Config;
pub use settings::{FileSettings, OptimizerKind, ScheduleKind, Settings};
