//! What one batch of a pass says about single layers and tensors: the last batch of full size.
//!
//! Other measures are sums over all batches. These would need every state and gradient of a pass, which a GPU would have
//! to hand over each time; one batch shows whether a layer saturates or a gradient vanishes.

use crate::ep::{Backend, Which};
use crate::network::{Activation, Network, ParameterSet};
use anyhow::Result;
use half::f16;
use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};

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
    pub fn states(network: &Network, backend: &dyn Backend) -> Result<Self> {
        let states = backend.states(Which::Free)?;
        let hidden = network.free_layers().zip(&states);
        Ok(Self {
            state_norms: states.iter().map(norm_per_image).collect(),
            saturations: hidden
                .filter_map(|(l, state)| saturation(network.layers()[l].activation, state))
                .collect(),
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

fn norm_per_image(state: &ArrayD<f64>) -> f64 {
    let images = state.axis_iter(Axis(0));
    let count = images.len().max(1) as f64;
    images.map(|image| norm(&image)).sum::<f64>() / count
}

/// `None` for a layer without bounds.
fn saturation(activation: Activation, state: &ArrayD<f64>) -> Option<f64> {
    let (low, high) = activation.bounds()?;
    // A bound that a narrow format cannot hold is rounded there, possibly down.
    let rounded = [f64::from(high as f32), f64::from(f16::from_f64(high))];
    let high = rounded.into_iter().fold(high, f64::min);
    let at_bound = state.iter().filter(|&&s| s <= low || s >= high).count();
    Some(at_bound as f64 / state.len().max(1) as f64)
}
