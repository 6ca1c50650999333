//! Matrices cut into panels of columns: the form of a product's right-hand side that the processor reads in order.
//!
//! The relaxation multiplies few rows (the pixels of a few images) by large weights. A row-major weight is then read
//! with a stride of kilobytes, and the `gemm` crate's remedy, copying it in each product, costs as much as it saves. Cut
//! once per training step into panels of [`PANEL`] columns, each row-major by itself, it is read from front to back.

use super::real::{Into, Real, matmul};
use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a panel: the height of `gemm`'s AVX-512 tile in f32, and a multiple of the smaller ones.
pub const PANEL: usize = 64;

/// A matrix in panels; the last panel may be narrower.
pub struct Panels<T> {
    rows: usize,
    columns: usize,
    data: Vec<T>,
}

impl<T: Real> Panels<T> {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            data: vec![T::zero(); rows * columns],
        }
    }

    /// Columns and entries of each panel, to be filled row by row.
    fn panels_mut(&mut self) -> impl IndexedParallelIterator<Item = (Range<usize>, &mut [T])> {
        let (rows, columns) = (self.rows, self.columns);
        let panels = self.data.par_chunks_mut(rows * PANEL).enumerate();
        panels.map(move |(p, data)| (p * PANEL..columns.min((p + 1) * PANEL), data))
    }

    /// Takes the entries of a row-major matrix.
    pub fn fill(&mut self, source: ArrayView2<T>) {
        assert_eq!(source.dim(), (self.rows, self.columns));
        self.panels_mut().for_each(|(columns, panel)| {
            let source = source.slice(s![.., columns]);
            for (target, row) in panel.chunks_exact_mut(source.ncols()).zip(source.rows()) {
                target.copy_from_slice(row.to_slice().expect("rows are contiguous"));
            }
        });
    }

    /// Takes the entries of the transpose of a row-major matrix, in blocks that fit the cache.
    pub fn fill_transposed(&mut self, source: ArrayView2<T>) {
        const BLOCK: usize = 16;
        assert_eq!(source.dim(), (self.columns, self.rows));
        let rows = self.rows;
        self.panels_mut().for_each(|(columns, panel)| {
            let width = columns.len();
            let source = source.slice(s![columns, ..]);
            let source = source.to_slice().expect("the source is contiguous");
            for first in (0..rows).step_by(BLOCK) {
                for r in first..rows.min(first + BLOCK) {
                    let target = &mut panel[r * width..(r + 1) * width];
                    for (t, column) in target.iter_mut().zip(source.chunks_exact(rows)) {
                        *t = column[r];
                    }
                }
            }
        });
    }

    /// `c = a self` or `c += a self`.
    pub fn multiply(&self, mut c: ArrayViewMut2<T>, a: ArrayView2<T>, into: Into) {
        assert_eq!(c.ncols(), self.columns);
        for (p, panel) in self.data.chunks(self.rows * PANEL).enumerate() {
            let width = panel.len() / self.rows;
            let panel = ArrayView2::from_shape((self.rows, width), panel);
            let columns = p * PANEL..p * PANEL + width;
            matmul(
                c.slice_mut(s![.., columns]),
                a,
                panel.expect("a panel is full"),
                into,
            );
        }
    }
}

/// Rows that are collected in panels, to be the right-hand side of one product.
pub struct RowPanels<T> {
    capacity: usize,
    columns: usize,
    len: usize,
    data: Vec<T>,
}

impl<T: Real> RowPanels<T> {
    pub fn new() -> Self {
        Self {
            capacity: 0,
            columns: 0,
            len: 0,
            data: Vec::new(),
        }
    }

    /// Empties it, and makes room for `capacity` rows.
    pub fn reset(&mut self, capacity: usize, columns: usize) {
        self.data.resize(capacity * columns, T::zero());
        (self.capacity, self.columns, self.len) = (capacity, columns, 0);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes `factor` times a row.
    pub fn push(&mut self, row: &[T], factor: T) {
        assert!(row.len() == self.columns && !self.is_full());
        for (p, part) in row.chunks(PANEL).enumerate() {
            let start = p * PANEL * self.capacity + self.len * part.len();
            let target = &mut self.data[start..start + part.len()];
            for (t, &v) in target.iter_mut().zip(part) {
                *t = factor * v;
            }
        }
        self.len += 1;
    }

    /// `c = a^T rows` or `c += a^T rows`, where `a` has as many rows as were pushed.
    pub fn multiply_transposed(&self, mut c: ArrayViewMut2<T>, a: ArrayView2<T>, into: Into) {
        for (p, panel) in self.data.chunks(self.capacity * PANEL).enumerate() {
            let width = panel.len() / self.capacity;
            let panel = ArrayView2::from_shape((self.len, width), &panel[..self.len * width]);
            let columns = p * PANEL..p * PANEL + width;
            matmul(
                c.slice_mut(s![.., columns]),
                a.t(),
                panel.expect("a panel has the rows that were pushed"),
                into,
            );
        }
    }
}
