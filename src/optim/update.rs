//! SGD with Nesterov momentum and AdamW, as PyTorch defines them, with one learning rate per tensor.

use super::clip_scale;
use crate::network::ParameterSet;
use ndarray::{ArrayD, Zip};
use num_traits::Float;
use serde::{Deserialize, Serialize};

/// Which optimizer, and its constants. Weight decay acts on biases as on weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OptimizerConfig {
    /// Nesterov momentum, L2 weight decay in the gradient (`torch.optim.SGD`)
    Sgd { momentum: f64, weight_decay: f64 },
    /// decoupled weight decay, betas (0.9, 0.999), eps 1e-8 (`torch.optim.AdamW`)
    AdamW { weight_decay: f64 },
}

/// Decay of AdamW's first moment.
pub const BETA1: f64 = 0.9;
/// Decay of AdamW's second moment.
pub const BETA2: f64 = 0.999;
/// Added to the root of AdamW's second moment.
pub const ADAM_EPSILON: f64 = 1e-8;

/// The optimizer's memory: what a checkpoint has to keep.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// updates so far
    pub steps: u64,
    /// SGD: the momentum buffer. AdamW: first, then second moments. Empty before the first update.
    pub moments: Vec<ParameterSet<f64>>,
}

/// Applies an [`OptimizerConfig`] to parameters of type `T`.
pub struct Optimizer<T> {
    config: OptimizerConfig,
    steps: u64,
    moments: Vec<ParameterSet<T>>,
}

impl<T: Float + Send + Sync> Optimizer<T> {
    pub fn new(config: OptimizerConfig) -> Self {
        Self {
            config,
            steps: 0,
            moments: Vec::new(),
        }
    }

    /// `export` turns a moment from the layout of the parameters into the shapes of the network's tensors.
    pub fn state(&self, export: impl Fn(&ParameterSet<T>) -> ParameterSet<f64>) -> OptimizerState {
        OptimizerState {
            steps: self.steps,
            moments: self.moments.iter().map(export).collect(),
        }
    }

    /// `import` is the inverse of the `export` of [`Self::state`].
    pub fn set_state(
        &mut self,
        state: OptimizerState,
        import: impl Fn(&ParameterSet<f64>) -> ParameterSet<T>,
    ) {
        self.steps = state.steps;
        self.moments = state.moments.iter().map(import).collect();
    }

    /// One update: clips the gradient's global norm to 1, then moves every tensor by its own learning rate. `updated` is
    /// called after each tensor with its index, while it is still in the cache.
    pub fn step(
        &mut self,
        parameters: &mut ParameterSet<T>,
        gradient: &ParameterSet<T>,
        learning_rates: &[f64],
        mut updated: impl FnMut(&ParameterSet<T>, usize),
    ) {
        assert_eq!(parameters.tensors().len(), learning_rates.len());
        let scale = clip_scale(gradient.norm());
        let buffers = match self.config {
            OptimizerConfig::Sgd { .. } => 1,
            OptimizerConfig::AdamW { .. } => 2,
        };
        if self.moments.len() != buffers {
            self.moments = vec![gradient.zeros_like(); buffers];
        }
        self.steps += 1;
        for (i, &rate) in learning_rates.iter().enumerate() {
            let w = &mut parameters.tensors_mut()[i];
            let g = &gradient.tensors()[i];
            match self.config {
                OptimizerConfig::Sgd {
                    momentum,
                    weight_decay,
                } => {
                    let m = &mut self.moments[0].tensors_mut()[i];
                    sgd(w, g, m, scale, rate, momentum, weight_decay);
                }
                OptimizerConfig::AdamW { weight_decay } => {
                    let [first, second] = &mut self.moments[..] else {
                        unreachable!("AdamW keeps two moments")
                    };
                    let (m, v) = (&mut first.tensors_mut()[i], &mut second.tensors_mut()[i]);
                    adamw(w, g, m, v, scale, rate, weight_decay, self.steps);
                }
            }
            updated(parameters, i);
        }
    }
}

/// `g' = g + wd w`, `m <- mu m + g'`, `w <- w - lr (g' + mu m)`.
/// The buffer starts at zero, so the first step makes it `g'`, as PyTorch does.
fn sgd<T: Float + Send + Sync>(
    w: &mut ArrayD<T>,
    g: &ArrayD<T>,
    m: &mut ArrayD<T>,
    scale: f64,
    rate: f64,
    momentum: f64,
    weight_decay: f64,
) {
    let [scale, rate, momentum, weight_decay]: [T; 4] = real([scale, rate, momentum, weight_decay]);
    Zip::from(w).and(g).and(m).par_for_each(|w, &g, m| {
        let g = scale * g + weight_decay * *w;
        *m = momentum * *m + g;
        *w = *w - rate * (g + momentum * *m);
    });
}

/// `w <- w (1 - lr wd)`, `m <- b1 m + (1-b1) g`, `v <- b2 v + (1-b2) g^2`,
/// `w <- w - lr m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps)`.
#[allow(clippy::too_many_arguments)]
fn adamw<T: Float + Send + Sync>(
    w: &mut ArrayD<T>,
    g: &ArrayD<T>,
    m: &mut ArrayD<T>,
    v: &mut ArrayD<T>,
    scale: f64,
    rate: f64,
    weight_decay: f64,
    steps: u64,
) {
    let t = steps as f64;
    let [scale, decay, b1, b2, c1, c2, eps]: [T; 7] = real([
        scale,
        1.0 - rate * weight_decay,
        BETA1,
        BETA2,
        rate / (1.0 - BETA1.powf(t)),
        1.0 / (1.0 - BETA2.powf(t)).sqrt(),
        ADAM_EPSILON,
    ]);
    let one = T::one();
    Zip::from(w)
        .and(g)
        .and(m)
        .and(v)
        .par_for_each(|w, &g, m, v| {
            let g = scale * g;
            *m = b1 * *m + (one - b1) * g;
            *v = b2 * *v + (one - b2) * g * g;
            *w = *w * decay - c1 * *m / (v.sqrt() * c2 + eps);
        });
}

fn real<T: Float, const N: usize>(values: [f64; N]) -> [T; N] {
    values.map(|v| T::from(v).expect("an f64 converts to a float"))
}
