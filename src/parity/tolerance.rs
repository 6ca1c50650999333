//! How exact is exact enough, in one place.
//!
//! The golden numbers were computed in float64. States and inputs are stored rounded to float32 (half a unit in the
//! last place: 6e-8 of a value), everything else in float64. What an implementation may differ by depends on its
//! own arithmetic:
//!
//! | quantity | measured as | fp64 | fp32 (fp16: see below) |
//! |---|---|---|---|
//! | states | largest error / largest value of the layer | 1e-6 | 1e-4 |
//! | | norm of the error / norm of the layer | (implied) | 1e-5 |
//! | energies, costs | largest error / largest value of the batch | 1e-9 | 1e-4 |
//! | gradients | norm of the error / norm of the tensor, but at least 1e-4 of the whole (fp64), / norm of the whole gradient (fp32) | 1e-6 | 1e-4 |
//! | gradient norms | error / norm | 1e-6 | 1e-4, while training 1e-2 |
//! | gradients of kind `learning` | norm of the error / norm of the tensor (fp64), / norm of the whole gradient (fp32) | 1e-9 | 1e-4 |
//! | direction of the gradient | 1 - cosine | 1e-9 | 2e-4, in sum-and-difference form 1e-6 |
//! | parameters after SGD | norm of the error / norm of the tensor | 1e-6 | 5e-4 |
//! | parameters after AdamW | rms error over all parameters / learning rate | 1e-3 | 1, in sum-and-difference form 0.05 |
//! | feed-forward: logits and losses | largest error / largest value | 1e-9, after updates 1e-8 | 1e-4, after updates 1e-3 |
//! | feed-forward: gradients | as above | 1e-6 | 1e-4 |
//! | feed-forward: after three steps | SGD, Adam as above; running statistics: error / layer norm | 1e-6, 1e-3; 1e-8 | 1e-4, 1e-2; 1e-3 |
//! | learning rates | largest error / initial rate | 1e-9 | the same |
//! | augmented bytes | exact | | |
//! | normalised images | largest error / largest value | 1e-6 | the same |
//!
//! - *States, fp64*: float64 itself is good to 1e-13 here; the bound is the rounding of the stored states, with room
//!   for a summation order that differs. *fp32*: a pre-activation sums some hundred products, each rounded to 6e-8, and
//!   the relaxation passes the errors on. Over a layer that leaves 1e-7 to 3e-6 (24 random networks of the files' sizes).
//!   Weights large enough to make a network interesting also make single units nearly unstable, and those reach ten
//!   times as much: hence two bounds, one for the layer and one for its worst unit.
//! - *Gradients, fp32*: the difference of two large correlations, divided by 2 beta. What rounding leaves is absolute,
//!   about the same for every element, so a small tensor's own relative error says nothing; it is judged against the
//!   global norm. Where training has made the gradient small (files whose `purpose` is `precision`), even that is too
//!   much to ask of two subtracted phases, and the direction alone is judged; the sum-and-difference form stays exact.
//!   One thing no tolerance covers: where two values in a max-pool window differ by less than rounding, fp32 may pick
//!   the other one, and the gradient jumps by a percent or ten. It happened three times in 250 gradients of such small
//!   networks.
//! - *SGD*: 36 random files, written by `bench/pytorch_step.py`'s operators in float64, ended 1e-7 to 3e-4 apart.
//! - *AdamW* divides by the root of the second moment: an element whose gradient is smaller than its rounding error
//!   still moves by the full learning rate, or stays where it should have moved. With cross-entropy and confident
//!   outputs, subtracting two float32 states leaves whole rows of the head without a gradient: up to half a learning rate
//!   in the mean over all parameters. The direct form is therefore held to no more than that the updates are not all
//!   wrong; the sum-and-difference form, which keeps such gradients, ended at 0.003 at most and is judged.
//! - *fp16* is for trained networks: there the direction of the gradient must agree to 1e-3, and 2e-5 was measured with the
//!   kernels. The small random networks of the other files have units that are nearly unstable, and a state rounded to
//!   5e-4 flips some of them, or an argmax of max pooling: states then differ by up to 6e-2 in a unit, the gradient by up
//!   to 15 %, and training steps follow other paths. The bounds for those files are twice what was measured: they catch a
//!   wrong index or sign, not a lost digit. Only the sum-and-difference form is judged.
//! - *fp16, kind `learning`*: each estimator starts from the file's own free state, so that no unit has lost its way before. A state is
//!   rounded to 2^-11 = 5e-4 of its value, and the roundings of the units that it reads add up to a few of these; products of two such
//!   states to twice that. Measured with the kernels: 4e-4 to 2e-3 of the largest value of a layer, 1e-4 to 4e-4 of its norm, gradients
//!   1e-4 to 2e-3 of their norm. The bounds are ten times the worst of each (2e-2, 5e-3), and for gradients 5e-2: room for the one unit at
//!   its bound, or the one pair of equal values in a window, that rounding decides otherwise.
//! - *bf16* (of changes, `phase/follow.rs`) is exact where a relaxation comes to rest: on the trained network the direction agrees to
//!   2e-7, and must to 1e-5; the estimators of kind `learning`, which start near rest, are held to fp16's bounds. The free phases of the
//!   small random networks end while they still move: what moved since the weights were used in full has an error of `2^-8`, and
//!   nearly unstable units make more of it: 0.15 in a unit, 0.02 in a layer, 0.05 of the gradient, whose direction differs by 1e-3. The
//!   bounds for those files are twice that. Edges with max pooling are in fp32, and so is all of vgg5.
//! - *Feed-forward networks*: fp32 leaves 1e-6 of everything, and 2e-5 learning rates after Adam. (PyTorch gives the bias of a
//!   convolution before batch normalisation a gradient of rounding errors; its true gradient is zero, and here it is zero.) In
//!   fp16 single units fall on the other side of relu, 1 % of the gradient of a batch of four images; three steps at a
//!   learning rate of 0.1 multiply that: later quantities are held to no more than that nothing went astray.
//! - *Schedules*: PyTorch steps its cosine by a recurrence, we use the closed form; 300 steps leave 1e-13.

use crate::device::Precision;
use crate::phase::NudgedPhase;

/// What an error is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// largest golden value of the tensor; 1 if all are zero
    TensorMax,
    /// norm of the golden tensor, at least a ten-thousandth of the norm of all tensors together
    TensorNorm,
    /// norm of the golden tensor; 1 if it is zero
    LayerNorm,
    /// norm of all golden tensors together
    GlobalNorm,
    /// the learning rate; the error is the root mean square over all parameters
    LearningRate,
    /// 1 - cosine of the angle between ours and the golden one
    Angle,
    /// nothing: the values must be equal
    Exact,
}

impl Scale {
    /// As the table calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::TensorMax => "max",
            Self::TensorNorm => "tensor norm",
            Self::LayerNorm => "layer norm",
            Self::GlobalNorm => "global norm",
            Self::LearningRate => "rms / lr",
            Self::Angle => "1 - cosine",
            Self::Exact => "exact",
        }
    }
}

/// See the module's table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    /// the worst unit of a layer
    pub unit: f64,
    /// a layer as a whole
    pub layer: f64,
    /// energies and costs
    pub measures: f64,
    /// gradient estimates, by `gradient_scale`
    pub gradient: f64,
    /// what their error is measured by
    pub gradient_scale: Scale,
    /// the global norm
    pub gradient_norm: f64,
    /// of a trained network's small gradient (files whose `purpose` is `precision`)
    pub angle_trained: f64,
    /// of other gradients, from direct phases
    pub angle: f64,
    /// the same, from sum-and-difference phases
    pub angle_sum_difference: f64,
    /// files of kind `learning`
    pub learning: LearningTolerances,
    /// parameters after training steps
    pub training: TrainingTolerances,
    /// files of backpropagation
    pub feed_forward: FeedForwardTolerances,
    /// whether two subtracted phases resolve the small gradient of a trained network
    pub resolves_small_gradients: bool,
    /// forms of the nudged phases that are judged. In fp16 direct phases lose most of a gradient: there is nothing to
    /// judge.
    pub forms: &'static [NudgedPhase],
}

/// Of the parent framework's estimators (kind `learning`), which start from a state in float64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningTolerances {
    /// the worst unit of a layer, and a layer as a whole
    pub states: (f64, f64),
    pub gradient: f64,
    pub scale: Scale,
}

/// After a few training steps, where errors have passed through the network several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingTolerances {
    pub gradient_norm: f64,
    pub sgd: f64,
    pub adamw: f64,
    pub adamw_sum_difference: f64,
}

/// Of networks trained by backpropagation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedForwardTolerances {
    /// logits and loss of the first step
    pub first: f64,
    /// logits and losses later on
    pub later: f64,
    pub statistics: f64,
    pub gradient: f64,
    pub gradient_scale: Scale,
    pub sgd: f64,
    pub adam: f64,
}

/// Learning rates, relative to the initial one.
pub const SCHEDULE: f64 = 1e-9;
/// Normalised images: single precision.
pub const NORMALIZED: f64 = 1e-6;
/// Magnitudes of RandAugment: single precision.
pub const MAGNITUDE: f64 = 1e-6;

impl Tolerances {
    /// Double precision: rounding errors alone.
    pub const FP64: Self = Self {
        unit: 1e-6,
        layer: 1e-6,
        measures: 1e-9,
        gradient: 1e-6,
        gradient_scale: Scale::TensorNorm,
        gradient_norm: 1e-6,
        angle_trained: 1e-9,
        angle: 1e-9,
        angle_sum_difference: 1e-9,
        learning: LearningTolerances {
            states: (1e-9, 1e-9),
            gradient: 1e-9,
            scale: Scale::LayerNorm,
        },
        training: TrainingTolerances {
            gradient_norm: 1e-6,
            sgd: 1e-6,
            adamw: 1e-3,
            adamw_sum_difference: 1e-3,
        },
        feed_forward: FeedForwardTolerances {
            first: 1e-9,
            later: 1e-8,
            statistics: 1e-8,
            gradient: 1e-6,
            gradient_scale: Scale::TensorNorm,
            sgd: 1e-6,
            adam: 1e-3,
        },
        resolves_small_gradients: true,
        forms: &[NudgedPhase::Direct, NudgedPhase::SumDifference],
    };

    /// Single precision.
    pub const FP32: Self = Self {
        unit: 1e-4,
        layer: 1e-5,
        measures: 1e-4,
        gradient: 1e-4,
        gradient_scale: Scale::GlobalNorm,
        gradient_norm: 1e-4,
        angle_trained: 1e-6,
        angle: 2e-4,
        angle_sum_difference: 1e-6,
        learning: LearningTolerances {
            states: (1e-4, 1e-5),
            gradient: 1e-4,
            scale: Scale::GlobalNorm,
        },
        training: TrainingTolerances {
            gradient_norm: 1e-2,
            sgd: 5e-4,
            adamw: 1.0,
            adamw_sum_difference: 0.05,
        },
        feed_forward: FeedForwardTolerances {
            first: 1e-4,
            later: 1e-3,
            statistics: 1e-3,
            gradient: 1e-4,
            gradient_scale: Scale::GlobalNorm,
            sgd: 1e-4,
            adam: 1e-2,
        },
        resolves_small_gradients: false,
        forms: &[NudgedPhase::Direct, NudgedPhase::SumDifference],
    };

    /// Half precision of states and operands.
    pub const FP16: Self = Self {
        unit: 0.2,
        layer: 5e-2,
        measures: 0.2,
        gradient: 0.3,
        gradient_scale: Scale::GlobalNorm,
        gradient_norm: 0.3,
        angle_trained: 1e-3,
        angle: 5e-2,
        angle_sum_difference: 5e-2,
        learning: LearningTolerances {
            states: (2e-2, 5e-3),
            gradient: 5e-2,
            scale: Scale::GlobalNorm,
        },
        training: TrainingTolerances {
            gradient_norm: 0.5,
            sgd: 0.2,
            adamw: 2.0,
            adamw_sum_difference: 2.0,
        },
        feed_forward: FeedForwardTolerances {
            first: 5e-2,
            later: 1.0,
            statistics: 0.5,
            gradient: 0.1,
            gradient_scale: Scale::GlobalNorm,
            sgd: 0.3,
            adam: 1.0,
        },
        resolves_small_gradients: false,
        forms: &[NudgedPhase::SumDifference],
    };

    /// States of single precision, whose changes are rounded to eight bits where they are multiplied.
    pub const BF16: Self = Self {
        unit: 0.3,
        layer: 4e-2,
        gradient: 0.1,
        gradient_norm: 0.1,
        angle_trained: 1e-5,
        angle_sum_difference: 3e-3,
        ..Self::FP16
    };

    /// Of a state: its worst unit, and a layer as a whole.
    pub fn states(&self) -> (f64, f64) {
        (self.unit, self.layer)
    }

    /// Those of a precision.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::BF16,
            Precision::Fp16 => Self::FP16,
            Precision::Fp64 => Self::FP64,
            Precision::Fp32 => Self::FP32,
        }
    }
}
