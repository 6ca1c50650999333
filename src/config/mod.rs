//! What was asked for ([`Settings`]), settings by name ([`presets`]), and what they mean ([`Config`]).

pub mod presets;
mod resolved;
pub mod settings;

pub use resolved::{Config, UsageError};
pub use settings::{Algorithm, FileSettings, OptimizerKind, ScheduleKind, Settings};
