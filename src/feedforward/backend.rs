//! The interface between training by backpropagation and the machine that computes.

use super::shared::SharedBatch;
use crate::error::Result;
use crate::network::{ModelState, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{BatchOutcome, GradientMemory};
use ndarray::{Array2, Array4};
use std::rc::Rc;

/// By which statistics a batch is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormMode {
    /// those of the batch, which the running ones then follow
    Train,
    /// the running ones
    Evaluate,
}

/// A machine that computes a feed-forward network. Calls come in this order for a training batch:
/// [`forward`](Self::forward), [`backward`](Self::backward), [`gradient_norm`](Self::gradient_norm), [`step`](Self::step).
/// Tensors cross this interface in f64.
///
/// # Errors
/// Of every method: what it is given does not fit the network, a call comes out of order, or the device fails.
#[expect(clippy::missing_errors_doc, reason = "said once for the trait")]
pub trait Backend {
    /// What a log should call this backend, for instance `cpu, fp32, 2 threads`.
    fn describe(&self) -> String;

    /// Parameters and running statistics, in the order of the names of [`FeedForward`](super::FeedForward).
    fn state(&self) -> Result<ModelState>;
    /// Takes what [`state`](Self::state) gave.
    fn set_state(&mut self, state: &ModelState) -> Result<()>;

    /// Prepares the optimizer with a fresh state.
    fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()>;
    /// What the optimizer remembers.
    fn optimizer_state(&self) -> Result<OptimizerState>;
    /// Takes what [`optimizer_state`](Self::optimizer_state) gave.
    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()>;

    /// From here on the images of a training pass are this machine's part of a batch that several machines share: batch
    /// normalisation takes the statistics of the whole batch, and the running ones follow those.
    fn share(&mut self, batch: Rc<dyn SharedBatch>);

    /// Computes the logits of images `(N, C, H, W)` with one label per image, and measures them by their cross-entropy.
    /// The outcome has no energy.
    fn forward(
        &mut self,
        images: &Array4<f32>,
        labels: &[usize],
        mode: NormMode,
    ) -> Result<BatchOutcome>;

    /// `(N, classes)`
    fn logits(&self) -> Result<Array2<f64>>;

    /// The gradient of the mean loss of this machine's images, after a forward pass in [`NormMode::Train`].
    fn backward(&mut self) -> Result<()>;

    /// Replaces the gradient by the sum over several machines of `share` times each one's; `sum` does the adding up, in place.
    /// Comes between the backward pass and the norm.
    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()>;

    /// The global L2 norm of that gradient over all tensors.
    fn gradient_norm(&mut self) -> Result<f64>;

    /// The gradient itself, one tensor per parameter, in PyTorch's shapes.
    fn gradient(&self) -> Result<ParameterSet<f64>>;

    /// Applies the optimizer with one learning rate per parameter tensor. The gradient is not clipped.
    fn step(&mut self, learning_rates: &[f64]) -> Result<()>;
}
