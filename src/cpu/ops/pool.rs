//! 2x2 max pooling with stride 2, forwards and backwards, for single states and for pairs.
//!
//! `Op(x) = maxpool(conv(x))` is piecewise linear. Its transpose sends each post unit to the position of its window
//! that was largest (the first of equals in row-major order, as PyTorch has it); all other positions get zero.
//!
//! A *pair* is two states `s+ = m + d`, `s- = m - d` held as mean `m` and half-difference `d`. Each of the two has its
//! own argmax. Where both agree, which is nearly everywhere, the window is linear in `m` and `d` and nothing is
//! subtracted; where they differ, the pooled values are formed from `s+` and `s-`.

use super::real::{Real, vectorised};
use crate::network::Shape;
use ndarray::{ArrayView2, ArrayViewMut2};

/// The windows of a layer before pooling.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// the convolution's output
    pub full: Shape,
    /// after pooling (odd last rows and columns are dropped)
    pub pooled: Shape,
}

impl Windows {
    pub fn new(full: Shape) -> Self {
        let pooled = Shape::new(full.channels, full.height / 2, full.width / 2);
        Self { full, pooled }
    }

    /// Row (pixel) of the full image for position `position` (0..4, row-major) of pooled row `row`.
    fn source(&self, row: usize, position: usize) -> usize {
        let (n, pixel) = (row / self.pooled.pixels(), row % self.pooled.pixels());
        let (y, x) = (pixel / self.pooled.width, pixel % self.pooled.width);
        let (y, x) = (2 * y + position / 2, 2 * x + position % 2);
        (n * self.full.height + y) * self.full.width + x
    }

    fn sources(&self, row: usize) -> [usize; 4] {
        [0, 1, 2, 3].map(|position| self.source(row, position))
    }

    /// Positions (0..4) of the maxima of `full` into `argmax`, one per pooled unit.
    pub fn argmax<T: Real>(&self, full: ArrayView2<T>, argmax: &mut [u8]) {
        let full = full.to_slice().expect("states are contiguous");
        let channels = self.full.channels;
        vectorised(
            #[inline(always)]
            || {
                for (row, argmax) in argmax.chunks_exact_mut(channels).enumerate() {
                    let window = self.sources(row).map(|r| &full[r * channels..][..channels]);
                    for (c, best) in argmax.iter_mut().enumerate() {
                        *best = first_maximum(window.map(|w| w[c]));
                    }
                }
            },
        );
    }

    /// Adds the values at `argmax` to `pooled`.
    pub fn take_add<T: Real>(
        &self,
        full: ArrayView2<T>,
        argmax: &[u8],
        mut pooled: ArrayViewMut2<T>,
    ) {
        let full = full.to_slice().expect("states are contiguous");
        let pooled = pooled.as_slice_mut().expect("states are contiguous");
        let channels = self.full.channels;
        let rows = argmax
            .chunks_exact(channels)
            .zip(pooled.chunks_exact_mut(channels));
        for (row, (argmax, pooled)) in rows.enumerate() {
            let window = self.sources(row).map(|r| &full[r * channels..][..channels]);
            for (c, (p, &a)) in pooled.iter_mut().zip(argmax).enumerate() {
                *p += window[usize::from(a)][c];
            }
        }
    }

    /// Writes `post` to the positions `argmax` of `full`, and zero elsewhere.
    pub fn unpool<T: Real>(&self, post: ArrayView2<T>, argmax: &[u8], mut full: ArrayViewMut2<T>) {
        full.fill(T::zero());
        let full = full.as_slice_mut().expect("states are contiguous");
        let post = post.to_slice().expect("states are contiguous");
        let channels = self.full.channels;
        let rows = argmax
            .chunks_exact(channels)
            .zip(post.chunks_exact(channels));
        for (row, (argmax, post)) in rows.enumerate() {
            let starts = self.sources(row).map(|r| r * channels);
            for (c, (&v, &a)) in post.iter().zip(argmax).enumerate() {
                full[starts[usize::from(a)] + c] = v;
            }
        }
    }

    /// Argmax of `mean - half` into `minus` and of `mean + half` into `plus`.
    pub fn argmax_pair<T: Real>(
        &self,
        mean: ArrayView2<T>,
        half: ArrayView2<T>,
        minus: &mut [u8],
        plus: &mut [u8],
    ) {
        let channels = self.full.channels;
        let rows = minus
            .chunks_exact_mut(channels)
            .zip(plus.chunks_exact_mut(channels));
        for (row, (minus, plus)) in rows.enumerate() {
            let sources = self.sources(row);
            for c in 0..channels {
                let (m, d) = (sources.map(|r| mean[(r, c)]), sources.map(|r| half[(r, c)]));
                minus[c] = first_maximum([0, 1, 2, 3].map(|i| m[i] - d[i]));
                plus[c] = first_maximum([0, 1, 2, 3].map(|i| m[i] + d[i]));
            }
        }
    }

    /// Adds mean and half-difference of the pooled pair to `pooled_mean` and `pooled_half`.
    #[allow(clippy::too_many_arguments)]
    pub fn take_pair_add<T: Real>(
        &self,
        mean: ArrayView2<T>,
        half: ArrayView2<T>,
        minus: &[u8],
        plus: &[u8],
        mut pooled_mean: ArrayViewMut2<T>,
        mut pooled_half: ArrayViewMut2<T>,
    ) {
        let channels = self.full.channels;
        let two = T::of(2.0);
        for i in 0..minus.len() {
            let (row, c) = (i / channels, i % channels);
            let at = |position: u8| (self.source(row, usize::from(position)), c);
            let (low, high) = (at(minus[i]), at(plus[i]));
            let (m, d) = if low == high {
                (mean[high], half[high])
            } else {
                let (s_plus, s_minus) = (mean[high] + half[high], mean[low] - half[low]);
                ((s_plus + s_minus) / two, (s_plus - s_minus) / two)
            };
            pooled_mean[(row, c)] += m;
            pooled_half[(row, c)] += d;
        }
    }

    /// Mean and half-difference of the two unpooled post states `mean +- half`.
    #[allow(clippy::too_many_arguments)]
    pub fn unpool_pair<T: Real>(
        &self,
        mean: ArrayView2<T>,
        half: ArrayView2<T>,
        minus: &[u8],
        plus: &[u8],
        mut full_mean: ArrayViewMut2<T>,
        mut full_half: ArrayViewMut2<T>,
    ) {
        full_mean.fill(T::zero());
        full_half.fill(T::zero());
        let channels = self.full.channels;
        let two = T::of(2.0);
        for i in 0..minus.len() {
            let (row, c) = (i / channels, i % channels);
            let at = |position: u8| (self.source(row, usize::from(position)), c);
            let (low, high) = (at(minus[i]), at(plus[i]));
            let (m, d) = (mean[(row, c)], half[(row, c)]);
            if low == high {
                full_mean[high] = m;
                full_half[high] = d;
            } else {
                full_mean[high] = (m + d) / two;
                full_half[high] = (m + d) / two;
                full_mean[low] = (m - d) / two;
                full_half[low] = -(m - d) / two;
            }
        }
    }
}

/// Index of the largest value; the first one of equals.
#[inline(always)]
fn first_maximum<T: Real>(window: [T; 4]) -> u8 {
    let (mut best, mut value) = (0, window[0]);
    for (i, &candidate) in (1..).zip(&window[1..]) {
        let larger = candidate > value;
        best = if larger { i } else { best };
        value = if larger { candidate } else { value };
    }
    best
}
