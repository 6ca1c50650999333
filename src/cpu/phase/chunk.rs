//! A few examples of a batch, which relax together on one core.

use super::pre_activation::Clamped;
use super::stack::Stack;
use super::states::States;
use crate::cpu::ops::real::Real;
use ndarray::Array2;

/// A few examples of the batch, with everything that their relaxation touches.
pub struct Chunk<T> {
    pub clamped: Clamped<T>,
    pub free: Stack<T>,
    /// the nudged states in [`Representation::SumDifference`], once the nudged phases have run
    pub nudged: Option<Stack<T>>,
}

impl<T: Real> Chunk<T> {
    /// How many they are.
    pub fn examples(&self) -> usize {
        self.clamped.labels.len()
    }

    /// The nudged states.
    pub fn pair(&self) -> &States<T> {
        let nudged = self.nudged.as_ref();
        &nudged.expect("the nudged phases have run").states
    }

    /// The second nudged state, `m + d`, layer by layer.
    pub fn second(&self) -> Vec<Array2<T>> {
        let layers = 1..self.free.states.layers().len();
        let states = layers.map(|l| self.pair().nudged_state(l, T::one()));
        std::iter::once(Array2::zeros((0, 0)))
            .chain(states)
            .collect()
    }
}
