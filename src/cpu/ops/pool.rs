//! 2x2 max pooling with stride 2, forwards and backwards, for single states and for pairs.
//!
//! `Op(x) = maxpool(conv(x))` is piecewise linear. Its transpose sends each post unit to the position of its window
//! that was largest (the first of equals in row-major order, as PyTorch has it); all other positions get zero.
//!
//! A *pair* is two states `s+ = m + d`, `s- = m - d` held as mean `m` and half-difference `d`. Each of the two has its
//! own argmax. Where both agree, which is nearly everywhere, the window is linear in `m` and `d` and nothing is
//! subtracted; where they differ, the pooled values are formed from `s+` and `s-`.

use super::real::Real;
use super::simd::vectorised;
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
                    let window = self.window(full, row);
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
        vectorised(
            #[inline(always)]
            || {
                let rows = argmax.chunks_exact(channels);
                for (row, (argmax, pooled)) in
                    rows.zip(pooled.chunks_exact_mut(channels)).enumerate()
                {
                    let [first, second, third, fourth] = self.window(full, row);
                    let upper = first.iter().zip(second);
                    let window = upper.zip(third.iter().zip(fourth));
                    for ((p, &a), ((&w0, &w1), (&w2, &w3))) in
                        pooled.iter_mut().zip(argmax).zip(window)
                    {
                        *p += chosen([w0, w1, w2, w3], a);
                    }
                }
            },
        );
    }

    /// Writes `post` to the positions `argmax` of `full`, and zero elsewhere.
    pub fn unpool<T: Real>(&self, post: ArrayView2<T>, argmax: &[u8], mut full: ArrayViewMut2<T>) {
        let full = full.as_slice_mut().expect("states are contiguous");
        self.clear_rest(full);
        let post = post.to_slice().expect("states are contiguous");
        let channels = self.full.channels;
        vectorised(
            #[inline(always)]
            || {
                let rows = argmax.chunks_exact(channels);
                for (row, (argmax, post)) in rows.zip(post.chunks_exact(channels)).enumerate() {
                    for (position, source) in (0..).zip(self.sources(row)) {
                        let target = full[source * channels..][..channels].iter_mut();
                        for ((t, &v), &a) in target.zip(post).zip(argmax) {
                            *t = if a == position { v } else { T::zero() };
                        }
                    }
                }
            },
        );
    }

    /// Argmax of `mean - half` into `minus` and of `mean + half` into `plus`.
    pub fn argmax_pair<T: Real>(
        &self,
        mean: ArrayView2<T>,
        half: ArrayView2<T>,
        minus: &mut [u8],
        plus: &mut [u8],
    ) {
        let mean = mean.to_slice().expect("states are contiguous");
        let half = half.to_slice().expect("states are contiguous");
        let channels = self.full.channels;
        vectorised(
            #[inline(always)]
            || {
                let rows = minus.chunks_exact_mut(channels);
                for (row, (minus, plus)) in rows.zip(plus.chunks_exact_mut(channels)).enumerate() {
                    let (m, d) = (self.window(mean, row), self.window(half, row));
                    for (c, (minus, plus)) in minus.iter_mut().zip(plus).enumerate() {
                        let (m, d) = (m.map(|w| w[c]), d.map(|w| w[c]));
                        *minus = first_maximum([0, 1, 2, 3].map(|i| m[i] - d[i]));
                        *plus = first_maximum([0, 1, 2, 3].map(|i| m[i] + d[i]));
                    }
                }
            },
        );
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
        let mean = mean.to_slice().expect("states are contiguous");
        let half = half.to_slice().expect("states are contiguous");
        let pooled_mean = pooled_mean.as_slice_mut().expect("states are contiguous");
        let pooled_half = pooled_half.as_slice_mut().expect("states are contiguous");
        let channels = self.full.channels;
        let one_half = T::of(0.5);
        vectorised(
            #[inline(always)]
            || {
                let pooled = pooled_mean.chunks_exact_mut(channels);
                let pooled = pooled.zip(pooled_half.chunks_exact_mut(channels));
                let positions = minus
                    .chunks_exact(channels)
                    .zip(plus.chunks_exact(channels));
                for (row, ((minus, plus), (to_mean, to_half))) in positions.zip(pooled).enumerate()
                {
                    let (m, d) = (self.window(mean, row), self.window(half, row));
                    for c in 0..channels {
                        let (m, d) = (m.map(|w| w[c]), d.map(|w| w[c]));
                        let (low, high) = (minus[c], plus[c]);
                        let (mh, dh) = (chosen(m, high), chosen(d, high));
                        let (s_plus, s_minus) = (mh + dh, chosen(m, low) - chosen(d, low));
                        let same = low == high;
                        to_mean[c] += if same {
                            mh
                        } else {
                            one_half * (s_plus + s_minus)
                        };
                        to_half[c] += if same {
                            dh
                        } else {
                            one_half * (s_plus - s_minus)
                        };
                    }
                }
            },
        );
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
        let mean = mean.to_slice().expect("states are contiguous");
        let half = half.to_slice().expect("states are contiguous");
        let full_mean = full_mean.as_slice_mut().expect("states are contiguous");
        let full_half = full_half.as_slice_mut().expect("states are contiguous");
        self.clear_rest(full_mean);
        self.clear_rest(full_half);
        let channels = self.full.channels;
        let (zero, one_half) = (T::zero(), T::of(0.5));
        vectorised(
            #[inline(always)]
            || {
                for row in 0..minus.len() / channels {
                    let at = row * channels..(row + 1) * channels;
                    let (minus, plus) = (&minus[at.clone()], &plus[at.clone()]);
                    let (mean, half) = (&mean[at.clone()], &half[at]);
                    for (position, source) in (0..).zip(self.sources(row)) {
                        let to_mean = &mut full_mean[source * channels..][..channels];
                        let to_half = &mut full_half[source * channels..][..channels];
                        for c in 0..channels {
                            let (m, d) = (mean[c], half[c]);
                            let same = minus[c] == plus[c];
                            let (is_high, is_low) = (plus[c] == position, minus[c] == position);
                            let (high, low) = (one_half * (m + d), one_half * (m - d));
                            let apart_mean = if is_high {
                                high
                            } else if is_low {
                                low
                            } else {
                                zero
                            };
                            let apart_half = if is_high {
                                high
                            } else if is_low {
                                -low
                            } else {
                                zero
                            };
                            let together = |v: T| if is_high { v } else { zero };
                            to_mean[c] = if same { together(m) } else { apart_mean };
                            to_half[c] = if same { together(d) } else { apart_half };
                        }
                    }
                }
            },
        );
    }

    /// The four pixels of a window, channel by channel.
    #[inline(always)]
    fn window<'a, T>(&self, full: &'a [T], row: usize) -> [&'a [T]; 4] {
        let channels = self.full.channels;
        self.sources(row)
            .map(|source| &full[source * channels..][..channels])
    }

    /// Zeros where windows do not reach: an odd last row or column.
    fn clear_rest<T: Real>(&self, full: &mut [T]) {
        if self.full.height % 2 + self.full.width % 2 > 0 {
            full.fill(T::zero());
        }
    }
}

/// The value at a position of a window. (In selections that vectors have: a choice between halves would become branches.)
#[inline(always)]
fn chosen<T: Real>(window: [T; 4], position: u8) -> T {
    let mut value = window[0];
    for (i, &candidate) in (1..).zip(&window[1..]) {
        value = if position == i { candidate } else { value };
    }
    value
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
