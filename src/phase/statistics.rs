//! What a layer's state looks like: its norm and its saturation.

use crate::network::Activation;
use ndarray::{ArrayD, Axis};

/// Of a layer's free state, over the images of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerStatistics {
    /// L2 norm of the state, mean over the images
    pub norm: f64,
    /// fraction of the units that are at a bound of the activation; `None` for a layer without bounds
    pub saturation: Option<f64>,
}

impl LayerStatistics {
    /// Of a state with one entry per image along its first axis.
    pub fn of(activation: Activation, state: &ArrayD<f64>) -> Self {
        let images = state.axis_iter(Axis(0));
        let count = images.len().max(1) as f64;
        let norm =
            |image: ndarray::ArrayViewD<f64>| image.iter().map(|v| v * v).sum::<f64>().sqrt();
        let saturation = activation.bounds().map(|(low, high)| {
            // A bound that f32 cannot hold is rounded there, possibly down.
            let high = high.min(f64::from(high as f32));
            let at_bound = state.iter().filter(|&&s| s <= low || s >= high).count();
            at_bound as f64 / state.len().max(1) as f64
        });
        Self {
            norm: images.map(norm).sum::<f64>() / count,
            saturation,
        }
    }
}
