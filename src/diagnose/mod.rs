//! What researchers ask of a network besides its error.
//!
//! `relaxation.rs`: how many iterations do the phases need? `gradient.rs`: how good is the gradient that equilibrium
//! propagation estimates, and what is the true one? `table.rs`: that as text.

mod gradient;
mod relaxation;
mod table;

pub use gradient::{
    Agreement, Estimate, GradientStudy, Iterations, OwnEstimate, RuleEstimate, True, agreement,
    compare_gradients, compare_rules, own_estimate, true_gradient,
};
pub use relaxation::{LONGER, RelaxationStudy, TOLERANCES, first_below, study_relaxation};
pub use table::{cells, estimates_csv, tensor_table};
