//! Feed-forward networks, trained by backpropagation, on a device.

pub mod backend;
mod layer;
pub mod plan;
mod running;
mod shared;

pub use backend::CudaFeedForward;
