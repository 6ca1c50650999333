//! Replays golden files against a backend.
//!
//! A golden file (`tests/golden/README.md` describes the format) holds a configuration, inputs, and the numbers that
//! the published implementation computed from them. `golden.rs` reads it, `ep.rs`, `learning.rs`, `backprop.rs`, `schedule.rs` and
//! `augment.rs` recompute one kind each, `compare.rs` measures the differences, `tolerance.rs` says which are small enough and
//! why, `report.rs` is the verdict, and `replay.rs` goes through a file or several. Nothing is passed over: whatever a file holds beyond
//! what was recomputed, or should hold and does not (`complete.rs`), is reported and counts as a failure.

mod augment;
mod backprop;
mod case;
mod compare;
mod complete;
mod ep;
mod golden;
mod hopfield;
mod learning;
mod replay;
mod report;
mod schedule;
mod tolerance;

pub use golden::{Golden, GoldenError};
pub use replay::{replay, replay_files};
pub use report::{Report, Row};
pub use tolerance::{Scale, Tolerances};
