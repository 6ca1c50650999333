//! Convolution, its transpose, and the correlation that is its weight gradient, as matrix products.
//!
//! Images are NHWC: a state of `N` images is a matrix with one row per pixel (`n`, `y`, `x`) and one column per
//! channel. A weight is a matrix `W` with one row per tap and input channel (`ky`, `kx`, `c_pre`) and one column per
//! output channel. With `im2col(x)` the matrix whose row is the receptive field of an output pixel,
//!
//! ```text
//! Op(x)    = im2col(x) W              forward_add
//! Op^T(y)  = col2im(y W^T)            transpose_add      (col2im is the transpose of im2col: it adds back)
//! corr     = im2col(x)^T y            correlate.rs       (the gradient of <y, Op(x)> with respect to W)
//! ```
//!
//! Rows are taken in blocks, so that a block of `im2col` stays in the cache between being written and being
//! multiplied.

use super::panels::Panels;
use super::real::{Into, Real, vectorised};
use crate::network::{Convolution, Shape};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use std::ops::Range;

/// Target size of a block of `im2col`: half of a common second-level cache, in bytes.
const BLOCK_BYTES: usize = 512 * 1024;
/// Fewer rows than this would waste the weights that each block reads.
const MIN_BLOCK_ROWS: usize = 64;

/// A convolution from an image of one size to another (before any pooling).
#[derive(Debug, Clone, Copy)]
pub struct ConvGeometry {
    pub pre: Shape,
    pub post: Shape,
    pub conv: Convolution,
}

/// Where the receptive field of an output pixel's kernel row lies: `run` of the taps' columns is
/// `pre[start..start + run.len()]`; the rest of the kernel row is padding.
struct KernelRow {
    columns: Range<usize>,
    start: usize,
}

impl ConvGeometry {
    /// The convolution of `pre` to `post_channels` channels.
    pub fn new(pre: Shape, post_channels: usize, conv: Convolution) -> Self {
        let side = |side| conv.output_side(side).expect("the network was checked");
        let post = Shape::new(post_channels, side(pre.height), side(pre.width));
        Self { pre, post, conv }
    }

    /// Rows of `W`: taps x input channels.
    pub fn fan_in(&self) -> usize {
        self.conv.kernel * self.conv.kernel * self.pre.channels
    }

    fn blocks<T>(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<T> {
        let fits = BLOCK_BYTES / (self.fan_in() * size_of::<T>());
        let block = fits.max(MIN_BLOCK_ROWS);
        (0..rows)
            .step_by(block)
            .map(move |first| first..rows.min(first + block))
    }

    /// `out += Op(x)`.
    pub fn forward_add<T: Real>(
        &self,
        x: ArrayView2<T>,
        w: &Panels<T>,
        mut out: ArrayViewMut2<T>,
        columns: &mut Vec<T>,
    ) {
        for block in self.blocks::<T>(out.nrows()) {
            let cols = self.im2col(x, block.clone(), columns);
            w.multiply(out.slice_mut(s![block, ..]), cols, Into::Add);
        }
    }

    /// `out += Op^T(y)`; `w_transposed` is `W^T` (output channels x taps and input channels).
    pub fn transpose_add<T: Real>(
        &self,
        y: ArrayView2<T>,
        w_transposed: &Panels<T>,
        mut out: ArrayViewMut2<T>,
        columns: &mut Vec<T>,
    ) {
        for block in self.blocks::<T>(y.nrows()) {
            let mut cols = matrix(columns, block.len(), self.fan_in());
            let rows = y.slice(s![block.clone(), ..]);
            w_transposed.multiply(cols.view_mut(), rows, Into::Replace);
            self.col2im_add(cols.view(), block, out.view_mut());
        }
    }

    /// Receptive fields of the output pixels `rows`, one per row.
    fn im2col<'a, T: Real>(
        &self,
        x: ArrayView2<T>,
        rows: Range<usize>,
        columns: &'a mut Vec<T>,
    ) -> ArrayView2<'a, T> {
        let x = x.to_slice().expect("states are contiguous");
        let width = self.conv.kernel * self.pre.channels;
        let mut cols = matrix(columns, rows.len(), self.fan_in());
        for (row, mut field) in rows.zip(cols.rows_mut()) {
            let field = field.as_slice_mut().expect("a row is contiguous");
            for (ky, taps) in field.chunks_exact_mut(width).enumerate() {
                self.copy_kernel_row(x, row, ky, taps);
            }
        }
        cols.reborrow_as_view()
    }

    /// Copies kernel row `ky` of output pixel `row`'s receptive field, with zeros where it leaves the image.
    pub fn copy_kernel_row<T: Real>(&self, x: &[T], row: usize, ky: usize, taps: &mut [T]) {
        match self.kernel_row(row, ky) {
            None => taps.fill(T::zero()),
            Some(KernelRow { columns, start }) => {
                taps[..columns.start].fill(T::zero());
                taps[columns.end..].fill(T::zero());
                let source = &x[start..start + columns.len()];
                taps[columns].copy_from_slice(source);
            }
        }
    }

    /// Adds the fields of the output pixels `rows` back to the pixels they came from.
    fn col2im_add<T: Real>(
        &self,
        cols: ArrayView2<T>,
        rows: Range<usize>,
        mut out: ArrayViewMut2<T>,
    ) {
        let out = out.as_slice_mut().expect("states are contiguous");
        let width = self.conv.kernel * self.pre.channels;
        vectorised(
            #[inline(always)]
            || {
                for (row, field) in rows.zip(cols.rows()) {
                    let field = field.to_slice().expect("a row is contiguous");
                    for (ky, taps) in field.chunks_exact(width).enumerate() {
                        if let Some(KernelRow { columns, start }) = self.kernel_row(row, ky) {
                            let target = &mut out[start..start + columns.len()];
                            for (t, &v) in target.iter_mut().zip(&taps[columns]) {
                                *t += v;
                            }
                        }
                    }
                }
            },
        );
    }

    /// The taps of a kernel row are neighbours in an NHWC image, so each row of the field is one run.
    /// `None` when the whole row lies in the padding.
    fn kernel_row(&self, row: usize, ky: usize) -> Option<KernelRow> {
        let Convolution {
            kernel,
            stride,
            padding,
        } = self.conv;
        let (n, pixel) = (row / self.post.pixels(), row % self.post.pixels());
        let (y, x) = (pixel / self.post.width, pixel % self.post.width);
        let source_y = (y * stride + ky).checked_sub(padding)?;
        if source_y >= self.pre.height {
            return None;
        }
        // Tap kx reads column x * stride + kx - padding, which must lie in 0..width.
        let first = padding.saturating_sub(x * stride);
        let last = kernel.min((self.pre.width + padding).saturating_sub(x * stride));
        if first >= last {
            return None;
        }
        let source_x = x * stride + first - padding;
        let channels = self.pre.channels;
        Some(KernelRow {
            columns: first * channels..last * channels,
            start: ((n * self.pre.height + source_y) * self.pre.width + source_x) * channels,
        })
    }
}

/// The front of a scratch buffer as a matrix; its content is whatever was there.
fn matrix<T: Real>(buffer: &mut Vec<T>, rows: usize, columns: usize) -> ArrayViewMut2<'_, T> {
    if buffer.len() < rows * columns {
        buffer.resize(rows * columns, T::zero());
    }
    ArrayViewMut2::from_shape((rows, columns), &mut buffer[..rows * columns])
        .expect("the slice has that length")
}

/// Turns a mutable view into a shared one of the same lifetime.
trait IntoView<'a, T> {
    fn reborrow_as_view(self) -> ArrayView2<'a, T>;
}

impl<'a, T: Real> IntoView<'a, T> for ArrayViewMut2<'a, T> {
    fn reborrow_as_view(self) -> ArrayView2<'a, T> {
        let dim = self.dim();
        let slice: &'a [T] = self.into_slice().expect("scratch is contiguous");
        ArrayView2::from_shape(dim, slice).expect("same shape")
    }
}

/// `(C_post, C_pre, k, k)` to the rows (`ky`, `kx`, `c_pre`) and columns (`c_post`) used here.
pub fn pack<T: Real>(weight: &ndarray::ArrayD<T>) -> Array2<T> {
    let rows = weight.len() / weight.shape()[0];
    let columns = weight.shape()[0];
    let order = weight.view().permuted_axes(ndarray::IxDyn(&[2, 3, 1, 0]));
    let packed = order.as_standard_layout().into_owned();
    packed
        .into_shape_with_order((rows, columns))
        .expect("a standard layout reshapes")
}

/// The inverse of [`pack`], into a tensor of the weight's own shape.
pub fn unpack<T: Real>(packed: ArrayView2<T>, weight: &mut ndarray::ArrayD<T>) {
    let &[post, pre, kh, kw] = weight.shape() else {
        unreachable!("a convolution's weight has four axes")
    };
    let view = packed
        .into_shape_with_order((kh, kw, pre, post))
        .expect("a standard layout reshapes");
    weight.assign(&view.permuted_axes([3, 2, 0, 1]));
}
