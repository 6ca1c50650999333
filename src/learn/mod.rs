//! What learns: one file per learning rule, behind one trait.
//!
//! An [`Algorithm`] is registered in [`of`], which gives its [`Learning`]: what a run has to know before anything is trained
//! (tensors and their names, initial values, the memory of a device). That makes the [`LearningRule`], which the training loop drives
//! batch by batch. Another rule is another file and a line in [`of`].

mod backprop;
mod ep;
mod probe;
mod rule;

pub use probe::Probe;
pub use rule::{BatchReport, Diverged, Learning, LearningRule, TensorNames};

use crate::config::Algorithm;

/// What is registered under the name of an algorithm.
pub fn of(algorithm: Algorithm) -> &'static dyn Learning {
    match algorithm {
        Algorithm::Ep => &ep::EquilibriumPropagation,
        Algorithm::Backprop => &backprop::Backpropagation,
    }
}
