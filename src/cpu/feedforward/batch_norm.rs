//! Batch normalisation of a matrix with one row per pixel and one column per channel, forwards and backwards.
//!
//! ```text
//! x = (c - mean) r,   r = 1 / sqrt(var + eps)           normalise
//! z = gamma x + beta                                    affine_add
//! dbeta = sum dz      dgamma = sum dz x                 gradients
//! dc = gamma r (dz - dbeta / n - x dgamma / n)          backward      (n rows; mean and var depend on c)
//! ```
//!
//! Sums run over blocks of rows in `T`, and over the blocks in f64 and in their order, so that results are the same on any
//! number of threads.

use crate::cpu::ops::real::Real;
use crate::cpu::ops::simd::vectorised;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

/// Rows of a block.
const BLOCK: usize = 512;

/// Mean and biased variance of each column.
pub fn moments<T: Real>(c: ArrayView2<T>) -> (Vec<f64>, Vec<f64>) {
    let n = c.nrows() as f64;
    let mean: Vec<f64> = (column_sums(c, |v, _| v).into_iter())
        .map(|sum| sum / n)
        .collect();
    let centre: Vec<T> = mean.iter().map(|&m| T::of(m)).collect();
    let squares = column_sums(c, |v, column| {
        let away = v - centre[column];
        away * away
    });
    // Rounding the centre to T shifts the sum of squares by n (mean - centre)^2.
    let variance = squares.iter().zip(&mean).zip(&centre);
    let variance = variance.map(|((&s, &m), &c)| (s / n - (m - c.wide()).powi(2)).max(0.0));
    let variance = variance.collect();
    (mean, variance)
}

/// `c <- (c - mean) / sqrt(variance + epsilon)`; returns the factor of each column.
pub fn normalise<T: Real>(
    mut c: ArrayViewMut2<T>,
    mean: &[f64],
    variance: &[f64],
    epsilon: f64,
) -> Vec<f64> {
    let factors: Vec<f64> = variance
        .iter()
        .map(|v| 1.0 / (v + epsilon).sqrt())
        .collect();
    let (centre, scale): (Vec<T>, Vec<T>) = (mean.iter().zip(&factors))
        .map(|(&m, &r)| (T::of(m), T::of(r)))
        .unzip();
    let columns = centre.len();
    blocks_mut(&mut c).for_each(|block| {
        vectorised(
            #[inline(always)]
            || {
                for row in block.chunks_exact_mut(columns) {
                    for ((v, &m), &r) in row.iter_mut().zip(&centre).zip(&scale) {
                        *v = (*v - m) * r;
                    }
                }
            },
        );
    });
    factors
}

/// `z += gamma x + beta`
pub fn affine_add<T: Real>(x: ArrayView2<T>, gamma: &[T], beta: &[T], mut z: ArrayViewMut2<T>) {
    let columns = gamma.len();
    blocks_mut(&mut z).zip(blocks(&x)).for_each(|(z, x)| {
        vectorised(
            #[inline(always)]
            || {
                let rows = z.chunks_exact_mut(columns).zip(x.chunks_exact(columns));
                for (z, x) in rows {
                    for (((z, &x), &g), &b) in z.iter_mut().zip(x).zip(gamma).zip(beta) {
                        *z += g * x + b;
                    }
                }
            },
        );
    });
}

/// `dgamma`, then `dbeta`; `x` is the normalised matrix.
pub fn gradients<T: Real>(dz: ArrayView2<T>, x: ArrayView2<T>) -> Vec<f64> {
    let mut both = products(dz, x);
    both.extend(sums(dz));
    both
}

/// Replaces the normalised `x` by `dc`; `factors` are those of [`normalise`], `sums` what [`gradients`] gave.
pub fn backward<T: Real>(
    dz: ArrayView2<T>,
    x: &mut Array2<T>,
    gamma: &[T],
    factors: &[f64],
    sums: &[f64],
) {
    let n = dz.nrows() as f64;
    let (dgamma, dbeta) = sums.split_at(gamma.len());
    let scales: Vec<f64> = gamma
        .iter()
        .zip(factors)
        .map(|(g, f)| g.wide() * f)
        .collect();
    let share = |sums: &[f64]| -> Vec<T> {
        let parts = scales.iter().zip(sums);
        parts.map(|(scale, sum)| T::of(scale * sum / n)).collect()
    };
    let (of_beta, of_gamma) = (share(dbeta), share(dgamma));
    let scale: Vec<T> = scales.iter().map(|&s| T::of(s)).collect();
    let columns = gamma.len();
    blocks_mut(&mut x.view_mut())
        .zip(blocks(&dz))
        .for_each(|(x, dz)| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact_mut(columns).zip(dz.chunks_exact(columns));
                    for (x, dz) in rows {
                        let constants = scale.iter().zip(&of_beta).zip(&of_gamma);
                        for ((x, &dz), ((&s, &b), &g)) in x.iter_mut().zip(dz).zip(constants) {
                            *x = s * dz - b - *x * g;
                        }
                    }
                },
            );
        });
}

/// Sum of each column.
pub fn sums<T: Real>(c: ArrayView2<T>) -> Vec<f64> {
    column_sums(c, |v, _| v)
}

/// Sum of the products of two matrices, column by column.
fn products<T: Real>(a: ArrayView2<T>, b: ArrayView2<T>) -> Vec<f64> {
    let columns = a.ncols();
    let sums: Vec<Vec<T>> = blocks(&a)
        .zip(blocks(&b))
        .map(|(a, b)| {
            let mut sums = vec![T::zero(); columns];
            vectorised(
                #[inline(always)]
                || {
                    for (a, b) in a.chunks_exact(columns).zip(b.chunks_exact(columns)) {
                        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                            *sum += a * b;
                        }
                    }
                },
            );
            sums
        })
        .collect();
    total(&sums, columns)
}

/// Sum over the rows of what `of` makes of each element, given its column.
fn column_sums<T: Real>(c: ArrayView2<T>, of: impl Fn(T, usize) -> T + Sync) -> Vec<f64> {
    let columns = c.ncols();
    let sums: Vec<Vec<T>> = blocks(&c)
        .map(|block| {
            let mut sums = vec![T::zero(); columns];
            vectorised(
                #[inline(always)]
                || {
                    for row in block.chunks_exact(columns) {
                        for (column, (sum, &v)) in sums.iter_mut().zip(row).enumerate() {
                            *sum += of(v, column);
                        }
                    }
                },
            );
            sums
        })
        .collect();
    total(&sums, columns)
}

/// Blocks of rows as slices.
fn blocks<'a, T: Real>(
    matrix: &'a ArrayView2<T>,
) -> impl IndexedParallelIterator<Item = &'a [T]> + use<'a, T> {
    let columns = matrix.ncols();
    let values = matrix.as_slice().expect("states are contiguous");
    values.par_chunks(BLOCK * columns)
}

fn blocks_mut<'a, T: Real>(
    matrix: &'a mut ArrayViewMut2<T>,
) -> impl IndexedParallelIterator<Item = &'a mut [T]> + use<'a, T> {
    let columns = matrix.ncols();
    let values = matrix.as_slice_mut().expect("states are contiguous");
    values.par_chunks_mut(BLOCK * columns)
}

fn total<T: Real>(blocks: &[Vec<T>], columns: usize) -> Vec<f64> {
    let mut total = vec![0.0; columns];
    for block in blocks {
        for (sum, v) in total.iter_mut().zip(block) {
            *sum += v.wide();
        }
    }
    total
}
