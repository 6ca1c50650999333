//! The relaxation step next to its formula: `s_l <- clip(s_l + omega (p_l - s_l))`, group by group, with the cost's
//! gradient taken from the output's pre-activation in a nudged phase.

use super::clamped::Clamped;
use super::nudge::{Nudge, nudge_output};
use super::pre_activation::PreActivations;
use super::states::{Representation, States};
use super::update::Change;
use super::weights::PackedNetwork;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use ndarray::{Array2, ArrayView2, Axis};

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

    /// By edge where the windows of its max pooling are largest; empty for other edges. A free state's only.
    pub fn maxima(&mut self, packed: &PackedNetwork<T>, clamped: &Clamped<T>) -> Vec<Vec<u8>> {
        let of_edge = |(e, product): (usize, &Product)| match product {
            Product::Pooled(..) => {
                let input = clamped.input.view();
                self.pre_activations.maxima(packed, &self.states, e, input)
            }
            _ => Vec::new(),
        };
        packed.products.iter().enumerate().map(of_edge).collect()
    }

    /// Holds the output of both nudged states at `s_L - beta slope`, from where it is.
    pub fn clamp_output(&mut self, l: usize, slope: &Array2<T>, first: T, second: T) {
        let two = T::of(2.0);
        let (upper, lower, from) = match self.states.representation() {
            Representation::Direct => (first, second, T::one()),
            _ => ((first + second) / two, (second - first) / two, T::zero()),
        };
        let output = self.states.layer(l);
        let moved = |by: T, from: T| output.mapv(|s| from * s) - &slope.mapv(|g| by * g);
        let halves = [moved(upper, T::one()), moved(lower, from)];
        let both = ndarray::concatenate(Axis(0), &[halves[0].view(), halves[1].view()]);
        self.states
            .set_pair(l, both.expect("both have the output's shape"));
    }

    /// Turns the two states of a direct nudged phase into mean and half-difference.
    pub fn make_sum_difference(&mut self) {
        self.states.make_sum_difference();
        self.pre_activations.forget();
    }
}
