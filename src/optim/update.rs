//! SGD with momentum, Nesterov's or the classical one, Adam and AdamW, as PyTorch defines them, with one learning rate per tensor.

use crate::choice::choices;
use crate::network::ParameterSet;
use ndarray::{ArrayD, Zip};
use num_traits::Float;
use serde::{Deserialize, Serialize};

choices! {
/// The published optimizers, as a user names them.
pub enum OptimizerKind {
    /// SGD with Nesterov momentum
    Sgd = "sgd",
    /// AdamW; in backpropagation Adam with L2 weight decay
    Adam = "adam",
}
}

/// Which optimizer, and its constants. Weight decay acts on biases as on weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OptimizerConfig {
    /// Nesterov momentum, L2 weight decay in the gradient (`torch.optim.SGD`)
    Sgd {
        /// share of the velocity that stays
        momentum: f64,
        /// times the parameter, added to its gradient
        weight_decay: f64,
    },
    /// classical momentum, L2 weight decay in the gradient (`torch.optim.SGD` with `nesterov=False`)
    HeavyBall {
        /// share of the velocity that stays
        momentum: f64,
        /// times the parameter, added to its gradient
        weight_decay: f64,
    },
    /// L2 weight decay in the gradient, betas (0.9, 0.999), eps 1e-8 (`torch.optim.Adam`)
    Adam {
        /// times the parameter, added to its gradient
        weight_decay: f64,
    },
    /// decoupled weight decay, betas (0.9, 0.999), eps 1e-8 (`torch.optim.AdamW`)
    AdamW {
        /// times learning rate and parameter, taken off the parameter
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// Buffers as large as the parameters that it keeps.
    pub fn moments(self) -> usize {
        match self {
            Self::Sgd { .. } | Self::HeavyBall { .. } => 1,
            Self::Adam { .. } | Self::AdamW { .. } => 2,
        }
    }
}

/// Decay of Adam's first moment.
pub const BETA1: f64 = 0.9;
/// Decay of Adam's second moment.
pub const BETA2: f64 = 0.999;
/// Added to the root of Adam's second moment.
pub const ADAM_EPSILON: f64 = 1e-8;

/// The optimizer's memory: what a checkpoint has to keep.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// updates so far
    pub steps: u64,
    /// SGD of either kind: the momentum buffer. Adam and AdamW: first, then second moments. Empty before the first update.
    pub moments: Vec<ParameterSet<f64>>,
}

/// Applies an [`OptimizerConfig`] to parameters of type `T`.
pub struct Optimizer<T> {
    config: OptimizerConfig,
    steps: u64,
    moments: Vec<ParameterSet<T>>,
}

impl<T: Float + Send + Sync> Optimizer<T> {
    /// With no memory of earlier steps.
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

    /// One update: moves every tensor by its own learning rate along the gradient times `scale`, the factor of
    /// [`clip_scale`](super::clip_scale) or 1. `updated` is called after each tensor with its index, while it is still in the cache.
    pub fn step(
        &mut self,
        parameters: &mut ParameterSet<T>,
        gradient: &ParameterSet<T>,
        scale: f64,
        learning_rates: &[f64],
        mut updated: impl FnMut(&ParameterSet<T>, usize),
    ) {
        assert_eq!(parameters.tensors().len(), learning_rates.len());
        let buffers = self.config.moments();
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
                OptimizerConfig::HeavyBall {
                    momentum,
                    weight_decay,
                } => {
                    let m = &mut self.moments[0].tensors_mut()[i];
                    heavy_ball(w, g, m, scale, rate, momentum, weight_decay);
                }
                OptimizerConfig::Adam { weight_decay }
                | OptimizerConfig::AdamW { weight_decay } => {
                    let [first, second] = &mut self.moments[..] else {
                        unreachable!("Adam keeps two moments")
                    };
                    let (m, v) = (&mut first.tensors_mut()[i], &mut second.tensors_mut()[i]);
                    let decay = match self.config {
                        OptimizerConfig::AdamW { .. } => Decay::Decoupled(weight_decay),
                        _ => Decay::InGradient(weight_decay),
                    };
                    adam(w, g, m, v, scale, rate, decay, self.steps);
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
        *m = flushed(momentum * *m + g);
        *w = flushed(*w - rate * (g + momentum * *m));
    });
}

/// `g' = g + wd w`, `m <- mu m + g'`, `w <- w - lr m`.
fn heavy_ball<T: Float + Send + Sync>(
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
        *m = flushed(momentum * *m + scale * g + weight_decay * *w);
        *w = flushed(*w - rate * *m);
    });
}

/// How Adam's weights decay.
#[derive(Clone, Copy)]
enum Decay {
    InGradient(f64),
    Decoupled(f64),
}

/// AdamW: `w <- w (1 - lr wd)`; Adam: `g <- g + wd w`; then `m <- b1 m + (1-b1) g`, `v <- b2 v + (1-b2) g^2`,
/// `w <- w - lr m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps)`.
#[allow(clippy::too_many_arguments)]
fn adam<T: Float + Send + Sync>(
    w: &mut ArrayD<T>,
    g: &ArrayD<T>,
    m: &mut ArrayD<T>,
    v: &mut ArrayD<T>,
    scale: f64,
    rate: f64,
    decay: Decay,
    steps: u64,
) {
    let t = steps as f64;
    let (l2, keep) = match decay {
        Decay::InGradient(weight_decay) => (weight_decay, 1.0),
        Decay::Decoupled(weight_decay) => (0.0, 1.0 - rate * weight_decay),
    };
    let [scale, l2, keep, b1, b2, c1, c2, eps]: [T; 8] = real([
        scale,
        l2,
        keep,
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
            let g = scale * g + l2 * *w;
            *m = flushed(b1 * *m + (one - b1) * g);
            *v = flushed(b2 * *v + (one - b2) * g * g);
            *w = flushed(*w * keep - c1 * *m / (v.sqrt() * c2 + eps));
        });
}

/// Zero in the place of a subnormal number: what nothing but weight decay moves (the bias of a convolution before batch
/// normalisation) shrinks for ever, and processors compute slowly with what it would end as. NaN stays NaN.
fn flushed<T: Float>(value: T) -> T {
    match value.abs() < T::min_positive_value() {
        true => T::zero(),
        false => value,
    }
}

fn real<T: Float, const N: usize>(values: [f64; N]) -> [T; N] {
    values.map(|v| T::from(v).expect("an f64 converts to a float"))
}
