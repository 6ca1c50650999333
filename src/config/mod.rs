//! What was asked for ([`Settings`]), settings by name ([`presets`]), and what they mean ([`Config`]).

mod declare;
mod derived;
mod gains;
mod layers;
mod network;
pub mod presets;
mod ranges;
mod resolved;
mod settings;
mod tensors;
mod tolerance;
mod value;

pub use crate::learn::Algorithm;
pub use crate::usage::UsageError;
pub use layers::FileSettings;
pub use settings::{Config, SETTINGS, Setting, Settings, is_network_file};
pub use tolerance::Tolerance;
pub use value::{AlgorithmName, Named, Syntax, count};
