//! What a launch has while it runs: blocks, their warps, and what runs beside those.

mod barrier;
mod block;
mod cluster_barrier;
mod products;
mod random;
mod units;
mod warp;

pub use block::{Block, Context};
pub use products::WARPS;
pub use random::Random;
pub use units::{Issued, Load, Store, Units, Waiting};
pub use warp::*;
