//! The product of an edge, written out unit by unit.

use eqprop_cuda::network::{LinearMap, Network, Pooling, Shape};
use ndarray::{Array3, ArrayD, ArrayView3};

/// `Op_e(x)` of one image `(C, H, W)`.
pub fn product(
    network: &Network,
    e: usize,
    weight: &ArrayD<f64>,
    x: ArrayView3<f64>,
) -> Array3<f64> {
    let edge = &network.edges()[e];
    let (channels, height, width) = x.dim();
    let post = network.layers()[edge.post].shape;
    let LinearMap::Conv(conv) = edge.map else {
        return Array3::from_shape_fn((post.channels, 1, 1), |(o, _, _)| {
            let terms = x
                .indexed_iter()
                .map(|((c, i, j), x)| x * weight[[c, i, j, o]]);
            terms.sum()
        });
    };
    let at = |c: usize, y: isize, x_: isize| {
        let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x_);
        if inside {
            x[[c, y as usize, x_ as usize]]
        } else {
            0.0
        }
    };
    let convolved = |o: usize, i: usize, j: usize| {
        let mut sum = 0.0;
        for c in 0..channels {
            for ky in 0..conv.kernel[0] {
                for kx in 0..conv.kernel[1] {
                    let y = (i * conv.stride[0] + ky * conv.dilation[0]) as isize;
                    let x = (j * conv.stride[1] + kx * conv.dilation[1]) as isize;
                    let (y, x) = (y - conv.padding[0] as isize, x - conv.padding[1] as isize);
                    sum += weight[[o, c, ky, kx]] * at(c, y, x);
                }
            }
        }
        sum
    };
    let Shape {
        channels,
        height,
        width,
    } = post;
    Array3::from_shape_fn((channels, height, width), |(o, i, j)| {
        let window = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let window = window.map(|(y, x)| (2 * i + y, 2 * j + x));
        match edge.pooling {
            Pooling::None => convolved(o, i, j),
            Pooling::Max2x2 => window
                .map(|(y, x)| convolved(o, y, x))
                .into_iter()
                .fold(f64::NEG_INFINITY, f64::max),
            Pooling::Average2x2 => {
                window.map(|(y, x)| convolved(o, y, x)).iter().sum::<f64>() / 4.0
            }
        }
    })
}
