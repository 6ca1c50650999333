//! The feed-forward networks that the paper compares with, trained by backpropagation.
//!
//! [`FeedForward`] is the equivalent of a Hopfield network: the same layers and convolutions, but the input passes
//! through once. With `BN_e` the batch normalisation of edge `e`,
//!
//! ```text
//! z_l = sum_{e: post = l} maxpool_e(BN_e(W_e * a_pre + b_e))     a_l = relu(z_l)
//! logits = z_L                                                  loss = mean cross-entropy
//! BN(c) = gamma (c - mean) / sqrt(var + 1e-5) + beta
//! ```
//!
//! A dense edge adds `W_e flatten(a_pre) + b_e`, which is not normalised. `maxpool_e` is only where the edge has it; an edge that pools
//! averages does so before its normalisation. A hidden layer whose activation is `identity` is not rectified.
//!
//! In training mean and variance are those of the batch (biased), and running statistics follow them with momentum 0.1
//! (the variance unbiased); in evaluation the running statistics stand in, as PyTorch defines `BatchNorm2d`. The backends
//! share their convolutions with equilibrium propagation; [`Backend`] is their interface.

mod backend;
mod model;
pub mod recipe;
mod shared;

pub use backend::{Backend, NormMode};
pub use model::{FeedForward, NORM_EPSILON, NORM_MOMENTUM, Part};
pub use shared::SharedBatch;
