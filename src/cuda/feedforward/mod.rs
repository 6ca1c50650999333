//! Feed-forward networks, trained by backpropagation, on a device.

pub mod backend;
pub mod plan;
mod setup;
mod shared;

pub use backend::CudaFeedForward;
