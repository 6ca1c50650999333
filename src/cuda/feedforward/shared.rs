//! Batch normalisation over a batch that several machines share: what a layer's kernels found on this machine goes through the host to the
//! others, one exchange a layer in each direction, and what all found together comes back for the kernels that follow.

use super::running::Running;
use crate::cuda::machine::device::Buffer;
use crate::cuda::tables::gradient::GradientPlan;
use crate::cuda::tables::layout::Layout;
use crate::error::Result;
use crate::feedforward::{NORM_EPSILON, NORM_MOMENTUM, SharedBatch};

/// What an edge's normalisation takes from a batch.
pub struct Statistics<'a> {
    pub mean: &'a Buffer<f32>,
    /// `1 / sqrt(var + eps)`
    pub inverse: &'a Buffer<f32>,
    pub running: &'a Running,
    /// what each image gives to a mean
    pub pixels: usize,
}

fn wide(buffer: &Buffer<f32>) -> Result<Vec<f64>> {
    Ok(buffer.read()?.into_iter().map(f64::from).collect())
}

fn narrow(values: impl Iterator<Item = f64>) -> Vec<f32> {
    values.map(|value| value as f32).collect()
}

/// Replaces the statistics of the edges into a layer by those of the whole batch, which the running ones follow.
pub fn join_moments(edges: &[Statistics], batch: &dyn SharedBatch) -> Result<()> {
    // As the kernels have it.
    let epsilon = f64::from(NORM_EPSILON as f32);
    let (mut mean, mut variance) = (Vec::new(), Vec::new());
    for edge in edges {
        mean.extend(wide(edge.mean)?);
        let inverse = wide(edge.inverse)?.into_iter();
        variance.extend(inverse.map(|r| (1.0 / (r * r) - epsilon).max(0.0)));
    }
    if mean.is_empty() {
        return Ok(());
    }
    batch.moments(&mut mean, &mut variance)?;
    let (mut means, mut variances) = (&mean[..], &variance[..]);
    for edge in edges {
        let (mean, variance);
        (mean, means) = means.split_at(edge.mean.len());
        (variance, variances) = variances.split_at(edge.mean.len());
        edge.mean.write(&narrow(mean.iter().copied()))?;
        let inverse = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt());
        edge.inverse.write(&narrow(inverse))?;
        // The running variance is that of the population: one less in the denominator.
        let rows = (batch.images() * edge.pixels) as f64;
        let unbiased = rows / (rows - 1.0).max(1.0);
        for (running, values, factor) in [
            (&edge.running.mean, mean, 1.0),
            (&edge.running.variance, variance, unbiased),
        ] {
            let followed = wide(running)?.into_iter().zip(values);
            let followed = followed.map(|(old, v)| old + NORM_MOMENTUM * (factor * v - old));
            running.write(&narrow(followed))?;
        }
    }
    Ok(())
}

/// Replaces the sums over this machine's images from which the gradients of scales and shifts (`tensors`) come, and those of the layers
/// below, by `images` times their mean over all images: as if each machine had its share of the whole batch's.
pub fn join_sums(
    plan: &GradientPlan,
    layout: &Layout,
    tensors: &[usize],
    images: usize,
    batch: &dyn SharedBatch,
) -> Result<()> {
    let images = images as f64;
    let mut means = Vec::new();
    for &tensor in tensors {
        let sums = plan.read_slot(tensor, layout.length(tensor))?;
        means.extend(sums.into_iter().map(|sum| f64::from(sum) / images));
    }
    if means.is_empty() {
        return Ok(());
    }
    batch.average(&mut means)?;
    let mut means = &means[..];
    for &tensor in tensors {
        let mean;
        (mean, means) = means.split_at(layout.length(tensor));
        plan.write_slot(tensor, &narrow(mean.iter().map(|mean| images * mean)))?;
    }
    Ok(())
}
