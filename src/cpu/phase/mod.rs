//! Hopfield networks: phases, and the gradient between their states.
//!
//! A batch is cut (`batch.rs`) into chunks (`chunk.rs`) that relax in parallel (`phases.rs`, `relax.rs`). A step (`stack.rs`) takes the
//! states (`states.rs`), computes pre-activations (`pre_activation.rs`; max pooling: `pooling.rs`, in bf16: `follow.rs`), nudges the output
//! (`nudge.rs`), and clips (`update.rs`). `response.rs` relaxes the linear response instead, and `trajectory.rs` differentiates iterations
//! backwards. `gradient.rs` correlates what they leave, `measure.rs` reads a free state; `backend.rs` ties it together and `trace.rs`
//! watches it.

pub mod backend;
mod batch;
mod chunk;
mod clamped;
mod follow;
mod gradient;
mod measure;
mod nudge;
mod phases;
mod pooling;
mod pre_activation;
mod relax;
mod response;
mod stack;
mod states;
pub mod trace;
mod trajectory;
mod update;
mod weights;
