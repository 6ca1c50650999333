//! Several processes that train one network, each on its rows of every batch.
//!
//! [`Ranks`] is what they ask of each other; [`DataParallel`] makes any backend that relaxes one of them, and
//! [`DataParallelFeedForward`] any that backpropagates.

mod attendance;
pub mod child;
mod data_parallel;
mod feed_forward;
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
pub use feed_forward::DataParallelFeedForward;
pub use join::join;
pub use place::{Place, PlaceError};
pub use ranks::{Alone, Ranks};
pub use spawn::spawn;
pub use watch::end_now;
