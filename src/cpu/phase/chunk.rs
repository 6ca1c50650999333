//! A few examples of a batch, which relax together on one core.

use super::clamped::Clamped;
use super::response::Response;
use super::stack::Stack;
use crate::cpu::ops::real::Real;
use crate::phase::PhaseState;
use ndarray::Array2;

/// A few examples of the batch, with everything that their relaxation touches.
pub struct Chunk<T> {
    pub clamped: Clamped<T>,
    pub free: Stack<T>,
    pub after: After<T>,
}

/// What came after the free phase.
pub enum After<T> {
    Nothing,
    /// nudged phases; once they have run, in [`Representation::SumDifference`](super::states::Representation::SumDifference)
    Pair(Box<Stack<T>>),
    /// the linear response
    Response(Box<Response<T>>),
    /// the end of more iterations, which were differentiated: layer by layer from 0, whose entry is empty
    End(Vec<Array2<T>>),
}

impl<T: Real> Chunk<T> {
    /// How many they are.
    pub fn examples(&self) -> usize {
        self.clamped.labels.len()
    }

    /// One layer of a state, if it was reached and is still there.
    pub fn state(&self, which: PhaseState, l: usize) -> Option<Array2<T>> {
        match (which, &self.after) {
            (PhaseState::Free, _) => Some(self.free.states.layer(l).clone()),
            (PhaseState::First, After::Pair(pair)) => Some(pair.states.nudged_state(l, -T::one())),
            (PhaseState::Second, After::Pair(pair)) => Some(pair.states.nudged_state(l, T::one())),
            (PhaseState::Second, After::End(layers)) => Some(layers[l].clone()),
            _ => None,
        }
    }

    /// The state that the next training batch may start from, layer by layer from 0, whose entry is empty.
    pub fn last(&self) -> Option<Vec<Array2<T>>> {
        match &self.after {
            After::Nothing => None,
            After::Pair(pair) => {
                let layers = 1..self.free.states.layers().len();
                let second = layers.map(|l| pair.states.nudged_state(l, T::one()));
                Some(
                    std::iter::once(Array2::zeros((0, 0)))
                        .chain(second)
                        .collect(),
                )
            }
            After::Response(_) => Some(self.free.states.layers().to_vec()),
            After::End(layers) => Some(layers.clone()),
        }
    }
}
