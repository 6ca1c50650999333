//! The states of a few examples, and how the two of a nudged phase are held. A layer's state is a matrix with one row per
//! pixel of each image and one column per channel.

use super::update::{Change, update_masked, update_pair, update_states};
use crate::cpu::ops::real::Real;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

/// How the states of `n` examples are held.
///
/// Nudging starts at the output and moves by one edge per update. A layer that it has not reached is the same in both
/// nudged phases: such a layer has `n` images, and is computed once. A layer that it has reached is *apart*: it has `2n`
/// images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// the free state; no layer is apart
    Free,
    /// apart: the states of the first nudged phase, then those of the second
    Direct,
    /// apart: the mean `m` of the two nudged states, then half their difference `d`, which is zero before
    SumDifference,
    /// no state, but a vector `d` on which the free state's linearisation acts: the edges with the maxima of the free state, without
    /// the biases; no layer is apart
    Tangent,
}

/// The states of `n` examples in one [`Representation`].
#[derive(Clone)]
pub struct States<T> {
    representation: Representation,
    /// by layer; entry 0 is empty: the input is clamped, and held elsewhere
    layers: Vec<Array2<T>>,
    apart: Vec<bool>,
    versions: Vec<u64>,
}

impl<T: Real> States<T> {
    /// `layers` has `n` images each.
    pub fn new(representation: Representation, layers: Vec<Array2<T>>) -> Self {
        Self {
            representation,
            versions: vec![1; layers.len()],
            apart: vec![false; layers.len()],
            layers,
        }
    }

    pub fn representation(&self) -> Representation {
        self.representation
    }

    /// Layer `l`, with `2n` images when it is apart.
    pub fn layer(&self, l: usize) -> &Array2<T> {
        &self.layers[l]
    }

    /// Whether nudging has reached layer `l`, which then has `2n` images.
    pub fn is_apart(&self, l: usize) -> bool {
        self.apart[l]
    }

    /// A number that is another one whenever layer `l` has changed.
    pub fn version(&self, l: usize) -> u64 {
        self.versions[l]
    }

    /// Layers of a free state, `n` images each.
    pub fn layers(&self) -> &[Array2<T>] {
        &self.layers
    }

    /// Mean of the two nudged states of layer `l`. [`Representation::SumDifference`] only.
    pub fn mean(&self, l: usize) -> ArrayView2<'_, T> {
        let layer = self.layers[l].view();
        if self.apart[l] {
            halves(layer).0
        } else {
            layer
        }
    }

    /// Half the difference of the two nudged states of layer `l`; `None` where it is zero. [`Representation::SumDifference`] only.
    pub fn half_difference(&self, l: usize) -> Option<ArrayView2<'_, T>> {
        self.apart[l].then(|| halves(self.layers[l].view()).1)
    }

    /// `m + sign d`: one of the two nudged states. [`Representation::SumDifference`] only.
    pub fn nudged_state(&self, l: usize, sign: T) -> Array2<T> {
        let mut state = self.mean(l).to_owned();
        if let Some(half) = self.half_difference(l) {
            state.zip_mut_with(&half, |s, &d| *s += sign * d);
        }
        state
    }

    /// Gives layer `l` an image per state and example, once nudging has reached it.
    pub fn set_apart(&mut self, l: usize) {
        let is_pair = matches!(
            self.representation,
            Representation::Direct | Representation::SumDifference
        );
        if is_pair && !self.apart[l] {
            self.layers[l] = self.doubled(l);
            self.apart[l] = true;
            self.versions[l] += 1;
        }
    }

    /// The images of a layer that is not apart, in the form that they have when it is.
    pub fn doubled(&self, l: usize) -> Array2<T> {
        let layer = &self.layers[l];
        let mut both = Array2::zeros((2 * layer.nrows(), layer.ncols()));
        let (mut first, mut second) = both.view_mut().split_at(Axis(0), layer.nrows());
        first.assign(layer);
        if self.representation == Representation::Direct {
            second.assign(layer);
        }
        both
    }

    /// `s_l <- clip(s_l + omega (p_l - s_l))`
    pub fn update(
        &mut self,
        l: usize,
        p: &Array2<T>,
        omega: T,
        bounds: Option<(f64, f64)>,
    ) -> Change {
        self.versions[l] += 1;
        let state = self.layers[l]
            .as_slice_mut()
            .expect("states are contiguous");
        let p = p.as_slice().expect("states are contiguous");
        match (self.representation, self.apart[l]) {
            // The change of a pair is that of its difference.
            (Representation::SumDifference, true) => update_pair(state, p, omega, bounds),
            (Representation::SumDifference, false) => {
                update_states(state, p, omega, bounds);
                Change::default()
            }
            (Representation::Direct, false) => {
                // The same change in both states.
                let change = update_states(state, p, omega, bounds);
                Change {
                    delta: 2.0 * change.delta,
                    norm: 2.0 * change.norm,
                }
            }
            _ => update_states(state, p, omega, bounds),
        }
    }

    /// Sets a layer that is apart.
    pub fn set_pair(&mut self, l: usize, both: Array2<T>) {
        self.layers[l] = both;
        self.apart[l] = true;
        self.versions[l] += 1;
    }

    /// `d_l <- mask (keep d_l + rate p_l)`, where the mask keeps the units at which `inside` lies strictly between the bounds.
    /// [`Representation::Tangent`] only.
    pub fn update_tangent(
        &mut self,
        l: usize,
        p: &Array2<T>,
        (keep, rate): (T, T),
        inside: &Array2<T>,
        bounds: Option<(f64, f64)>,
    ) -> Change {
        self.versions[l] += 1;
        let p = p.as_slice().expect("states are contiguous");
        let inside = inside.as_slice().expect("states are contiguous");
        let d = self.layers[l]
            .as_slice_mut()
            .expect("states are contiguous");
        update_masked(d, p, keep, rate, inside, bounds)
    }

    /// Turns the two states of a direct nudged phase into mean and half-difference.
    pub fn make_sum_difference(&mut self) {
        if self.representation == Representation::Direct {
            let two = T::of(2.0);
            let layers = self.layers.iter_mut().zip(&self.apart);
            for (layer, _) in layers.filter(|(_, apart)| **apart) {
                let middle = layer.nrows() / 2;
                let (mut first, mut second) = layer.view_mut().split_at(Axis(0), middle);
                ndarray::Zip::from(&mut first)
                    .and(&mut second)
                    .for_each(|a, b| {
                        (*a, *b) = ((*b + *a) / two, (*b - *a) / two);
                    });
            }
            self.versions.iter_mut().for_each(|v| *v += 1);
            self.representation = Representation::SumDifference;
        }
    }
}

/// The part of a layer's pre-activation `p` that another layer contributes to, and how often. A layer that is not apart has no
/// half-difference, and is in both states of a direct phase.
pub fn targets<T>(
    representation: Representation,
    is_apart: bool,
    states: usize,
    p: ArrayViewMut2<'_, T>,
) -> Vec<ArrayViewMut2<'_, T>> {
    if is_apart || states == 1 {
        return vec![p];
    }
    let middle = p.nrows() / 2;
    let (first, second) = p.split_at(Axis(0), middle);
    match representation {
        Representation::Direct => vec![first, second],
        _ => vec![first],
    }
}

/// Upper and lower half of a pair's images.
pub fn halves<T>(stack: ArrayView2<T>) -> (ArrayView2<T>, ArrayView2<T>) {
    stack.split_at(Axis(0), stack.nrows() / 2)
}
