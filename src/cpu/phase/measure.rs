//! What the free state of a few examples says: energy, cost and errors.

use super::chunk::Chunk;
use super::clamped::Clamped;
use super::stack::Stack;
use super::weights::PackedNetwork;
use crate::cpu::ops::outcome::judge;
use crate::cpu::ops::real::Real;
use crate::phase::{BatchOutcome, CostFunction};
use ndarray::s;

/// Measures the free state of a chunk's examples.
pub fn outcome<T: Real>(
    chunk: &mut Chunk<T>,
    packed: &PackedNetwork<T>,
    cost: CostFunction,
) -> BatchOutcome {
    let energy = energies(&mut chunk.free, packed, &chunk.clamped);
    let output = chunk.free.states.layer(packed.network.output_index());
    BatchOutcome {
        energy,
        ..judge(output.view(), &chunk.clamped.labels, cost)
    }
}

/// `E = - sum_l <s_l, b_l + sum_{e: post = l} Op_e(s_pre)>` per example of a free state: each edge's energy is counted at its
/// post layer.
pub fn energies<T: Real>(
    stack: &mut Stack<T>,
    packed: &PackedNetwork<T>,
    clamped: &Clamped<T>,
) -> Vec<f64> {
    let mut energies = vec![0.0; clamped.labels.len()];
    for l in packed.network.free_layers() {
        let of_layer = layer_energies(stack, packed, clamped, l);
        for (energy, of_layer) in energies.iter_mut().zip(of_layer) {
            *energy += of_layer;
        }
    }
    energies
}

/// The part of [`energies`] that is counted at layer `l`.
pub fn layer_energies<T: Real>(
    stack: &mut Stack<T>,
    packed: &PackedNetwork<T>,
    clamped: &Clamped<T>,
    l: usize,
) -> Vec<f64> {
    let from_below = stack.bottom_up(packed, clamped, l);
    let state = stack.states.layer(l);
    let pixels = packed.network.layers()[l].shape.pixels();
    let of_example = |n: usize| {
        let rows = s![n * pixels..(n + 1) * pixels, ..];
        let (state, from_below) = (state.slice(rows), from_below.slice(rows));
        let products = state.iter().zip(from_below).map(|(&s, &p)| (s * p).wide());
        -products.sum::<f64>()
    };
    (0..clamped.labels.len()).map(of_example).collect()
}
