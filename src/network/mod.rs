//! A Hopfield network as a value: layers joined by edges.
//!
//! The energy of an example in state `s` (Elayedam & Srinivasan 2025, section 2; the quadratic term is implicit
//! in the update rule) is
//!
//! ```text
//! E(s) = - sum_l <b_l, s_l>  -  sum_edges <s_post, Op_e(s_pre; W_e)>
//! ```
//!
//! Layer 0 is the clamped input, the last layer is the linear output, and every edge runs from a layer to a
//! later one. Both published networks ([`presets`]) and networks read from TOML ([`description`]) are built into
//! the same [`Network`], and every backend reads only that.

pub mod activation;
mod check;
pub mod description;
mod edge;
mod error;
mod graph;
mod initial;
mod layer;
pub mod order;
pub mod parameters;
pub mod presets;

pub use activation::{Activation, ActivationKind};
pub use description::{Ends, NetworkDescription};
pub use edge::{Convolution, Edge, LinearMap, Pooling};
pub use error::NetworkError;
pub use graph::Network;
pub use initial::Initial;
pub use layer::{Bias, Layer, Shape};
pub use order::Mode;
pub use parameters::{ModelState, ParameterSet};
