//! One golden file, or several, against a backend.

use super::golden::Golden;
use super::report::Report;
use super::tolerance::Tolerances;
use super::{augment, backprop, complete, ep, learning, schedule};
use crate::device::{Device, Precision};
use crate::error::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Recomputes everything in `golden` on a device and compares. An error means that the file could not be replayed at all.
///
/// # Errors
/// When the file is damaged, or the device cannot replay it.
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

/// Writes a report per file and a summary to `out`. `false` when anything failed; a file that cannot be replayed
/// counts as a failure and does not stop the others.
///
/// # Errors
/// When `out` takes no more.
pub fn replay_files(
    files: &[PathBuf],
    device: Device,
    precision: Precision,
    out: &mut dyn Write,
) -> Result<bool> {
    let (mut passed, mut failed, mut bad_files) = (0, 0, Vec::new());
    for path in files {
        match replay_file(path, device, precision) {
            Ok(report) => {
                writeln!(out, "{report}")?;
                passed += report.rows().iter().filter(|row| row.passed()).count();
                failed += report.failures();
                if !report.passed() {
                    bad_files.push(path.display().to_string());
                }
            }
            Err(error) => {
                writeln!(out, "{}: FAIL: {error:#}\n", path.display())?;
                failed += 1;
                bad_files.push(path.display().to_string());
            }
        }
    }
    let files = files.len();
    let verdict = if failed == 0 { "pass" } else { "FAIL" };
    writeln!(
        out,
        "{verdict}: {files} file(s), {passed} quantities pass, {failed} fail"
    )?;
    for path in &bad_files {
        writeln!(out, "  failed: {path}")?;
    }
    Ok(failed == 0)
}

fn replay_file(path: &Path, device: Device, precision: Precision) -> Result<Report> {
    let golden = Golden::read(path)?;
    let mut report = replay(&golden, device, precision, &Tolerances::of(precision))
        .context("it cannot be replayed")?;
    report.title = format!("{}: {}", path.display(), report.title);
    Ok(report)
}
