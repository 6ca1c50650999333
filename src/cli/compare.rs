//! `eqprop-cuda compare`

use super::say;
use crate::config::Algorithm;
use crate::run::{Checkpoint, Record, RunFolder};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print accuracy, time and memory of runs side by side
///
/// The comparison of the paper's tables: train one network with equilibrium propagation and its feed-forward equivalent with
/// --algorithm backprop, then name both folders.
#[derive(Args)]
pub struct CompareArgs {
    /// Folders of runs
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
}

pub fn run(args: CompareArgs) -> Result<ExitCode> {
    let rows: Vec<Vec<String>> = args.runs.iter().map(|r| row(r)).collect::<Result<_>>()?;
    let heads = [
        "run",
        "algorithm",
        "network",
        "dataset",
        "epochs",
        "test accuracy",
        "time",
        "per epoch",
        "peak memory",
    ];
    let width = |c: usize| {
        let cells = rows.iter().map(|row| row[c].chars().count());
        cells.max().unwrap_or(0).max(heads[c].len())
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate();
        // Words to the left, numbers to the right.
        let cells = cells.map(|(c, (text, &width))| match c {
            0..=3 => format!("{text:<width$}"),
            _ => format!("{text:>width$}"),
        });
        cells.collect::<Vec<_>>().join("   ")
    };
    say(line(&heads.map(String::from)).trim_end());
    for row in &rows {
        say(line(row).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn row(path: &Path) -> Result<Vec<String>> {
    RunFolder::check_is_one(path)?;
    let records = RunFolder::records(path)?;
    ensure!(
        !records.is_empty(),
        "{} has nothing to compare yet: its first epoch is not over",
        path.display()
    );
    let run = Checkpoint::load(&RunFolder::best_of(path))?;
    let config = &run.config;
    let best = (records.iter())
        .min_by(|a, b| a.test.top1_error.total_cmp(&b.test.top1_error))
        .expect("there are records");
    let seconds: f64 = (records.iter())
        .map(|r| r.train.seconds + r.test.seconds)
        .sum();
    let memory = records.iter().filter_map(|r: &Record| r.peak_memory_mib);
    let memory = memory.reduce(f64::max);
    let algorithm = match config.algorithm {
        Algorithm::Ep => format!(
            "EP, {}+{} iterations",
            config.num_iterations_inference, config.num_iterations_training
        ),
        Algorithm::Backprop => "backpropagation".to_string(),
    };
    Ok(vec![
        path.display().to_string(),
        algorithm,
        config.network_name(),
        config.dataset.to_string(),
        records.len().to_string(),
        format!("{:.2} %", 100.0 * (1.0 - best.test.top1_error)),
        duration(seconds),
        duration(seconds / records.len() as f64),
        memory.map_or("-".into(), |mib| format!("{mib:.0} MiB")),
    ])
}

/// `75.3 s`, `12 min 05 s`, `30 h 02 min`
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..120 => format!("{seconds:.1} s"),
        120..7200 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}
