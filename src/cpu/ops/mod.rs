//! What both kinds of networks are computed with: products, convolutions, pooling, and the forms that states and weights have.

pub mod bf16;
pub mod changes;
pub mod conv;
pub mod correlate;
pub mod filter;
pub mod images;
pub mod listed;
pub mod outcome;
pub mod packed;
pub mod panels;
pub mod pool;
pub mod product;
pub mod real;
pub mod reduce;
pub mod simd;
pub mod taps;
pub mod tile;
pub mod weight;
