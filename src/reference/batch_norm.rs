//! Batch normalisation of a matrix with one row per pixel and one column per channel, forwards and backwards.
//!
//! ```text
//! x = (c - mean) r,   r = 1 / sqrt(var + eps)           normalise
//! z = gamma x + beta                                    affine_add
//! dbeta = sum dz      dgamma = sum dz x
//! dc = gamma r (dz - dbeta / n - x dgamma / n)          backward      (n rows; mean and var depend on c)
//! ```
//!
//! Sums run over blocks of rows in `T`, and over the blocks in f64 and in their order, so that results are the same on any
//! number of threads.

use super::real::{Real, vectorised};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Zip};
use rayon::prelude::*;

/// Rows of a block.
const BLOCK: usize = 512;

/// Mean and biased variance of each column.
pub fn moments<T: Real>(c: ArrayView2<T>) -> (Vec<f64>, Vec<f64>) {
    let n = c.nrows() as f64;
    let mean: Vec<f64> = (column_sums(c, |row, sums| add_to(sums, row)).into_iter())
        .map(|sum| sum / n)
        .collect();
    let centre: Vec<T> = mean.iter().map(|&m| T::of(m)).collect();
    let squares = column_sums(c, |row, sums| {
        for ((sum, &v), &m) in sums.iter_mut().zip(row).zip(&centre) {
            *sum += (v - m) * (v - m);
        }
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
    c.axis_chunks_iter_mut(Axis(0), BLOCK)
        .into_par_iter()
        .for_each(|mut block| {
            for mut row in block.rows_mut() {
                let row = row.as_slice_mut().expect("a row is contiguous");
                for ((v, &m), &r) in row.iter_mut().zip(&centre).zip(&scale) {
                    *v = (*v - m) * r;
                }
            }
        });
    factors
}

/// `z += gamma x + beta`
pub fn affine_add<T: Real>(x: ArrayView2<T>, gamma: &[T], beta: &[T], mut z: ArrayViewMut2<T>) {
    z.axis_chunks_iter_mut(Axis(0), BLOCK)
        .into_par_iter()
        .zip(x.axis_chunks_iter(Axis(0), BLOCK).into_par_iter())
        .for_each(|(mut z, x)| {
            Zip::from(z.rows_mut()).and(x.rows()).for_each(|mut z, x| {
                let z = z.as_slice_mut().expect("a row is contiguous");
                let x = x.to_slice().expect("a row is contiguous");
                for (((z, &x), &g), &b) in z.iter_mut().zip(x).zip(gamma).zip(beta) {
                    *z += g * x + b;
                }
            });
        });
}

/// Replaces the normalised `x` by `dc`; `factors` are those of [`normalise`]. Returns `dgamma` and `dbeta`.
pub fn backward<T: Real>(
    dz: ArrayView2<T>,
    x: &mut Array2<T>,
    gamma: &[T],
    factors: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let n = dz.nrows() as f64;
    let dbeta = column_sums(dz, |row, sums| add_to(sums, row));
    let dgamma = products(dz, x.view());
    let column = |c: usize| {
        let scale = gamma[c].wide() * factors[c];
        (
            T::of(scale),
            T::of(scale * dbeta[c] / n),
            T::of(scale * dgamma[c] / n),
        )
    };
    let columns: Vec<(T, T, T)> = (0..gamma.len()).map(column).collect();
    x.axis_chunks_iter_mut(Axis(0), BLOCK)
        .into_par_iter()
        .zip(dz.axis_chunks_iter(Axis(0), BLOCK).into_par_iter())
        .for_each(|(mut x, dz)| {
            Zip::from(x.rows_mut())
                .and(dz.rows())
                .for_each(|mut x, dz| {
                    for ((x, &dz), &(scale, b, g)) in x.iter_mut().zip(dz).zip(&columns) {
                        *x = scale * dz - b - *x * g;
                    }
                });
        });
    (dgamma, dbeta)
}

/// Sum of each column.
pub fn sums<T: Real>(c: ArrayView2<T>) -> Vec<f64> {
    column_sums(c, |row, sums| add_to(sums, row))
}

/// Sum of the products of two matrices, column by column.
fn products<T: Real>(a: ArrayView2<T>, b: ArrayView2<T>) -> Vec<f64> {
    let blocks = a.axis_chunks_iter(Axis(0), BLOCK).into_par_iter();
    let blocks = blocks.zip(b.axis_chunks_iter(Axis(0), BLOCK).into_par_iter());
    let sums: Vec<Vec<T>> = blocks
        .map(|(a, b)| {
            let mut sums = vec![T::zero(); a.ncols()];
            vectorised(
                #[inline(always)]
                || {
                    for (a, b) in a.rows().into_iter().zip(b.rows()) {
                        let a = a.to_slice().expect("a row is contiguous");
                        let b = b.to_slice().expect("a row is contiguous");
                        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                            *sum += a * b;
                        }
                    }
                },
            );
            sums
        })
        .collect();
    total(&sums, a.ncols())
}

fn column_sums<T: Real>(c: ArrayView2<T>, add: impl Fn(&[T], &mut [T]) + Sync) -> Vec<f64> {
    let blocks = c.axis_chunks_iter(Axis(0), BLOCK).into_par_iter();
    let sums: Vec<Vec<T>> = blocks
        .map(|block| {
            let mut sums = vec![T::zero(); c.ncols()];
            for row in block.rows() {
                add(row.to_slice().expect("a row is contiguous"), &mut sums);
            }
            sums
        })
        .collect();
    total(&sums, c.ncols())
}

fn add_to<T: Real>(sums: &mut [T], row: &[T]) {
    for (sum, &v) in sums.iter_mut().zip(row) {
        *sum += v;
    }
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
