//! What one batch of a pass says about single layers and tensors: the last batch of full size.
//!
//! Other measures are sums over all batches. These would need another look at every state and gradient of a pass; one batch shows
//! whether a layer saturates or a gradient vanishes.

use crate::error::Result;
use crate::network::ParameterSet;
use crate::phase::Backend;
use serde::{Deserialize, Serialize};

/// What a batch told of states and gradients, for the tracked series.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// L2 norm of a layer's free state, mean over the images; one per layer above the input
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_norms: Vec<f64>,
    /// fraction of a layer's units whose free state is at a bound of its activation; one per hidden layer
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saturations: Vec<f64>,
    /// L2 norm of a tensor's gradient estimate before clipping; one per parameter tensor, biases first; none in a test
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gradient_norms: Vec<f64>,
}

impl Probe {
    /// Measures the free state of the present batch.
    ///
    /// # Errors
    /// When no free phase has run, or the device fails.
    pub fn states(backend: &dyn Backend) -> Result<Self> {
        let layers = backend.statistics()?;
        Ok(Self {
            state_norms: layers.iter().map(|layer| layer.norm).collect(),
            saturations: layers.iter().filter_map(|layer| layer.saturation).collect(),
            gradient_norms: Vec::new(),
        })
    }

    /// The same with a gradient that was estimated from it.
    pub fn with_gradient(self, gradient: &ParameterSet<f64>) -> Self {
        Self {
            gradient_norms: gradient.tensors().iter().map(norm).collect(),
            ..self
        }
    }
}

fn norm<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}
