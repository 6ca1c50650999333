//! The training loop: epochs, metrics, checkpoints and resuming.
//!
//! A [`Config`](crate::config::Config) becomes a [`Checkpoint`] (a run at one moment), which a [`Trainer`] takes through its epochs and
//! keeps in a [`RunFolder`]; an [`Observer`] is told of it.

pub mod atomic;
mod checkpoint;
mod environment;
mod evaluate;
mod folder;
pub mod interrupt;
mod loaders;
pub mod memory;
mod metrics;
mod observer;
pub mod threads;
mod trainer;

pub(crate) use atomic::replace as replace_file;
pub use checkpoint::{Best, Checkpoint, Position};
pub use environment::Environment;
pub use evaluate::{Evaluation, evaluate};
pub use folder::{FolderLock, RunFolder};
pub use loaders::{load_data, loader};
pub use metrics::{Measures, Record, Tally};
pub use observer::Observer;
pub use trainer::{Ending, Trainer};
