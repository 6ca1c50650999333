//! The gradient estimate: correlations of states along the edges, `corr(x, y)` with `x` at the pre and `y` at the post layer.
//!
//! With `dE/dW = -corr(s_pre, s_post)`, `dE/db = -sum_pixels s`, and the mean `m` and half-difference `d` of the two nudged states
//! `s+- = m +- d`,
//!
//! ```text
//! dE/dW(s+) - dE/dW(s-) = -(corr(s+, s+) - corr(s-, s-)) = -2 (corr(m, d) + corr(d, m))
//! dE/db(s+) - dE/db(s-) = -2 sum_pixels d
//! ```
//!
//! so nothing large is subtracted. The estimate divides by `second - first` nudging, and by the number of examples. Through max pooling
//! the post states are first sent to the positions of their maxima, each of the two to its own.
//!
//! In the alternative formula and in that of a linear response the free state stands in the place of `m`, and its maxima in
//! the place of theirs: [`tangent_terms`]. Truncated backpropagation adds up what each of its iterations gives
//! (`trajectory.rs`).

use super::chunk::{After, Chunk};
use super::clamped::Clamped;
use super::pooling::unpooled;
use super::stack::Stack;
use super::states::States;
use super::weights::PackedNetwork;
use crate::cpu::ops::correlate::{Correlation, Scratch, tasks};
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::{Into, Real};
use crate::network::ParameterSet;
use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2};
use rayon::prelude::*;

type Images<'a, T> = CowArray<'a, T, Ix2>;

/// What one chunk contributes.
pub struct Terms<'a, T> {
    /// by layer: what the gradient of its bias sums over pixels; nothing for a layer that does not differ
    pub biases: Vec<Option<ArrayView2<'a, T>>>,
    /// by edge: what the gradient of its weight correlates, pre layer and post layer, the latter at the resolution of the
    /// convolution
    pub weights: Vec<Vec<(Images<'a, T>, Images<'a, T>)>>,
}

/// `scale` times the sum of all chunks' terms, in packed form (see [`PackedNetwork`]), into `gradient`.
pub fn gather<T: Real>(
    packed: &PackedNetwork<T>,
    terms: &[Terms<T>],
    scale: f64,
    into: Into,
    gradient: &mut ParameterSet<T>,
) {
    let scale = T::of(scale);
    for l in packed.network.free_layers() {
        let mut sum = gradient.bias(l).clone();
        sum.fill(T::zero());
        for chunk in terms {
            if let Some(difference) = chunk.biases[l] {
                sum += &difference.sum_axis(Axis(0));
            }
        }
        sum.mapv_inplace(|g| g * scale);
        match into {
            Into::Replace => gradient.bias_mut(l).assign(&sum),
            Into::Add => *gradient.bias_mut(l) += &sum,
        }
    }
    let weights = gradient.weights_mut().iter_mut().enumerate();
    tasks(&packed.products, weights)
        .into_par_iter()
        .for_each_init(Scratch::new, |scratch, task| {
            let mut correlation = Correlation::new(
                packed.products[task.edge],
                task.kernel_row,
                task.gradient,
                scale,
                scratch,
            )
            .onto(into);
            for chunk in terms {
                for (pre, post) in &chunk.weights[task.edge] {
                    correlation.add(pre.view(), post.view());
                }
            }
            correlation.finish();
        });
}

/// Of a nudged pair: `corr(m, d) + corr(d, m)` and `d`.
pub fn pair_terms<'a, T: Real>(
    packed: &PackedNetwork<T>,
    clamped: &'a Clamped<T>,
    pair: &'a mut Stack<T>,
) -> Terms<'a, T> {
    let unpooled = unpool_pair(packed, clamped, pair);
    let (pair, network): (&'a States<T>, _) = (&pair.states, &packed.network);
    let weights = network
        .edges()
        .iter()
        .zip(unpooled)
        .map(|(edge, unpooled)| {
            let (post_mean, post_half) = match unpooled {
                Some((mean, half)) => (mean.into(), Some(half.into())),
                None => (
                    pair.mean(edge.post).into(),
                    pair.half_difference(edge.post).map(CowArray::from),
                ),
            };
            // Of the input, which is the same in both states, m is the image and d is zero. A layer that nudging has not
            // reached has no d either.
            let (pre_mean, pre_half) = match edge.pre {
                0 => (clamped.input.view(), None),
                pre => (pair.mean(pre), pair.half_difference(pre)),
            };
            let up = post_half.map(|post_half| (pre_mean.into(), post_half));
            let down = pre_half.map(|pre_half| (pre_half.into(), post_mean));
            up.into_iter().chain(down).collect()
        });
    Terms {
        weights: weights.collect(),
        biases: (0..network.layers().len())
            .map(|l| pair.half_difference(l))
            .collect(),
    }
}

/// Both post states of each max-pool edge at the resolution of its convolution; nothing for other edges.
fn unpool_pair<T: Real>(
    packed: &PackedNetwork<T>,
    clamped: &Clamped<T>,
    pair: &mut Stack<T>,
) -> Vec<Option<(Array2<T>, Array2<T>)>> {
    let input = clamped.input.view();
    let edges = 0..packed.products.len();
    let of_edge = |e: usize| {
        let Product::Pooled(..) = packed.products[e] else {
            return None;
        };
        let both = pair.unpooled_pair(packed, e, input);
        let (mean, half) = both.view().split_at(Axis(0), both.nrows() / 2);
        Some((mean.to_owned(), half.to_owned()))
    };
    edges.map(of_edge).collect()
}

/// Of a difference `d` from the free state `s`, by layer and nothing where it is zero: `corr(s, d) + corr(d, s)` and `d`, with the free
/// state's maxima.
pub fn tangent_terms<'a, T: Real>(
    packed: &PackedNetwork<T>,
    clamped: &'a Clamped<T>,
    free: &'a [Array2<T>],
    differences: Vec<Option<ArrayView2<'a, T>>>,
    maxima: &[Vec<u8>],
) -> Terms<'a, T> {
    let edges = packed.network.edges().iter().enumerate();
    let weights = edges.map(|(e, edge)| {
        let at_convolution = |post: ArrayView2<'a, T>| match packed.products[e] {
            Product::Pooled(..) => unpooled(packed, e, post, &maxima[e]).into(),
            _ => CowArray::from(post),
        };
        let (pre, pre_difference) = match edge.pre {
            0 => (clamped.input.view(), None),
            l => (free[l].view(), differences[l]),
        };
        let up = differences[edge.post].map(|d| (pre.into(), at_convolution(d)));
        let down = pre_difference.map(|d| (d.into(), at_convolution(free[edge.post].view())));
        up.into_iter().chain(down).collect()
    });
    Terms {
        weights: weights.collect(),
        biases: differences.clone(),
    }
}

/// What a chunk contributes to the gradient by the usual formula, once its phases have run.
pub fn terms<'a, T: Real>(
    packed: &PackedNetwork<T>,
    chunk: &'a mut Chunk<T>,
) -> Option<Terms<'a, T>> {
    if !matches!(chunk.after, After::Pair(_)) {
        return terms_at_free_state(packed, chunk);
    }
    let After::Pair(pair) = &mut chunk.after else {
        unreachable!("it was just looked at")
    };
    Some(pair_terms(packed, &chunk.clamped, pair))
}

/// The same by the alternative formula, of which that of a linear response is a case.
pub fn terms_at_free_state<'a, T: Real>(
    packed: &PackedNetwork<T>,
    chunk: &'a mut Chunk<T>,
) -> Option<Terms<'a, T>> {
    let maxima = chunk.free.maxima(packed, &chunk.clamped);
    let Chunk {
        clamped,
        free,
        after,
    } = chunk;
    let layers = 0..packed.network.layers().len();
    let differences = match after {
        After::Pair(pair) => layers.map(|l| pair.states.half_difference(l)).collect(),
        After::Response(response) => {
            let of = |l: usize| (l > 0).then(|| response.tangent.layer(l).view());
            layers.map(of).collect()
        }
        After::Nothing | After::End(_) => return None,
    };
    let free = free.states.layers();
    Some(tangent_terms(packed, clamped, free, differences, &maxima))
}
