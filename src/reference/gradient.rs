//! The gradient estimate from the mean `m` and half-difference `d` of the two nudged states.
//!
//! With `dE/dW = -corr(s_pre, s_post)` and `s+- = m +- d`,
//!
//! ```text
//! dE/dW(s+) - dE/dW(s-) = -(corr(s+, s+) - corr(s-, s-)) = -2 (corr(m, d) + corr(d, m))
//! dE/db(s+) - dE/db(s-) = -2 sum_pixels d
//! ```
//!
//! (first argument at the pre layer, second at the post layer), so nothing large is subtracted. The estimate divides by
//! `second - first` nudging, and by the number of examples. Through max pooling the post states are first sent to the
//! positions of their maxima, each of the two to its own.

use super::backend::Chunk;
use super::conv::ConvGeometry;
use super::real::{Into, Real, matmul};
use super::stack::{as_images, halves};
use super::wiring::{Product, Wiring};
use crate::network::ParameterSet;
use ndarray::{Array1, Array2, ArrayD, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

/// One product of the gradient: an edge, and for convolutions a row of the kernel.
struct Task<'a, T> {
    edge: usize,
    kernel_row: Option<(usize, ConvGeometry)>,
    gradient: ArrayViewMut2<'a, T>,
}

/// Gradient in packed form (see [`Wiring`]). `nudging_difference` is `second - first`.
pub fn estimate<T: Real>(
    wiring: &Wiring<T>,
    chunks: &mut [Chunk<T>],
    nudging_difference: f64,
) -> ParameterSet<T> {
    let network = &wiring.network;
    let unpooled: Vec<Vec<Array2<T>>> = chunks.par_iter_mut().map(|c| unpool(wiring, c)).collect();
    let chunks = &*chunks;
    let examples: usize = chunks.iter().map(Chunk::examples).sum();
    let scale = T::of(-2.0 / (nudging_difference * examples as f64));

    let mut weights: Vec<Array2<T>> = (0..network.edges().len())
        .map(|e| Array2::zeros(wiring.weight(e).dim()))
        .collect();
    tasks(wiring, &mut weights)
        .into_par_iter()
        .for_each(|mut task| {
            let pre = network.edges()[task.edge].pre;
            let mut columns = Vec::new();
            for (chunk, unpooled) in chunks.iter().zip(&unpooled) {
                let post = post_states(wiring, chunk, unpooled, task.edge);
                let (post_mean, post_half) = halves(post);
                if pre == 0 {
                    // The input is the same in both states: m is the image and d is zero.
                    task.correlate_add(chunk.clamped.input.view(), post_half, &mut columns);
                } else {
                    let (pre_mean, pre_half) = halves(chunk.pair().layers[pre].view());
                    task.correlate_add(pre_mean, post_half, &mut columns);
                    task.correlate_add(pre_half, post_mean, &mut columns);
                }
            }
            task.gradient.mapv_inplace(|g| g * scale);
        });

    let biases = network.free_layers().collect::<Vec<_>>().into_par_iter();
    let biases = biases.map(|l| {
        let mut sum = Array1::<T>::zeros(network.layers()[l].shape.channels);
        for chunk in chunks {
            let (_, half) = halves(chunk.pair().layers[l].view());
            sum += &half.sum_axis(Axis(0));
        }
        sum.mapv_into(|g| g * scale).into_dyn()
    });
    let biases: Vec<ArrayD<T>> = biases.collect();
    ParameterSet::new(biases, weights.into_iter().map(Array2::into_dyn).collect())
}

/// The products of all edges: small enough to share them out, the heaviest first.
fn tasks<'a, T: Real>(wiring: &Wiring<T>, weights: &'a mut [Array2<T>]) -> Vec<Task<'a, T>> {
    let mut tasks = Vec::new();
    for (edge, weight) in weights.iter_mut().enumerate() {
        match wiring.products[edge].geometry() {
            None => tasks.push(Task {
                edge,
                kernel_row: None,
                gradient: weight.view_mut(),
            }),
            Some(g) => {
                let rows = g.fan_in() / g.conv.kernel;
                let slabs = weight.axis_chunks_iter_mut(Axis(0), rows);
                tasks.extend(slabs.enumerate().map(|(ky, gradient)| Task {
                    edge,
                    kernel_row: Some((ky, g)),
                    gradient,
                }));
            }
        }
    }
    let cost = |task: &Task<T>| {
        let pixels = task.kernel_row.map_or(1, |(_, g)| g.post.pixels());
        std::cmp::Reverse(task.gradient.len() * pixels)
    };
    tasks.sort_by_key(cost);
    tasks
}

impl<T: Real> Task<'_, T> {
    /// `gradient += corr(x, y)` for this task's taps.
    fn correlate_add(&mut self, x: ArrayView2<T>, y: ArrayView2<T>, columns: &mut Vec<T>) {
        let gradient = self.gradient.view_mut();
        match self.kernel_row {
            Some((ky, g)) => g.correlate_add(ky, x, y, gradient, columns),
            None => matmul(gradient, as_images(x, y.nrows()).t(), y, Into::Add),
        }
    }
}

/// The post states of each max-pool edge at the resolution of its convolution; empty for other edges.
fn unpool<T: Real>(wiring: &Wiring<T>, chunk: &mut Chunk<T>) -> Vec<Array2<T>> {
    let edges = wiring.network.edges().iter().enumerate();
    let input = chunk.clamped.input.view();
    let pair = chunk.nudged.as_mut().expect("the nudged phases have run");
    edges
        .map(|(e, edge)| match wiring.products[e] {
            Product::Pooled(..) => {
                if edge.pre == 0 {
                    pair.refresh_input_pooling(wiring, e, input);
                } else {
                    pair.refresh_pooling(wiring, e, edge.pre);
                }
                pair.unpool(wiring, e)
            }
            _ => Array2::zeros((0, 0)),
        })
        .collect()
}

fn post_states<'a, T: Real>(
    wiring: &Wiring<T>,
    chunk: &'a Chunk<T>,
    unpooled: &'a [Array2<T>],
    e: usize,
) -> ArrayView2<'a, T> {
    match wiring.products[e] {
        Product::Pooled(..) => unpooled[e].view(),
        _ => chunk.pair().layers[wiring.network.edges()[e].post].view(),
    }
}
