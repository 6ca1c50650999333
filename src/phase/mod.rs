//! What equilibrium propagation asks of a backend: phases, nudging and a gradient estimate.
//!
//! The vocabulary here is shared by every backend. A *phase* lets the free layers relax: each update sets a
//! layer to its clipped pre-activation `p_l = b_l + sum Op(s_pre) + sum Op^T(s_post)`, over-relaxed by `omega`:
//!
//! ```text
//! s_l <- clip(s_l + omega (p_l - s_l))
//! ```
//!
//! The *free phase* runs on the energy alone. A *nudged phase* starts from the free state and adds `beta` times
//! the cost, which changes the output's pre-activation to `p_L - beta dC/ds_L`. The gradient estimate is
//! `(dE/dtheta(second) - dE/dtheta(first)) / (second - first)` (Elayedam & Srinivasan 2025, section 2; centred EP:
//! Laborieux et al. 2021).

mod backend;
mod cost;
mod statistics;
mod vocabulary;

pub use crate::network::Mode;
pub use backend::{
    Backend, BatchOutcome, GradientMemory, PhaseReport, PhaseState, Start, as_images, check_batch,
    check_layers,
};
pub use cost::CostFunction;
pub use statistics::LayerStatistics;
pub use vocabulary::{
    NudgedPhase, Nudging, OutputCondition, Relaxation, SAFEGUARD_GROWTH, SAFEGUARD_NEGLIGIBLE,
    SETTLING_ITERATIONS, Variant,
};
