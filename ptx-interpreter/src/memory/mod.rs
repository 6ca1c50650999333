//! Memory, and who wrote and read each piece of it.

mod clock;
pub mod cluster;
mod device;
mod order;
pub mod shadow;
mod shared;
pub mod tensor_map;

pub use clock::Clock;
pub use cluster::Layout;
pub use device::*;
pub use order::Order;
pub use shared::Shared;
