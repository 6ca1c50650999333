//! Clipping of the global gradient norm.

/// Largest global L2 norm that a gradient keeps in equilibrium propagation, as published.
pub const MAX_NORM: f64 = 1.0;
/// Keeps the scale finite, as `torch.nn.utils.clip_grad_norm_` has it.
pub const NORM_EPSILON: f64 = 1e-6;

/// The factor for every gradient so that their global norm `norm` does not exceed `max_norm`:
/// `max_norm / (norm + 1e-6)`, or 1.
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    if norm > max_norm {
        max_norm / (norm + NORM_EPSILON)
    } else {
        1.0
    }
}
