//! The relaxation step next to its formula: `s_l <- clip(s_l + omega (p_l - s_l))`, group by group, with the cost's
//! gradient taken from the output's pre-activation in a nudged phase.

use super::nudge::{Nudge, nudge_output};
use super::pre_activation::{Clamped, PreActivations};
use super::states::{Representation, States};
use super::update::Change;
use super::weights::PackedNetwork;
use crate::cpu::ops::real::Real;
use ndarray::{Array2, ArrayView2};

/// The states of a few examples while they relax.
#[derive(Clone)]
pub struct Stack<T> {
    pub states: States<T>,
    pre_activations: PreActivations<T>,
}

impl<T: Real> Stack<T> {
    /// `layers` has `n` images each.
    pub fn new(representation: Representation, layers: Vec<Array2<T>>, edges: usize) -> Self {
        Self {
            pre_activations: PreActivations::new(layers.len(), edges),
            states: States::new(representation, layers),
        }
    }

    /// One iteration: every free layer once, group by group.
    pub fn iterate(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        groups: &[Vec<usize>],
        omega: T,
        nudge: Option<&Nudge<T>>,
    ) -> Change {
        let mut change = Change::default();
        for group in groups {
            for &l in group {
                if l == packed.network.output_index() && nudge.is_some() {
                    self.states.set_apart(l);
                }
                self.pre_activations
                    .compute(packed, clamped, &mut self.states, l);
                if l == packed.network.output_index()
                    && let Some(nudge) = nudge
                {
                    let states = &self.states;
                    let p = self.pre_activations.layer_mut(l);
                    nudge_output(
                        states.representation(),
                        states.layer(l).view(),
                        p,
                        &clamped.labels,
                        nudge,
                    );
                }
            }
            for &l in group {
                let p = self.pre_activations.layer(l);
                let bounds = packed.network.layers()[l].activation.bounds();
                change += self.states.update(l, p, omega, bounds);
            }
        }
        change
    }

    /// `p_l` at the present state, without nudging; a row per pixel like the state.
    pub fn pre_activation(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        l: usize,
    ) -> ArrayView2<'_, T> {
        self.pre_activations
            .compute(packed, clamped, &mut self.states, l);
        self.pre_activations.layer(l).view()
    }

    /// `b_l + sum_{e: post = l} Op_e(s_pre)`: the part of a free state's pre-activation that comes from below.
    pub fn bottom_up(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        l: usize,
    ) -> Array2<T> {
        self.pre_activations
            .bottom_up(packed, clamped, &self.states, l)
    }

    /// See [`PreActivations::unpooled_pair`].
    pub fn unpooled_pair(
        &mut self,
        packed: &PackedNetwork<T>,
        e: usize,
        input: ArrayView2<T>,
    ) -> Array2<T> {
        self.pre_activations
            .unpooled_pair(packed, &mut self.states, e, input)
    }

    /// Turns the two states of a direct nudged phase into mean and half-difference.
    pub fn into_sum_difference(mut self) -> Self {
        self.states = self.states.into_sum_difference();
        self
    }
}
