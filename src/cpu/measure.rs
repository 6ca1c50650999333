//! What the free state of a few examples says: energy, cost and errors.

use super::backend::Chunk;
use super::real::Real;
use super::stack::{Clamped, Stack};
use super::wiring::Wiring;
use crate::phase::{BatchOutcome, CostFunction};
use ndarray::{ArrayView2, s};

/// Outputs that count for the top-5 error.
const TOP: usize = 5;

impl<T: Real> Chunk<T> {
    /// Measures the free state of this chunk's examples.
    pub fn outcome(&mut self, wiring: &Wiring<T>, cost: CostFunction) -> BatchOutcome {
        let energy = energies(&mut self.free, wiring, &self.clamped);
        let output = &self.free.layers()[wiring.network.output_index()];
        BatchOutcome {
            energy,
            ..judge(output.view(), &self.clamped.labels, cost)
        }
    }
}

/// What outputs, one row per example, say about their labels; the energy is left out.
pub fn judge<T: Real>(
    outputs: ArrayView2<T>,
    labels: &[usize],
    cost: CostFunction,
) -> BatchOutcome {
    let mut outcome = BatchOutcome::default();
    for (row, &label) in outputs.rows().into_iter().zip(labels) {
        let row = row.to_slice().expect("a row is contiguous");
        outcome.cost.push(cost.value(row, label));
        outcome.prediction.push(argmax(row));
        outcome.in_top5.push(rank(row, label) < TOP);
    }
    outcome
}

/// `E = - sum_l <s_l, b_l + sum_{e: post = l} Op_e(s_pre)>` per example of a free state: each edge's energy is counted at its
/// post layer.
pub fn energies<T: Real>(
    stack: &mut Stack<T>,
    wiring: &Wiring<T>,
    clamped: &Clamped<T>,
) -> Vec<f64> {
    let mut energies = vec![0.0; clamped.labels.len()];
    for l in wiring.network.free_layers() {
        let of_layer = layer_energies(stack, wiring, clamped, l);
        for (energy, of_layer) in energies.iter_mut().zip(of_layer) {
            *energy += of_layer;
        }
    }
    energies
}

/// The part of [`energies`] that is counted at layer `l`.
pub fn layer_energies<T: Real>(
    stack: &mut Stack<T>,
    wiring: &Wiring<T>,
    clamped: &Clamped<T>,
    l: usize,
) -> Vec<f64> {
    let drive = stack.bottom_up(wiring, clamped, l);
    let state = &stack.layers()[l];
    let pixels = wiring.network.layers()[l].shape.pixels();
    let of_example = |n: usize| {
        let rows = s![n * pixels..(n + 1) * pixels, ..];
        let (state, drive) = (state.slice(rows), drive.slice(rows));
        let products = state.iter().zip(drive).map(|(&s, &p)| (s * p).wide());
        -products.sum::<f64>()
    };
    (0..clamped.labels.len()).map(of_example).collect()
}

fn argmax<T: Real>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Number of entries that come before `label` when sorted from the largest, the first of equals first.
fn rank<T: Real>(values: &[T], label: usize) -> usize {
    let ahead = |(i, &v): (usize, &T)| v > values[label] || (v == values[label] && i < label);
    values
        .iter()
        .enumerate()
        .filter(|&(i, v)| ahead((i, v)))
        .count()
}
