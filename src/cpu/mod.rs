//! The CPU backend: the truth that kernels are tested against, and what people without a GPU train on.
//!
//! `ops/` are the operators; `phase/` relaxes Hopfield networks with them, and `feedforward/` passes through the networks of
//! backpropagation.

mod feedforward;
mod ops;
mod phase;

pub use feedforward::backend::CpuFeedForward;
pub use ops::real::Real;
pub use phase::backend::CpuBackend;
pub use phase::trace::{NudgedTrace, PhaseTrace, Snapshot, TracingBackend};

use self::ops::weight::Products;
use crate::feedforward::{Backend as FeedForwardBackend, FeedForward};
use crate::network::Network;
use crate::phase::Backend;

/// Makes the CPU backend for a network, with all parameters at zero. It computes in `f32`, as fast as it gets here, or in `f64`: twice the
/// memory and half the speed, and the truth that everything else is compared with. It runs on the calling thread pool of rayon.
pub fn backend<T: Real>(network: &Network) -> Box<dyn Backend> {
    Box::new(CpuBackend::<T>::new(network, Products::Full))
}

/// The CPU backend in `f32`, whose convolutions multiply what has changed, rounded to `bf16` (docs/maths.md): 1.2 to 1.4 times as fast on a
/// processor with `AVX512_BF16` (bench/RESULTS.md). The images, edges with max pooling, dense edges, updates and the gradient's correlations
/// are in `f32`.
pub fn bf16_backend(network: &Network) -> Box<dyn Backend> {
    Box::new(CpuBackend::<f32>::new(network, Products::Bf16))
}

/// Makes the CPU backend of a feed-forward network, with all parameters at zero.
pub fn feed_forward<T: Real>(model: &FeedForward) -> Box<dyn FeedForwardBackend> {
    Box::new(CpuFeedForward::<T>::new(model))
}

/// Like [`backend`], to be watched.
pub fn tracing_backend<T: Real>(network: &Network) -> Box<dyn TracingBackend> {
    Box::new(CpuBackend::<T>::new(network, Products::Full))
}
