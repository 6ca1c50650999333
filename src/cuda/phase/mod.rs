//! Relaxation, nudging and the gradient estimate on a device.

pub mod backend;
pub mod batch;
mod gradient;

pub use backend::CudaBackend;
