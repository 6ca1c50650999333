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
//!
//! A mean over windows of the convolved image is the convolution of the mean of its receptive fields. So with average
//! pooling a row of `im2col` is the mean of the four fields of a window, and nothing else changes.

use super::panels::Panels;
use super::real::{Into, Real, vectorised};
use crate::network::{Convolution, Shape};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use std::ops::Range;

/// Target size of a block of `im2col`: half of a common second-level cache, in bytes.
const BLOCK_BYTES: usize = 512 * 1024;
/// Fewer rows than this would waste the weights that each block reads.
const MIN_BLOCK_ROWS: usize = 64;

/// A convolution from an image of one size to another, before max pooling but after average pooling.
#[derive(Debug, Clone, Copy)]
pub struct ConvGeometry {
    pub pre: Shape,
    pub post: Shape,
    pub conv: Convolution,
    /// whether an output pixel is the mean of a 2x2 window
    is_averaged: bool,
}

/// Where the windows of average pooling begin: the output pixels that one is the mean of.
const WINDOW: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];

/// Where a part of a kernel row of an output pixel's receptive field lies: `columns` of the row's taps are
/// `pre[start..start + columns.len()]`.
struct Run {
    columns: Range<usize>,
    start: usize,
}

impl ConvGeometry {
    /// The convolution of `pre` to `post_channels` channels.
    pub fn new(pre: Shape, post_channels: usize, conv: Convolution) -> Self {
        let size = conv.output_size([pre.height, pre.width]);
        let [height, width] = size.expect("the network was checked");
        let post = Shape::new(post_channels, height, width);
        Self {
            pre,
            post,
            conv,
            is_averaged: false,
        }
    }

    /// The same with 2x2 average pooling after it; odd last rows and columns are dropped.
    pub fn averaged(pre: Shape, post_channels: usize, conv: Convolution) -> Self {
        let full = Self::new(pre, post_channels, conv);
        Self {
            post: Shape::new(post_channels, full.post.height / 2, full.post.width / 2),
            is_averaged: true,
            ..full
        }
    }

    /// Rows of `W`: taps x input channels.
    pub fn fan_in(&self) -> usize {
        self.conv.kernel[0] * self.conv.kernel[1] * self.pre.channels
    }

    /// Entries of a kernel row's taps.
    fn row_width(&self) -> usize {
        self.conv.kernel[1] * self.pre.channels
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
        let width = self.row_width();
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
        let pixel = self.pixel(row);
        if self.is_averaged {
            taps.fill(T::zero());
            let quarter = T::of(0.25);
            for offset in WINDOW {
                self.runs(
                    self.in_window(pixel, offset),
                    ky,
                    |Run { columns, start }| {
                        let source = &x[start..start + columns.len()];
                        for (t, &v) in taps[columns].iter_mut().zip(source) {
                            *t += quarter * v;
                        }
                    },
                );
            }
            return;
        }
        let mut written = 0;
        self.runs(pixel, ky, |Run { columns, start }| {
            taps[written..columns.start].fill(T::zero());
            written = columns.end;
            let source = &x[start..start + columns.len()];
            taps[columns].copy_from_slice(source);
        });
        taps[written..].fill(T::zero());
    }

    /// Adds the fields of the output pixels `rows` back to the pixels they came from.
    fn col2im_add<T: Real>(
        &self,
        cols: ArrayView2<T>,
        rows: Range<usize>,
        mut out: ArrayViewMut2<T>,
    ) {
        let out = out.as_slice_mut().expect("states are contiguous");
        let width = self.row_width();
        vectorised(
            #[inline(always)]
            || {
                for (row, field) in rows.zip(cols.rows()) {
                    let field = field.to_slice().expect("a row is contiguous");
                    let pixel = self.pixel(row);
                    for (ky, taps) in field.chunks_exact(width).enumerate() {
                        if self.is_averaged {
                            for offset in WINDOW {
                                self.runs(self.in_window(pixel, offset), ky, |run| {
                                    let target = &mut out[run.start..][..run.columns.len()];
                                    for (t, &v) in target.iter_mut().zip(&taps[run.columns]) {
                                        *t += T::of(0.25) * v;
                                    }
                                });
                            }
                            continue;
                        }
                        self.runs(pixel, ky, |Run { columns, start }| {
                            let target = &mut out[start..start + columns.len()];
                            for (t, &v) in target.iter_mut().zip(&taps[columns]) {
                                *t += v;
                            }
                        });
                    }
                }
            },
        );
    }

    /// Image, row and column of an output pixel.
    #[inline(always)]
    fn pixel(&self, row: usize) -> [usize; 3] {
        let (n, pixel) = (row / self.post.pixels(), row % self.post.pixels());
        [n, pixel / self.post.width, pixel % self.post.width]
    }

    /// The pixel of the convolved image at `offset` in the window that an averaged pixel is the mean of.
    #[inline(always)]
    fn in_window(&self, [n, y, x]: [usize; 3], offset: [usize; 2]) -> [usize; 3] {
        [n, 2 * y + offset[0], 2 * x + offset[1]]
    }

    /// The parts of kernel row `ky` of a pixel of the convolved image that lie in the image, in order; the rest is padding. Without
    /// dilation the taps are neighbours in an NHWC image, and the row is one run.
    #[inline(always)]
    fn runs(&self, [n, y, x]: [usize; 3], ky: usize, mut each: impl FnMut(Run)) {
        let Convolution {
            kernel: [_, kernel],
            stride,
            padding,
            dilation,
        } = self.conv;
        let source_y = (y * stride[0] + ky * dilation[0]).checked_sub(padding[0]);
        let Some(source_y) = source_y.filter(|&y| y < self.pre.height) else {
            return;
        };
        let channels = self.pre.channels;
        let start = |x: usize| ((n * self.pre.height + source_y) * self.pre.width + x) * channels;
        // Tap kx reads column x * stride + kx * dilation - padding, which must lie in 0..width.
        let first_column = x * stride[1];
        if dilation[1] == 1 {
            let first = padding[1].saturating_sub(first_column);
            let last = kernel.min((self.pre.width + padding[1]).saturating_sub(first_column));
            if first < last {
                each(Run {
                    columns: first * channels..last * channels,
                    start: start(first_column + first - padding[1]),
                });
            }
            return;
        }
        for kx in 0..kernel {
            let source_x = (first_column + kx * dilation[1]).checked_sub(padding[1]);
            if let Some(source_x) = source_x.filter(|&x| x < self.pre.width) {
                each(Run {
                    columns: kx * channels..(kx + 1) * channels,
                    start: start(source_x),
                });
            }
        }
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

/// `(C_post, C_pre, k_y, k_x)` to the rows (`ky`, `kx`, `c_pre`) and columns (`c_post`) used here.
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
