//! Replays golden files against a backend.
//!
//! A golden file (`tests/golden/README.md` describes the format) holds a configuration, inputs, and the numbers that
//! the published implementation computed from them. `golden.rs` reads it, `ep.rs`, `learning.rs`, `backprop.rs`, `schedule.rs` and
//! `augment.rs` recompute one kind each, `compare.rs` measures the differences, `tolerance.rs` says which are small enough and
//! why, and `report.rs` prints the verdict. Nothing is passed over: whatever a file holds beyond what was
//! recomputed, or should hold and does not (`complete.rs`), is reported and counts as a failure.

mod augment;
mod backprop;
mod command;
mod compare;
mod complete;
mod ep;
mod golden;
mod hopfield;
mod learning;
mod report;
mod schedule;
mod setup;
mod tolerance;

pub use command::{ParityArgs, run, run_to};
pub use golden::{Golden, GoldenError};
pub use report::{Report, Row};
pub use tolerance::{Scale, Tolerances};

use crate::device::{Device, Precision};
use anyhow::Result;

/// Recomputes everything in `golden` on a device and compares. An error means that the file could not be replayed at all.
pub fn replay(
    golden: &Golden,
    device: Device,
    precision: Precision,
    tolerances: &Tolerances,
) -> Result<Report> {
    let kind = golden.text("kind")?;
    let mut report = Report::new(&kind);
    match kind.as_str() {
        "ep" => ep::replay(golden, device, precision, tolerances, &mut report)?,
        "learning" => learning::replay(golden, device, precision, tolerances, &mut report)?,
        "backprop" => {
            let tolerances = &tolerances.feed_forward;
            backprop::replay(golden, device, precision, tolerances, &mut report)?;
        }
        "schedule" => schedule::replay(golden, &mut report)?,
        "augment" => augment::replay(golden, &mut report)?,
        other => {
            report.problem(&format!(
                "kind {other:?} is unknown (known: ep, learning, backprop, schedule, augment), so nothing was checked"
            ));
            return Ok(report);
        }
    }
    for name in complete::missing(golden, &kind)? {
        report.problem(&format!("tensor {name:?} is missing: it was not checked"));
    }
    for name in golden.unused_tensors() {
        report.problem(&format!("unknown tensor {name:?}: not checked"));
    }
    for key in golden.unused_metadata() {
        report.note(&format!(
            "unknown metadata {key:?} = {}: its meaning was not taken into account",
            golden.raw_metadata(&key)
        ));
    }
    if report.rows().is_empty() {
        report.problem("the file holds no quantity to check");
    }
    Ok(report)
}
