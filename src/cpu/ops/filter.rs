//! A convolution or its transpose, ready to be applied.
//!
//! The image is copied with a border of zeros, and each pixel of the result is then made of a few runs of its entries ([`super::taps`]),
//! without a matrix of receptive fields.

use super::bf16::Pair;
use super::conv::ConvGeometry;
use super::listed::Units;
use super::packed::{Cut, Packed, border};
use super::real::Real;
use super::taps::Taps;
use ndarray::{ArrayView2, ArrayViewMut2};

/// A convolution, or its transpose.
#[derive(Debug, Clone)]
pub struct Direction {
    pub taps: Taps,
    is_transposed: bool,
}

/// Copies of images with their borders, or what of them is not zero; kept from one application to the next.
#[derive(Clone, Default)]
pub struct Bordered<T> {
    pub full: Vec<T>,
    pub pairs: Vec<Pair>,
    units: Units<T>,
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

    /// Writes the weights of a tap (the positions of the kernel that fall on it) between a channel that is read and those from `first` on
    /// that are written. `kernel` has rows (`ky`, `kx`, `c_pre`) and columns `c_post`.
    pub fn weights<T: Real>(
        &self,
        kernel: ArrayView2<T>,
        positions: &[usize],
        read: usize,
        first: usize,
        target: &mut [T],
    ) {
        let Taps {
            from, onto, scale, ..
        } = self.taps;
        let posts = kernel.ncols();
        let kernel = kernel.to_slice().expect("packed weights are contiguous");
        target.fill(T::zero());
        for &k in positions {
            // Of `Op` they are neighbours in a row of the kernel, of `Op^T` in a column.
            if self.is_transposed {
                let column = &kernel[(k * onto.channels + first) * posts + read..];
                let column = column.iter().step_by(posts);
                target.iter_mut().zip(column).for_each(|(t, &w)| *t += w);
            } else {
                let row = &kernel[(k * from.channels + read) * posts + first..];
                target.iter_mut().zip(row).for_each(|(t, &w)| *t += w);
            }
        }
        if scale != 1.0 {
            target.iter_mut().for_each(|t| *t *= T::of(scale));
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
        Self::new(direction, Cut::Entries)
    }

    /// The same of images that are mostly zero ([`super::listed`]).
    pub fn sparse(direction: Direction) -> Self {
        Self::new(direction, Cut::Pixels)
    }

    fn new(direction: Direction, cut: Cut) -> Self {
        Self {
            weights: Packed::zeros(&direction.taps, 1, cut, T::MULTIPLIER),
            direction,
        }
    }

    /// Takes the weights of the convolution: rows (`ky`, `kx`, `c_pre`), columns `c_post`; of its transpose the same.
    pub fn fill(&mut self, kernel: ArrayView2<T>) {
        let direction = &self.direction;
        (self.weights).fill(&direction.taps, |positions, c, first, row| {
            direction.weights(kernel, positions, c, first, row);
        });
    }

    /// `onto += Op(from)`; both are states with one row per pixel.
    pub fn add(&self, from: ArrayView2<T>, mut onto: ArrayViewMut2<T>, scratch: &mut Bordered<T>) {
        let from = from.to_slice().expect("states are contiguous");
        let onto = onto.as_slice_mut().expect("states are contiguous");
        let Direction { taps, .. } = &self.direction;
        match self.weights.cut() {
            Cut::Entries => {
                border(taps, taps.from.channels, from, &mut scratch.full);
                self.weights.add(taps, &scratch.full, onto);
            }
            Cut::Pixels => {
                scratch.units.take(taps, from, T::LISTING);
                self.weights.add_units(taps, &scratch.units, onto);
            }
        }
    }
}

/// What tests try maps with.
#[cfg(test)]
pub mod trial {
    use super::{ConvGeometry, Direction, Real};
    use crate::network::{Convolution, Shape};
    use ndarray::Array2;

    /// Numbers between -1 and 1 that look random.
    pub fn numbers<T: Real>(shape: (usize, usize), seed: usize) -> Array2<T> {
        let at =
            |(r, c): (usize, usize)| (((r * 31 + c * 17 + seed * 7) as f64).sin() * 1e4).fract();
        Array2::from_shape_fn(shape, |place| T::of(at(place)))
    }

    /// A 3x3 convolution of 7x6 pixels, or its transpose; channels of the pre and the post layer.
    pub fn direction(channels: [usize; 2], stride: usize, is_transposed: bool) -> Direction {
        let conv = Convolution::square(3, stride, 1);
        let geometry = ConvGeometry::new(Shape::new(channels[0], 7, 6), channels[1], conv);
        match is_transposed {
            true => Direction::transposed(geometry),
            false => Direction::forward(geometry),
        }
    }
}
