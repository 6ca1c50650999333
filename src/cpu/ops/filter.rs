//! A convolution or its transpose, ready to be applied.
//!
//! The image is copied with a border of zeros, and each pixel of the result is then made of a few runs of its entries ([`super::taps`]),
//! without a matrix of receptive fields.

use super::bf16::Pair;
use super::conv::ConvGeometry;
use super::packed::{Packed, border};
use super::real::Real;
use super::taps::Taps;
use ndarray::{ArrayView2, ArrayViewMut2};

/// A convolution, or its transpose.
#[derive(Debug, Clone)]
pub struct Direction {
    pub taps: Taps,
    is_transposed: bool,
}

/// Copies of images with their borders; kept from one application to the next.
#[derive(Clone, Default)]
pub struct Bordered<T> {
    pub full: Vec<T>,
    pub pairs: Vec<Pair>,
}

impl Direction {
    /// `Op`.
    pub fn forward(geometry: ConvGeometry) -> Self {
        Self {
            taps: geometry.forward(),
            is_transposed: false,
        }
    }

    /// `Op^T`.
    pub fn transposed(geometry: ConvGeometry) -> Self {
        Self {
            taps: geometry.transposed(),
            is_transposed: true,
        }
    }

    /// The weight of a tap (the positions of the kernel that fall on it) between a channel that is read and one that is written.
    /// `kernel` has rows (`ky`, `kx`, `c_pre`) and columns `c_post`.
    pub fn weight<'a, T: Real>(
        &self,
        kernel: ArrayView2<'a, T>,
    ) -> impl Fn(&[usize], usize, usize) -> T + 'a {
        let Taps {
            from, onto, scale, ..
        } = self.taps;
        let is_transposed = self.is_transposed;
        let channels = if is_transposed { onto } else { from }.channels;
        let scale = T::of(scale);
        move |positions, read, written| {
            let (pre, post) = if is_transposed {
                (written, read)
            } else {
                (read, written)
            };
            let at = |&k: &usize| kernel[(k * channels + pre, post)];
            match positions {
                [position] if scale == T::one() => at(position),
                _ => scale * positions.iter().map(at).sum::<T>(),
            }
        }
    }
}

/// A linear map between two images, with its weights.
pub struct Filter<T: 'static> {
    direction: Direction,
    weights: Packed<T, T>,
}

impl<T: Real> Filter<T> {
    /// All weights zero.
    pub fn zeros(direction: Direction) -> Self {
        Self {
            weights: Packed::zeros(&direction.taps, 1, T::MULTIPLIER),
            direction,
        }
    }

    /// Takes the weights of the convolution: rows (`ky`, `kx`, `c_pre`), columns `c_post`; of its transpose the same.
    pub fn fill(&mut self, kernel: ArrayView2<T>) {
        let at = self.direction.weight(kernel);
        self.weights.fill(&self.direction.taps, at);
    }

    /// Rows and columns of what is made of a state with so many rows.
    pub fn output(&self, rows: usize) -> (usize, usize) {
        let Taps { from, onto, .. } = &self.direction.taps;
        (rows / from.pixels() * onto.pixels(), onto.channels)
    }

    /// `onto += Op(from)`; both are states with one row per pixel.
    pub fn add(&self, from: ArrayView2<T>, mut onto: ArrayViewMut2<T>, scratch: &mut Bordered<T>) {
        let from = from.to_slice().expect("states are contiguous");
        let onto = onto.as_slice_mut().expect("states are contiguous");
        let Direction { taps, .. } = &self.direction;
        border(taps, taps.from.channels, from, &mut scratch.full);
        self.weights.add(taps, &scratch.full, onto);
    }
}
