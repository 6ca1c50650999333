//! What outputs say about their labels: cost, prediction and errors.

use super::real::Real;
use crate::phase::{BatchOutcome, CostFunction};
use ndarray::ArrayView2;

/// Outputs that count for the top-5 error.
const TOP: usize = 5;

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
