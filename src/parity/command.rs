//! `eqprop-cuda parity`.

use super::golden::Golden;
use super::report::Report;
use super::tolerance::Tolerances;
use crate::device::{Device, Precision};
use anyhow::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Replay golden files and compare: exit status 1 when anything fails
#[derive(Debug, Clone, clap::Args)]
pub struct ParityArgs {
    /// golden files (safetensors)
    #[arg(required = true, value_name = "FILE.safetensors")]
    pub files: Vec<PathBuf>,
    /// where to compute: auto, cpu, cuda, cuda:N, emulated or interpreted
    #[arg(long, default_value = "auto")]
    pub device: Device,
    /// arithmetic, and with it the tolerances [default: fp32 on a CPU, fp16 on a GPU]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
}

/// Prints a report per file and a summary to stdout. `false` when anything failed; a file that cannot be replayed
/// counts as a failure and does not stop the others.
pub fn run(args: &ParityArgs) -> Result<bool> {
    run_to(args, &mut crate::output::Stdout)
}

/// [`run`] with a choice of where to print.
pub fn run_to(args: &ParityArgs, out: &mut dyn Write) -> Result<bool> {
    let precision = args
        .precision
        .unwrap_or_else(|| args.device.default_precision());
    let (mut passed, mut failed, mut bad_files) = (0, 0, Vec::new());
    for path in &args.files {
        match replay_file(path, args.device, precision) {
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
    let files = args.files.len();
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
    let mut report = super::replay(&golden, device, precision, &Tolerances::of(precision))
        .context("it cannot be replayed")?;
    report.title = format!("{}: {}", path.display(), report.title);
    Ok(report)
}
