//! The geometry of a convolution, and the receptive fields of its output.
//!
//! Images are NHWC: a state of `N` images is a matrix with one row per pixel (`n`, `y`, `x`) and one column per
//! channel. A weight is a matrix `W` with one row per tap and input channel (`ky`, `kx`, `c_pre`) and one column per
//! output channel. With `im2col(x)` the matrix whose row is the receptive field of an output pixel,
//!
//! ```text
//! Op(x)    = im2col(x) W              filter.rs, without the matrix
//! Op^T(y)  = col2im(y W^T)            filter.rs as well      (col2im is the transpose of im2col: it adds back)
//! corr     = im2col(x)^T y            correlate.rs           (the gradient of <y, Op(x)> with respect to W)
//! ```
//!
//! A mean over windows of the convolved image is the convolution of the mean of its receptive fields. So with average
//! pooling a row of `im2col` is the mean of the four fields of a window, and nothing else changes.

use super::real::Real;
use super::taps::Taps;
use crate::network::{Convolution, Shape};
use ndarray::{Array2, ArrayView2};
use std::ops::Range;

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

    /// `Op`.
    pub fn forward(&self) -> Taps {
        Taps::forward(self.pre, self.post, self.conv, self.is_averaged)
    }

    /// `Op^T`.
    pub fn transposed(&self) -> Taps {
        Taps::transposed(self.pre, self.post, self.conv, self.is_averaged)
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
