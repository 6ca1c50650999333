//! The linear response of a free state to an infinitesimal nudging.
//!
//! With the free state `s`, its pre-activations `p`, and the maxima of its max pooling,
//!
//! ```text
//! d_l <- mask_l (d_l + omega (sum Op(d_pre) + sum Op^T(d_post) - [l = L] dC/ds_L - d_l))
//! ```
//!
//! from zero, where `mask_l` keeps the units whose `p_l` lies strictly inside the bounds. In the limit it is the slope of the nudged state
//! with `beta`, at `beta = 0`: the adjoint state of recurrent backpropagation (Almeida 1987, Pineda 1987), since the
//! linearised iteration is symmetric. With `omega = 1` and all layers together, `K` iterations are the first `K` terms of
//! its series.

use super::clamped::Clamped;
use super::pre_activation::PreActivations;
use super::stack::Stack;
use super::states::{Representation, States};
use super::update::Change;
use super::weights::PackedNetwork;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use crate::phase::CostFunction;
use ndarray::{Array2, ArrayView2};

/// The response of a few examples while it relaxes.
pub struct Response<T> {
    pub tangent: Tangent<T>,
    /// by layer the pre-activations of the free state, which say where its units respond
    inside: Vec<Array2<T>>,
    /// `-dC/ds_L` at the free state
    force: Array2<T>,
}

impl<T: Real> Response<T> {
    /// Zero, about a free state.
    pub fn new(
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        free: &mut Stack<T>,
        cost: CostFunction,
    ) -> Self {
        let network = &packed.network;
        let inside = (0..network.layers().len()).map(|l| match l {
            0 => Array2::zeros((0, 0)),
            l => free.pre_activation(packed, clamped, l).to_owned(),
        });
        let inside = inside.collect();
        let maxima = free.maxima(packed, clamped);
        let mut tangent = Tangent::zeros(packed, free.states.layers());
        for (e, maxima) in maxima.iter().enumerate() {
            tangent.set_maxima(packed, e, maxima);
        }
        let output = free.states.layer(network.output_index());
        let slope = cost_slope(output.view(), &clamped.labels, cost);
        Self {
            tangent,
            inside,
            force: slope.mapv(|g| -g),
        }
    }

    /// One iteration: every free layer once, group by group.
    pub fn iterate(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        groups: &[Vec<usize>],
        omega: T,
    ) -> Change {
        let mut change = Change::default();
        let force = (packed.network.output_index(), &self.force);
        let rates = (T::one() - omega, omega);
        for group in groups {
            for &l in group {
                self.tangent.compute(packed, clamped, l, Some(force));
            }
            for &l in group {
                change += self.tangent.update(packed, l, rates, &self.inside[l]);
            }
        }
        change
    }
}

/// A vector with an entry per unit, on which the linearised updates of a state act.
pub struct Tangent<T> {
    states: States<T>,
    products: PreActivations<T>,
}

impl<T: Real> Tangent<T> {
    /// In the shape of a state.
    pub fn zeros(packed: &PackedNetwork<T>, like: &[Array2<T>]) -> Self {
        let layers = like.iter().map(|l| Array2::zeros(l.dim())).collect();
        Self {
            states: States::new(Representation::Tangent, layers),
            products: PreActivations::new(like.len(), packed.products.len()),
        }
    }

    pub fn layer(&self, l: usize) -> &Array2<T> {
        self.states.layer(l)
    }

    /// Says which maxima edge `e` passes on, if it is a max-pool edge.
    pub fn set_maxima(&mut self, packed: &PackedNetwork<T>, e: usize, maxima: &[u8]) {
        if let Product::Pooled(..) = packed.products[e] {
            self.products.set_maxima(e, maxima);
        }
    }

    /// `sum Op(d_pre) + sum Op^T(d_post)` for layer `l`, and the force, if it is this layer's.
    pub fn compute(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        l: usize,
        force: Option<(usize, &Array2<T>)>,
    ) {
        self.products.compute(packed, clamped, &mut self.states, l);
        if let Some((_, force)) = force.filter(|&(layer, _)| layer == l) {
            *self.products.layer_mut(l) += force;
        }
    }

    /// `d_l <- mask (keep d_l + rate p_l)` with what was computed; see [`States::update_tangent`].
    pub fn update(
        &mut self,
        packed: &PackedNetwork<T>,
        l: usize,
        rates: (T, T),
        inside: &Array2<T>,
    ) -> Change {
        let bounds = packed.network.layers()[l].activation.bounds();
        let p = self.products.layer(l);
        self.states.update_tangent(l, p, rates, inside, bounds)
    }
}

/// `dC/ds_L`, one row per example.
pub fn cost_slope<T: Real>(
    output: ArrayView2<T>,
    labels: &[usize],
    cost: CostFunction,
) -> Array2<T> {
    let mut slope = Array2::zeros(output.dim());
    let rows = output.rows().into_iter().zip(slope.rows_mut()).zip(labels);
    for ((output, mut slope), &label) in rows {
        let output = output.to_slice().expect("a row is contiguous");
        let slope = slope.as_slice_mut().expect("a row is contiguous");
        cost.gradient(output, label, slope);
    }
    slope
}
