//! The CPU backend: the truth that kernels are tested against, and what people without a GPU train on.
//!
//! Read `stack.rs` for the relaxation step, `gradient.rs` for the gradient estimate, `conv.rs` and `pool.rs` for the
//! operators they are made of; `relax.rs` runs a phase over the chunks of a batch and `backend.rs` ties it together.
//! `trace.rs` looks at a phase while it runs. Feed-forward networks share the operators: `feedforward.rs` is their passes,
//! `batch_norm.rs` what only they have, `tensors.rs` their parameters.

mod backend;
mod batch_norm;
mod conv;
mod correlate;
mod feedforward;
mod gradient;
mod measure;
mod panels;
mod pool;
mod real;
mod relax;
mod stack;
mod tensors;
mod trace;
mod wiring;

pub use backend::CpuBackend;
pub use feedforward::CpuFeedForward;
pub use trace::{NudgedTrace, PhaseTrace, Snapshot, TracingBackend, tracing_backend};

use crate::feedforward::{Backend as FeedForwardBackend, FeedForward};
use crate::network::Network;
use crate::phase::Backend;
use serde::{Deserialize, Serialize};

/// Arithmetic of the CPU backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    Fp32,
    Fp64,
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
