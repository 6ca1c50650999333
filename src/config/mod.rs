//! What was asked for ([`Settings`]), settings by name ([`presets`]), and what they mean ([`Config`]).

mod error;
pub mod presets;
mod resolved;
pub mod settings;

pub use error::UsageError;
pub use resolved::Config;
pub use settings::{Algorithm, FileSettings, OptimizerKind, ScheduleKind, Settings};
