//! Feed-forward networks, trained by backpropagation, on a device.

pub mod backend;
pub mod plan;

pub use backend::CudaFeedForward;
