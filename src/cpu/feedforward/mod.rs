//! Feed-forward networks: `backend.rs` has the passes, `tensors.rs` the parameters, `batch_norm.rs` what no Hopfield network
//! has, and `memory.rs` the buffers that one batch leaves to the next.

pub mod backend;
mod batch_norm;
mod memory;
mod tensors;
