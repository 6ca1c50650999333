//! Clipping of the global gradient norm.

/// Largest global L2 norm that a gradient keeps.
pub const MAX_NORM: f64 = 1.0;
/// Keeps the scale finite, as `torch.nn.utils.clip_grad_norm_` has it.
pub const NORM_EPSILON: f64 = 1e-6;

/// The factor for every gradient so that their global norm does not exceed 1: `1 / (norm + 1e-6)`, or 1.
pub fn clip_scale(norm: f64) -> f64 {
    if norm > MAX_NORM {
        MAX_NORM / (norm + NORM_EPSILON)
    } else {
        1.0
    }
}
