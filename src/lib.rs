//! Training of deep convolutional Hopfield networks with equilibrium propagation.

pub mod data;
