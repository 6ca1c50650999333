//! Convolutions in `bf16` of what has changed.
//!
//! A relaxation applies the same linear map to a state again and again, and each time the state has changed less. Rounded to the 8
//! bits of `bf16`, the state itself leaves an error of `2^-8 |s|` in every iteration, as large at the end as at the beginning. So what is
//! rounded is the change. With `t` the state as the neighbours know it, and `u = Op(t)`,
//!
//! ```text
//! d = bf16(s - t)        t <- t + d        u <- u + Op(d)
//! ```
//!
//! `t` follows `s` within `2^-8` of its last change, so that it becomes `s` as the state comes to rest; what was rounded off is in the
//! next difference. It remains that `Op` has rounded weights: from time to time `u` is computed anew from `t`, with the full ones
//! (`phase/follow.rs`), and the error is then `2^-8` of what has changed since. (Iterative refinement does the same to linear systems.)

use super::bf16::{self, Pair, rounded};
use super::filter::{Bordered, Direction};
use super::packed::{Cut, Packed, border};
use super::real::Real;
use super::tile::MOST_COLUMNS;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

/// A linear map between two images with weights in `bf16`.
pub struct ChangeFilter<T: 'static> {
    direction: Direction,
    weights: Weights<T>,
}

enum Weights<T: 'static> {
    /// rounded to `bf16`, and multiplied as `T`
    Rounded(Packed<T, T>),
    Pairs(Packed<Pair, T>),
}

impl<T: Real> ChangeFilter<T> {
    /// All weights zero.
    pub fn zeros(direction: Direction) -> Self {
        let weights = match T::pairs() {
            Some(of_pairs) => Weights::Pairs(Packed::zeros(
                &direction.taps,
                2,
                Cut::Entries,
                of_pairs.multiplier,
            )),
            None => Weights::Rounded(Packed::zeros(
                &direction.taps,
                1,
                Cut::Entries,
                T::MULTIPLIER,
            )),
        };
        Self { direction, weights }
    }

    /// Takes the weights of the convolution: rows (`ky`, `kx`, `c_pre`), columns `c_post`; of its transpose the same.
    pub fn fill(&mut self, kernel: ArrayView2<T>) {
        let direction = &self.direction;
        let taps = &direction.taps;
        match &mut self.weights {
            Weights::Rounded(packed) => packed.fill(taps, |positions, c, first, row| {
                direction.weights(kernel, positions, c, first, row);
                row.iter_mut().for_each(|w| *w = nearest(*w));
            }),
            Weights::Pairs(packed) => packed.fill(taps, |positions, entry, first, row| {
                // Of the last entry's second channel, if there is none, the weights stay zero.
                let mut both = [[T::zero(); MOST_COLUMNS]; 2];
                let channels = (2 * entry..taps.from.channels).zip(&mut both);
                for (c, weights) in channels {
                    direction.weights(kernel, positions, c, first, &mut weights[..row.len()]);
                }
                let single = |w: T| w.wide() as f32;
                for ((pair, &low), &high) in row.iter_mut().zip(&both[0]).zip(&both[1]) {
                    *pair = bf16::pair(single(low), single(high));
                }
            }),
        }
    }

    /// `onto += Op(d)`, a row per pixel.
    pub fn add(&self, changes: &Changes<T>, mut onto: ArrayViewMut2<T>, scratch: &mut Bordered<T>) {
        let onto = onto.as_slice_mut().expect("states are contiguous");
        let Direction { taps, .. } = &self.direction;
        let channels = taps.from.channels;
        match &self.weights {
            Weights::Rounded(packed) => {
                border(taps, channels, &changes.rounded, &mut scratch.full);
                packed.add(taps, &scratch.full, onto);
            }
            Weights::Pairs(packed) => {
                border(
                    taps,
                    channels.div_ceil(2),
                    &changes.pairs,
                    &mut scratch.pairs,
                );
                packed.add(taps, &scratch.pairs, onto);
            }
        }
    }
}

/// What has changed in a state, rounded: pairs where the processor multiplies them.
#[derive(Clone, Default)]
pub struct Changes<T> {
    rounded: Vec<T>,
    pairs: Vec<Pair>,
}

impl<T: Real> Changes<T> {
    /// Takes `d = from - known`, rounded, and adds it to `known`; both are states with a row per pixel.
    pub fn take(&mut self, from: ArrayView2<T>, known: &mut Array2<T>) {
        let channels = from.ncols();
        let from = from.to_slice().expect("states are contiguous");
        let known = known.as_slice_mut().expect("states are contiguous");
        assert_eq!(from.len(), known.len());
        let Some(of_pairs) = T::pairs() else {
            self.rounded.resize(from.len(), T::zero());
            for ((t, &x), known) in self.rounded.iter_mut().zip(from).zip(known) {
                *t = nearest(x - *known);
                *known += *t;
            }
            return;
        };
        let entries = channels.div_ceil(2);
        self.pairs
            .resize(from.len() / channels * entries, Pair::default());
        if channels.is_multiple_of(2) {
            (of_pairs.changes)(from, known, &mut self.pairs);
            return;
        }
        // Each pixel begins with a pair of its own.
        let pixels = from
            .chunks_exact(channels)
            .zip(known.chunks_exact_mut(channels));
        for ((from, known), target) in pixels.zip(self.pairs.chunks_exact_mut(entries)) {
            (of_pairs.changes)(from, known, target);
        }
    }
}

fn nearest<T: Real>(x: T) -> T {
    T::of(f64::from(rounded(x.wide() as f32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::ops::filter::Filter;
    use crate::cpu::ops::filter::trial::{direction, numbers};
    use crate::cpu::ops::taps::Taps;

    fn changes_add_up<T: Real>(channels: [usize; 2], stride: usize, is_transposed: bool) {
        let direction = || direction(channels, stride, is_transposed);
        let kernel = numbers::<T>((9 * channels[0], channels[1]), 1).mapv(nearest);
        let mut low = ChangeFilter::zeros(direction());
        let mut full = Filter::zeros(direction());
        low.fill(kernel.view());
        full.fill(kernel.view());
        let Taps { from, onto, .. } = direction().taps;
        let (images, mut scratch) = (2, Bordered::default());
        let shape = (images * from.pixels(), from.channels);
        let (mut known, mut sum) = (
            Array2::zeros(shape),
            Array2::zeros((images * onto.pixels(), onto.channels)),
        );
        let rest = numbers::<T>(shape, 2);
        let mut changes = Changes::default();
        for k in 0..8 {
            let shrinking = T::of(0.3f64.powi(k));
            let moved = numbers::<T>(shape, 3).mapv(|v| v * shrinking);
            let state = &rest + &moved;
            changes.take(state.view(), &mut known);
            low.add(&changes, sum.view_mut(), &mut scratch);
        }
        let far = (&known - &rest).mapv(T::wide);
        assert!(
            far.iter().all(|v| v.abs() < 3e-4),
            "the state is not followed"
        );
        let mut at_once = Array2::zeros(sum.dim());
        full.add(known.view(), at_once.view_mut(), &mut scratch);
        let error = (&sum - &at_once).mapv(T::wide);
        let error = error.iter().fold(0.0f64, |worst, v| worst.max(v.abs()));
        assert!(error < 1e-4, "{channels:?}, stride {stride}: {error:e}");
    }

    #[test]
    fn products_of_changes_add_up_to_the_product() {
        for channels in [[8, 16], [3, 5], [16, 70], [1, 1]] {
            for (stride, is_transposed) in [(1, false), (2, false), (1, true), (2, true)] {
                // In pairs where the processor has them; f64 never does.
                changes_add_up::<f32>(channels, stride, is_transposed);
                changes_add_up::<f64>(channels, stride, is_transposed);
            }
        }
    }
}
