//! Several processes that train one network, each on its rows of every batch.
//!
//! [`Ranks`] is what they ask of each other; [`DataParallel`] makes any backend one of them.

mod attendance;
pub mod child;
mod data_parallel;
mod join;
#[cfg(feature = "mpi")]
mod mpi;
mod nccl;
mod place;
mod ranks;
mod rendezvous;
mod spawn;
mod watch;

pub use data_parallel::DataParallel;
pub use join::join;
pub use place::{Place, PlaceError};
pub use ranks::{Alone, Ranks};
pub use spawn::spawn;
pub use watch::end_now;
