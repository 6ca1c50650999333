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

use super::chunk::Chunk;
use super::weights::PackedNetwork;
use crate::cpu::ops::correlate::{Correlation, Scratch, tasks};
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use crate::network::ParameterSet;
use ndarray::{Array2, Axis};
use rayon::prelude::*;

/// Gradient in packed form (see [`PackedNetwork`]) into `gradient`. `nudging_difference` is `second - first`.
pub fn estimate<T: Real>(
    packed: &PackedNetwork<T>,
    chunks: &mut [Chunk<T>],
    nudging_difference: f64,
    gradient: &mut ParameterSet<T>,
) {
    let network = &packed.network;
    let unpooled: Vec<Vec<Array2<T>>> = chunks.par_iter_mut().map(|c| unpool(packed, c)).collect();
    let chunks = &*chunks;
    let examples: usize = chunks.iter().map(Chunk::examples).sum();
    let scale = T::of(-2.0 / (nudging_difference * examples as f64));

    for l in network.free_layers() {
        let bias = gradient.bias_mut(l);
        bias.fill(T::zero());
        for chunk in chunks {
            if let Some(half) = chunk.pair().half_difference(l) {
                *bias += &half.sum_axis(Axis(0));
            }
        }
        bias.mapv_inplace(|g| g * scale);
    }
    let weights = gradient.weights_mut().iter_mut().enumerate();
    tasks(&packed.products, weights)
        .into_par_iter()
        .for_each_init(Scratch::new, |scratch, task| {
            let edge = &network.edges()[task.edge];
            let mut correlation = Correlation::new(
                packed.products[task.edge],
                task.kernel_row,
                task.gradient,
                scale,
                scratch,
            );
            for (chunk, unpooled) in chunks.iter().zip(&unpooled) {
                let pair = chunk.pair();
                let (post_mean, post_half) = match packed.products[task.edge] {
                    Product::Pooled(..) => {
                        let post = unpooled[task.edge].view();
                        let (mean, half) = post.split_at(Axis(0), post.nrows() / 2);
                        (mean, Some(half))
                    }
                    _ => (pair.mean(edge.post), pair.half_difference(edge.post)),
                };
                // Of the input, which is the same in both states, m is the image and d is zero. A layer that nudging has not
                // reached has no d either.
                let (pre_mean, pre_half) = match edge.pre {
                    0 => (chunk.clamped.input.view(), None),
                    pre => (pair.mean(pre), pair.half_difference(pre)),
                };
                if let Some(post_half) = post_half {
                    correlation.add(pre_mean, post_half);
                }
                if let Some(pre_half) = pre_half {
                    correlation.add(pre_half, post_mean);
                }
            }
            correlation.finish();
        });
}

/// The post states of each max-pool edge at the resolution of its convolution; empty for other edges.
fn unpool<T: Real>(packed: &PackedNetwork<T>, chunk: &mut Chunk<T>) -> Vec<Array2<T>> {
    let edges = packed.network.edges().iter().enumerate();
    let input = chunk.clamped.input.view();
    let pair = chunk.nudged.as_mut().expect("the nudged phases have run");
    edges
        .map(|(e, _)| match packed.products[e] {
            Product::Pooled(..) => pair.unpooled_pair(packed, e, input),
            _ => Array2::zeros((0, 0)),
        })
        .collect()
}
