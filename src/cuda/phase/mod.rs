//! Relaxation, nudging and the gradient estimate on a device.
//!
//! A batch (`batch.rs`) has memory (`memory.rs`) and plans: what is constant in it (`constant.rs`), the iterations of a phase (`plan.rs`,
//! run by `iteration.rs`), and what a gradient is a product of (`gradient.rs`, `unpooled.rs`). They are made of sweeps, whose entries are
//! the updates of layers (`update.rs`), with the launches of max pooling between them (`pooling.rs`). `truncated.rs` goes back through
//! iterations. What a free state says is in `measure.rs`, what the cost does to the output in `output.rs`, what a batch leaves to the next
//! in `kept.rs`.

pub mod backend;
mod batch;
mod constant;
mod exchange;
pub mod gradient;
mod iteration;
mod kept;
mod measure;
pub mod memory;
mod output;
pub mod plan;
mod pool;
mod pooling;
pub mod states;
mod trajectory;
mod truncated;
mod unpooled;
mod update;

pub use backend::CudaBackend;
