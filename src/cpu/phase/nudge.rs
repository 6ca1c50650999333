//! Nudging: how the cost enters the output's pre-activation.

use super::states::Representation;
use crate::cpu::ops::real::Real;
use crate::phase::CostFunction;
use ndarray::{Array2, ArrayView2, s};

/// Nudging strengths of the two phases, and the cost they nudge towards.
#[derive(Debug, Clone, Copy)]
pub struct Nudge<T> {
    pub first: T,
    pub second: T,
    pub cost: CostFunction,
}

/// The output's pre-activation loses `beta dC/ds_L`.
///
/// Of a pair, with `g+` and `g-` the cost's gradients at `m + d` and `m - d`, and `gm`, `gd` their mean and half
/// difference, the same in terms of mean and half-difference of the two strengths `bm`, `bd`:
/// `pm -= bm gm + bd gd`, `pd -= bd gm + bm gd`.
pub fn nudge_output<T: Real>(
    representation: Representation,
    state: ArrayView2<T>,
    p: &mut Array2<T>,
    labels: &[usize],
    nudge: &Nudge<T>,
) {
    let n = labels.len();
    let classes = state.ncols();
    let (mut g_plus, mut g_minus) = (vec![T::zero(); classes], vec![T::zero(); classes]);
    let row = |i: usize| {
        state
            .slice(s![i, ..])
            .to_slice()
            .expect("a row is contiguous")
    };
    match representation {
        Representation::Free | Representation::Tangent => {}
        Representation::Direct => {
            for (i, mut p) in p.rows_mut().into_iter().enumerate() {
                let beta = if i < n { nudge.first } else { nudge.second };
                nudge.cost.gradient(row(i), labels[i % n], &mut g_plus);
                for (p, &g) in p.iter_mut().zip(&g_plus) {
                    *p -= beta * g;
                }
            }
        }
        Representation::SumDifference => {
            let two = T::of(2.0);
            let bm = (nudge.second + nudge.first) / two;
            let bd = (nudge.second - nudge.first) / two;
            for (i, &label) in labels.iter().enumerate() {
                let (m, d) = (row(i), row(n + i));
                let (gm, gd): (Vec<T>, Vec<T>) = match nudge.cost {
                    // Linear: no difference has to be formed.
                    CostFunction::Mse => {
                        nudge.cost.gradient(m, label, &mut g_plus);
                        (g_plus.clone(), d.to_vec())
                    }
                    CostFunction::Ce => {
                        let at = |sign: T| -> Vec<T> {
                            m.iter().zip(d).map(|(&m, &d)| m + sign * d).collect()
                        };
                        nudge.cost.gradient(&at(T::one()), label, &mut g_plus);
                        nudge.cost.gradient(&at(-T::one()), label, &mut g_minus);
                        let both = || g_plus.iter().zip(&g_minus);
                        (
                            both().map(|(&a, &b)| (a + b) / two).collect(),
                            both().map(|(&a, &b)| (a - b) / two).collect(),
                        )
                    }
                };
                for c in 0..classes {
                    p[(i, c)] -= bm * gm[c] + bd * gd[c];
                    p[(n + i, c)] -= bd * gm[c] + bm * gd[c];
                }
            }
        }
    }
}
