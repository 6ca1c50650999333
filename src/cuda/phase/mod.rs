//! Relaxation, nudging and the gradient estimate on a device.

pub mod backend;
mod batch;
mod gradient;
mod iteration;
mod pool;
pub mod setup;
pub mod states;
mod trajectory;
mod truncated;

pub use backend::CudaBackend;
