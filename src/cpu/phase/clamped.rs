//! What does not change while a batch relaxes.

use super::states::{Representation, States};
use crate::cpu::ops::real::Real;
use ndarray::{Array2, Axis};

/// What is clamped while a batch relaxes.
pub struct Clamped<T> {
    /// the input layer, `n` images
    pub input: Array2<T>,
    pub labels: Vec<usize>,
    /// for each layer the part of its pre-activation that does not change: `b_l + sum Op(input)`, `n` images
    pub constant: Vec<Array2<T>>,
}

/// The part of `p` that does not change: `b_l` and the input's edges. Half-differences have none: it cancels. Neither has a
/// linearisation.
pub fn constant_of<T: Real>(clamped: &Clamped<T>, states: &States<T>, l: usize, p: &mut Array2<T>) {
    if p.dim() != states.layer(l).dim() {
        *p = Array2::zeros(states.layer(l).dim());
    }
    let constant = &clamped.constant[l];
    let (mut first, mut second) = p.view_mut().split_at(Axis(0), constant.nrows());
    match states.representation() {
        Representation::Tangent => first.fill(T::zero()),
        _ => first.assign(constant),
    }
    if states.is_apart(l) {
        match states.representation() {
            Representation::Direct => second.assign(constant),
            _ => second.fill(T::zero()),
        }
    }
}
