//! What a backend and its plans share.

use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::{Format, Relax};
use crate::cuda::tables::layout::Layout;
use crate::feedforward::FeedForward;
use std::sync::Arc;

/// What does not change while a backend lives.
pub struct Setup {
    pub device: Arc<dyn Device>,
    pub model: FeedForward,
    pub layout: Arc<Layout>,
    pub format: Format,
    pub relax: Relax,
}

/// Running mean and variance of an edge's batch normalisation, and how many batches they have seen.
pub struct Running {
    pub mean: Buffer<f32>,
    pub variance: Buffer<f32>,
    pub batches: f64,
}
