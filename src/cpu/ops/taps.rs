//! Which pixels of one image make which pixels of another: a convolution and its transpose as the same thing.
//!
//! Both compute each pixel of an image (`onto`) from a few pixels of another (`from`) that lie at fixed distances:
//!
//! ```text
//! onto[first + step i] += sum_taps from[read i + tap.offset] W_tap           i = (row, column), zeros outside of `from`
//! ```
//!
//! Of `Op` with stride `s` there is one such *class* of pixels, `first = 0`, `step = 1`, `read = s`, with a tap at
//! `k dilation - padding` for each position `k` of the kernel. Of `Op^T` there are `s_y s_x` classes, one for each remainder of
//! the row and column by the stride, `step = s`, `read = 1`: pixel `u` is reached from `y` through `k` where
//! `u + padding = s y + k dilation`. With average pooling `Op` is the convolution with the mean of the kernels at the four places of a
//! window, and twice the stride.
//!
//! In an NHWC image the channels of neighbouring pixels follow each other, so that taps side by side are one *run* of entries. The
//! image is copied with a border of zeros before it is read (`convolve.rs`), so that no tap falls outside.

use crate::network::{Convolution, Shape};

/// Pixels that are computed alike.
#[derive(Debug, Clone)]
pub struct Class {
    /// row and column of the first of them in `onto`
    pub first: [usize; 2],
    /// from one to the next
    pub step: [usize; 2],
    /// how many there are
    pub count: [usize; 2],
    /// pixels of `from` between what one and the next read
    pub read: [usize; 2],
    /// in the order of an image with a border
    pub taps: Vec<Tap>,
}

/// A pixel of `from`, where a pixel of `onto` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// rows and columns from the first pixel of the border
    pub offset: [usize; 2],
    /// positions of the kernel (row-major) whose weights are added up here
    pub kernel: Vec<usize>,
}

/// An image that is computed from another.
#[derive(Debug, Clone)]
pub struct Taps {
    /// shape of the image that is read
    pub from: Shape,
    /// shape of the image that is written
    pub onto: Shape,
    /// rows and columns of zeros before `from`
    pub before: [usize; 2],
    /// height and width of `from` with its border
    pub bordered: [usize; 2],
    /// what the weights are multiplied by
    pub scale: f64,
    pub classes: Vec<Class>,
}

/// One axis of a class: `(first, count, taps)`; a tap is its offset from `read i` and a position of the kernel.
type Line = (usize, usize, Vec<(isize, usize)>);

impl Taps {
    /// `Op`: from an image of shape `pre` to one of shape `post`.
    pub fn forward(pre: Shape, post: Shape, conv: Convolution, is_averaged: bool) -> Self {
        let window = if is_averaged { 2 } else { 1 };
        let lines = |axis: usize| vec![(0, size(post)[axis], distances(conv, window, axis))];
        let read = conv.stride.map(|s| window * s);
        Self::new(
            (pre, post),
            conv,
            window,
            [lines(0), lines(1)],
            [1, 1],
            read,
        )
    }

    /// `Op^T`: from an image of shape `post` to one of shape `pre`.
    pub fn transposed(pre: Shape, post: Shape, conv: Convolution, is_averaged: bool) -> Self {
        let window = if is_averaged { 2 } else { 1 };
        let step = conv.stride.map(|s| window * s);
        let lines = |axis: usize| -> Vec<Line> {
            let (step, pixels) = (step[axis], size(pre)[axis]);
            let line = |first: usize| {
                // first + step i = step y + distance
                let row = |(distance, k): (isize, usize)| {
                    let (rest, step) = (first as isize - distance, step as isize);
                    (rest % step == 0).then_some((rest / step, k))
                };
                let taps = distances(conv, window, axis).into_iter().filter_map(row);
                (first, (pixels - first).div_ceil(step), taps.collect())
            };
            (0..pixels.min(step)).map(line).collect()
        };
        Self::new(
            (post, pre),
            conv,
            window,
            [lines(0), lines(1)],
            step,
            [1, 1],
        )
    }

    fn new(
        (from, onto): (Shape, Shape),
        conv: Convolution,
        window: usize,
        lines: [Vec<Line>; 2],
        step: [usize; 2],
        read: [usize; 2],
    ) -> Self {
        // The border covers whatever any pixel reads.
        let reach = |axis: usize| {
            let (mut low, mut high) = (0, size(from)[axis] as isize);
            for (_, count, taps) in &lines[axis] {
                let last = (count.saturating_sub(1) * read[axis]) as isize;
                for &(offset, _) in taps {
                    low = low.min(offset);
                    high = high.max(last + offset + 1);
                }
            }
            ((-low) as usize, (high - low) as usize)
        };
        let [(top, height), (left, width)] = [reach(0), reach(1)];
        let mut classes = Vec::new();
        for (y, rows, tap_rows) in &lines[0] {
            for (x, columns, tap_columns) in &lines[1] {
                let mut taps: Vec<Tap> = Vec::new();
                for &(dy, ky) in tap_rows {
                    for &(dx, kx) in tap_columns {
                        let offset = [(dy + top as isize) as usize, (dx + left as isize) as usize];
                        let position = ky * conv.kernel[1] + kx;
                        match taps.iter_mut().find(|tap| tap.offset == offset) {
                            Some(tap) => tap.kernel.push(position),
                            None => taps.push(Tap {
                                offset,
                                kernel: vec![position],
                            }),
                        }
                    }
                }
                if taps.is_empty() {
                    continue;
                }
                taps.sort_by_key(|tap| tap.offset);
                classes.push(Class {
                    first: [*y, *x],
                    step,
                    count: [*rows, *columns],
                    read,
                    taps,
                });
            }
        }
        Self {
            from,
            onto,
            before: [top, left],
            bordered: [height, width],
            scale: 1.0 / (window * window) as f64,
            classes,
        }
    }
}

/// Along an axis: how far from the first pixel of its window (of `window` convolved pixels, for average pooling) each position of the
/// kernel reads, and the position.
fn distances(conv: Convolution, window: usize, axis: usize) -> Vec<(isize, usize)> {
    let distance = |k: usize, w: usize| {
        let pixels = w * conv.stride[axis] + k * conv.dilation[axis];
        (pixels as isize - conv.padding[axis] as isize, k)
    };
    (0..conv.kernel[axis])
        .flat_map(|k| (0..window).map(move |w| distance(k, w)))
        .collect()
}

fn size(shape: Shape) -> [usize; 2] {
    [shape.height, shape.width]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(onto pixel, from pixel, kernel position)` of all products.
    fn products(taps: &Taps) -> Vec<([usize; 2], [usize; 2], usize)> {
        let mut all = Vec::new();
        for class in &taps.classes {
            for i in 0..class.count[0] {
                for j in 0..class.count[1] {
                    let at = |axis: usize, i: usize| class.first[axis] + class.step[axis] * i;
                    for tap in &class.taps {
                        let row = (class.read[0] * i + tap.offset[0]).checked_sub(taps.before[0]);
                        let column =
                            (class.read[1] * j + tap.offset[1]).checked_sub(taps.before[1]);
                        let inside = |p: Option<usize>, n: usize| p.filter(|&p| p < n);
                        if let (Some(r), Some(c)) = (
                            inside(row, taps.from.height),
                            inside(column, taps.from.width),
                        ) {
                            let onto = [at(0, i), at(1, j)];
                            all.extend(tap.kernel.iter().map(|&k| (onto, [r, c], k)));
                        }
                    }
                }
            }
        }
        all.sort();
        all
    }

    #[test]
    fn the_transpose_has_the_same_products_the_other_way_round() {
        let conv = |kernel, stride, padding, dilation| Convolution {
            kernel,
            stride,
            padding,
            dilation,
        };
        for (conv, size) in [
            (conv([3, 3], [1, 1], [1, 1], [1, 1]), [6, 5]),
            (conv([3, 3], [2, 2], [1, 1], [1, 1]), [6, 5]),
            (conv([1, 1], [2, 2], [0, 0], [1, 1]), [7, 6]),
            (conv([5, 5], [1, 1], [0, 0], [1, 1]), [7, 8]),
            (conv([2, 3], [3, 2], [1, 0], [2, 1]), [9, 8]),
            (conv([3, 1], [1, 4], [2, 0], [3, 1]), [8, 9]),
        ] {
            for window in [1, 2] {
                let pre = Shape::new(1, size[0], size[1]);
                let [height, width] = conv.output_size(size).unwrap();
                let post = Shape::new(1, height / window, width / window);
                let forward = Taps::forward(pre, post, conv, window == 2);
                let back = Taps::transposed(pre, post, conv, window == 2);
                // As the definition has it.
                let mut expected = Vec::new();
                for (y, x) in (0..window * post.height)
                    .flat_map(|y| (0..window * post.width).map(move |x| (y, x)))
                {
                    for (ky, kx) in
                        (0..conv.kernel[0]).flat_map(|y| (0..conv.kernel[1]).map(move |x| (y, x)))
                    {
                        let at = |o: usize, k: usize, axis: usize| {
                            (o * conv.stride[axis] + k * conv.dilation[axis])
                                .checked_sub(conv.padding[axis])
                                .filter(|&p| p < size[axis])
                        };
                        if let (Some(r), Some(c)) = (at(y, ky, 0), at(x, kx, 1)) {
                            let onto = [y / window, x / window];
                            expected.push((onto, [r, c], ky * conv.kernel[1] + kx));
                        }
                    }
                }
                expected.sort();
                assert_eq!(products(&forward), expected, "{conv:?}, {size:?}");
                let mut turned: Vec<_> = expected.iter().map(|&(o, f, k)| (f, o, k)).collect();
                turned.sort();
                assert_eq!(products(&back), turned, "{conv:?}, {size:?}, transposed");
            }
        }
    }
}
