//! What batch normalisation remembers.

use crate::cuda::machine::device::Buffer;

/// Running mean and variance of an edge's batch normalisation, and how many batches they have seen.
pub struct Running {
    pub mean: Buffer<f32>,
    pub variance: Buffer<f32>,
    pub batches: f64,
}
