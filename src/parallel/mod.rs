//! Several processes that train one network, each on its rows of every batch.
//!
//! [`Ranks`] is what they ask of each other; [`DataParallel`] makes any backend one of them.

mod data_parallel;
#[cfg(feature = "mpi")]
mod mpi;
mod place;
mod ranks;

pub use data_parallel::DataParallel;
pub use place::{Place, PlaceError};
pub use ranks::{Alone, Ranks};
