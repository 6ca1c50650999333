//! What both kinds of networks are computed with: products, convolutions, pooling, and the forms that states and weights have.

pub mod conv;
pub mod correlate;
pub mod images;
pub mod outcome;
pub mod panels;
pub mod pool;
pub mod product;
pub mod real;
pub mod reduce;
