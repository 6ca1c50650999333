//! `corr(x, y) = sum_pixels im2col(x)^T y`: the gradient of `<y, Op(x)>` with respect to the weight.
//!
//! Rows are collected from all chunks of the batch until a block is full, so that the gradient, which is far larger than
//! a block where the images are small, is read and written as seldom as possible.

use super::panels::RowPanels;
use super::product::Product;
use super::real::{Into, Real};
use ndarray::{ArrayD, ArrayView2, ArrayViewMut2, Axis};

/// Bytes of a block's receptive fields.
const BLOCK_BYTES: usize = 512 * 1024;
const MIN_BLOCK_ROWS: usize = 64;

/// Accumulates the gradient of one row of an edge's kernel (of the whole weight, if it is dense).
pub struct Correlation<'a, T> {
    product: Product,
    kernel_row: usize,
    gradient: ArrayViewMut2<'a, T>,
    scale: T,
    /// whether the next block replaces what the gradient held; only the first one may
    into: Into,
    scratch: &'a mut Scratch<T>,
}

/// The block that is being collected; kept from one correlation to the next.
pub struct Scratch<T> {
    /// receptive fields, row by row
    fields: Vec<T>,
    posts: RowPanels<T>,
}

impl<T: Real> Scratch<T> {
    pub fn new() -> Self {
        Self {
            fields: Vec::new(),
            posts: RowPanels::new(),
        }
    }
}

impl<'a, T: Real> Correlation<'a, T> {
    /// `gradient`: the rows of the packed weight that belong to `kernel_row`; it becomes `scale` times the sum of all
    /// correlations.
    pub fn new(
        product: Product,
        kernel_row: usize,
        gradient: ArrayViewMut2<'a, T>,
        scale: T,
        scratch: &'a mut Scratch<T>,
    ) -> Self {
        let (width, columns) = gradient.dim();
        let rows = (BLOCK_BYTES / (width * size_of::<T>())).max(MIN_BLOCK_ROWS);
        scratch.fields.resize(rows * width, T::zero());
        scratch.posts.reset(rows, columns);
        Self {
            product,
            kernel_row,
            gradient,
            scale,
            into: Into::Replace,
            scratch,
        }
    }

    /// Whether it replaces what the gradient holds (the default) or is added to it.
    pub fn onto(self, into: Into) -> Self {
        Self { into, ..self }
    }

    /// Adds `corr(x, y)`; both are states with one row per pixel.
    pub fn add(&mut self, x: ArrayView2<T>, y: ArrayView2<T>) {
        let x = x.to_slice().expect("states are contiguous");
        let width = self.gradient.nrows();
        for (row, y) in y.rows().into_iter().enumerate() {
            let Scratch { fields, posts } = &mut *self.scratch;
            let field = &mut fields[posts.len() * width..][..width];
            match self.product.geometry() {
                Some(g) => g.copy_kernel_row(x, row, self.kernel_row, field),
                // A dense edge sees the whole image, whose pixels lie one after the other.
                None => field.copy_from_slice(&x[row * width..(row + 1) * width]),
            }
            let y = y.to_slice().expect("a row is contiguous");
            posts.push(y, self.scale);
            if posts.is_full() {
                self.flush();
            }
        }
    }

    pub fn finish(mut self) {
        self.flush();
        if self.into == Into::Replace {
            self.gradient.fill(T::zero());
        }
    }

    fn flush(&mut self) {
        let Scratch { fields, posts } = &mut *self.scratch;
        if posts.is_empty() {
            return;
        }
        let shape = (posts.len(), self.gradient.nrows());
        let fields = ArrayView2::from_shape(shape, &fields[..shape.0 * shape.1]);
        let fields = fields.expect("as many fields as rows were pushed");
        posts.multiply_transposed(self.gradient.view_mut(), fields, self.into);
        self.into = Into::Add;
        posts.clear();
    }
}

/// One product of the gradient: an edge, and for convolutions a row of the kernel.
pub struct Task<'a, T> {
    pub edge: usize,
    pub kernel_row: usize,
    pub gradient: ArrayViewMut2<'a, T>,
}

/// The products of all edges, small enough to share them out, the heaviest first. `gradients`: edges with the packed
/// gradients of their weights.
pub fn tasks<'a, T: Real>(
    products: &[Product],
    gradients: impl Iterator<Item = (usize, &'a mut ArrayD<T>)>,
) -> Vec<Task<'a, T>> {
    let mut tasks = Vec::new();
    for (edge, weight) in gradients {
        let slabs = products[edge].geometry().map_or(1, |g| g.conv.kernel[0]);
        let rows = weight.shape()[0] / slabs;
        let slabs = weight.axis_chunks_iter_mut(Axis(0), rows).enumerate();
        tasks.extend(slabs.map(|(kernel_row, slab)| {
            Task {
                edge,
                kernel_row,
                gradient: slab
                    .into_dimensionality()
                    .expect("a packed weight has two axes"),
            }
        }));
    }
    let cost = |task: &Task<T>| {
        let geometry = products[task.edge].geometry();
        std::cmp::Reverse(task.gradient.len() * geometry.map_or(1, |g| g.post.pixels()))
    };
    tasks.sort_by_key(cost);
    tasks
}
