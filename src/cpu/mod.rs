//! The CPU backend: the truth that kernels are tested against, and what people without a GPU train on.
//!
//! `ops/` are the operators; `phase/` relaxes Hopfield networks with them, and `feedforward/` passes through the networks of
//! backpropagation.

mod feedforward;
mod ops;
mod phase;

pub use feedforward::backend::CpuFeedForward;
pub use phase::backend::CpuBackend;
pub use phase::trace::{NudgedTrace, PhaseTrace, Snapshot, TracingBackend};

use crate::choice::choices;
use crate::feedforward::{Backend as FeedForwardBackend, FeedForward};
use crate::network::Network;
use crate::phase::Backend;

choices! {
/// Arithmetic of the CPU backend.
pub enum Precision {
    /// as fast as it gets here
    Fp32 = "fp32",
    /// twice the memory and half the speed: the truth that everything else is compared with
    Fp64 = "fp64",
}
}

/// Makes the CPU backend for a network, with all parameters at zero. It runs on the calling thread pool of rayon.
pub fn backend(network: &Network, precision: Precision) -> Box<dyn Backend> {
    match precision {
        Precision::Fp32 => Box::new(CpuBackend::<f32>::new(network)),
        Precision::Fp64 => Box::new(CpuBackend::<f64>::new(network)),
    }
}

/// Makes the CPU backend of a feed-forward network, with all parameters at zero.
pub fn feed_forward(model: &FeedForward, precision: Precision) -> Box<dyn FeedForwardBackend> {
    match precision {
        Precision::Fp32 => Box::new(CpuFeedForward::<f32>::new(model)),
        Precision::Fp64 => Box::new(CpuFeedForward::<f64>::new(model)),
    }
}

/// Like [`backend`], to be watched.
pub fn tracing_backend(network: &Network, precision: Precision) -> Box<dyn TracingBackend> {
    match precision {
        Precision::Fp32 => Box::new(CpuBackend::<f32>::new(network)),
        Precision::Fp64 => Box::new(CpuBackend::<f64>::new(network)),
    }
}
