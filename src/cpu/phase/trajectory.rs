//! Truncated backpropagation: `T` iterations on from the free state, differentiated backwards.
//!
//! Iteration `t` sets layer `l` to `s_l^t = clip(u_l)`, `u_l = (1 - omega_t) s_l^{t-1} + omega_t p_l`, where `p_l` reads each neighbour
//! `j` as it is at that moment: after iteration `t` where `j`'s group comes before `l`'s, else after iteration `t - 1`. With
//! `k_l^t = omega_t mask_l^t dC/ds_l^t`, where the mask keeps the units with `s_l^t` strictly inside the bounds, the way back is the same
//! linear sweep, with the groups in reverse:
//!
//! ```text
//! k_l^t = omega_t mask_l^t (sum Op(k_pre) + sum Op^T(k_post) + (1 - omega_{t+1}) / omega_{t+1} k_l^{t+1} + [l = L, t = T] dC/ds_L)
//! ```
//!
//! in which each neighbour's `k` is the one that was computed last, the next use of `s_l^t`. An update of the post layer passes on the
//! maxima of max pooling at the `s_pre` that it read, one of the pre layer those at the `s_pre` before it. The gradient is the sum over
//! all updates of `corr(s_pre, k_post) + corr(k_pre, s_post)` with the states that they read.

use super::clamped::Clamped;
use super::gradient::Terms;
use super::pooling::unpooled;
use super::response::{Tangent, cost_slope};
use super::stack::Stack;
use super::update::Change;
use super::weights::PackedNetwork;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use crate::network::order::Order;
use crate::phase::CostFunction;
use ndarray::{Array2, ArrayView2, CowArray};

/// The states that a few examples pass through, and the way back.
pub struct Trajectory<T> {
    /// relaxes on from the free state
    stack: Stack<T>,
    /// entry `t`: after `t` iterations
    moments: Vec<Moment<T>>,
    /// entry `t - 1`: over-relaxation of iteration `t`
    omegas: Vec<T>,
    /// `k` of the iteration that the way back has come to
    adjoint: Tangent<T>,
}

struct Moment<T> {
    layers: Vec<Array2<T>>,
    /// by edge the maxima of its max pooling; empty for other edges
    maxima: Vec<Vec<u8>>,
}

impl<T: Real> Trajectory<T> {
    /// Before the first iteration.
    pub fn new(packed: &PackedNetwork<T>, clamped: &Clamped<T>, free: &Stack<T>) -> Self {
        let mut trajectory = Self {
            stack: free.clone(),
            moments: Vec::new(),
            omegas: Vec::new(),
            adjoint: Tangent::zeros(packed, free.states.layers()),
        };
        trajectory.record(packed, clamped);
        trajectory
    }

    /// An iteration on.
    pub fn iterate(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        order: &Order,
        omega: T,
    ) -> Change {
        let change = (self.stack).iterate(packed, clamped, order.groups(), omega, None);
        self.omegas.push(omega);
        self.record(packed, clamped);
        change
    }

    fn record(&mut self, packed: &PackedNetwork<T>, clamped: &Clamped<T>) {
        self.moments.push(Moment {
            maxima: self.stack.maxima(packed, clamped),
            layers: self.stack.states.layers().to_vec(),
        });
    }

    /// The state after the last iteration, by layer.
    pub fn into_end(self) -> Vec<Array2<T>> {
        self.stack.states.layers().to_vec()
    }

    /// Goes back through iteration `t`; those after it come first.
    pub fn back(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        order: &Order,
        cost: CostFunction,
        t: usize,
    ) {
        let network = &packed.network;
        let output = network.output_index();
        let slope = (t == self.omegas.len()).then(|| {
            cost_slope(
                self.stack.states.layer(output).view(),
                &clamped.labels,
                cost,
            )
        });
        let force = slope.as_ref().map(|slope| (output, slope));
        let omega = self.omegas[t - 1];
        let kept = self
            .omegas
            .get(t)
            .map_or(T::zero(), |&next| (T::one() - next) / next);
        for group in order.groups().iter().rev() {
            for &l in group {
                // What the next updates of the neighbours passed on: they read this layer as it is after iteration t, and
                // the layer below itself as it was before.
                for (e, _) in network.edges_out_of(l) {
                    (self.adjoint).set_maxima(packed, e, &self.moments[t].maxima[e]);
                }
                for (e, edge) in network.edges_into(l).filter(|(_, edge)| edge.pre != 0) {
                    let before = t - usize::from(order.is_before(l, edge.pre));
                    (self.adjoint).set_maxima(packed, e, &self.moments[before].maxima[e]);
                }
                self.adjoint.compute(packed, clamped, l, force);
            }
            for &l in group {
                let state = &self.moments[t].layers[l];
                (self.adjoint).update(packed, l, (omega * kept, omega), state);
            }
        }
    }

    /// What iteration `t`, which the way back has come to, adds to the gradient.
    pub fn terms<'a>(
        &'a self,
        packed: &PackedNetwork<T>,
        clamped: &'a Clamped<T>,
        order: &Order,
        t: usize,
    ) -> Terms<'a, T> {
        let network = &packed.network;
        let weights = network.edges().iter().enumerate().map(|(e, edge)| {
            let at_convolution = |post: ArrayView2<'a, T>, moment: usize| match packed.products[e] {
                Product::Pooled(..) => {
                    unpooled(packed, e, post, &self.moments[moment].maxima[e]).into()
                }
                _ => CowArray::from(post),
            };
            let k_post = self.adjoint.layer(edge.post).view();
            if edge.pre == 0 {
                return vec![(clamped.input.view().into(), at_convolution(k_post, 0))];
            }
            let k_pre = self.adjoint.layer(edge.pre).view();
            let up = order.read(edge.pre, edge.post, t);
            let down = order.read(edge.post, edge.pre, t);
            let (pre, post) = (
                &self.moments[up].layers[edge.pre],
                &self.moments[down].layers[edge.post],
            );
            vec![
                (pre.view().into(), at_convolution(k_post, up)),
                (k_pre.into(), at_convolution(post.view(), t - 1)),
            ]
        });
        Terms {
            weights: weights.collect(),
            biases: (0..network.layers().len())
                .map(|l| (l > 0).then(|| self.adjoint.layer(l).view()))
                .collect(),
        }
    }
}
