//! `eqprop-cuda list`

use super::output::complain;
use super::runs::{Run, find};
use super::say;
use super::table;
use crate::run::RunFolder;
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// List the runs in a folder: how far they are, and their smallest test error
#[derive(Args)]
pub struct ListArgs {
    /// Where to look, in its folders and theirs
    #[arg(value_name = "FOLDER", default_value = "runs")]
    folder: PathBuf,
    /// Print a JSON array
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

const HEADS: [&str; 8] = [
    "run",
    "state",
    "algorithm",
    "network",
    "dataset",
    "seed",
    "epochs",
    "best error",
];

pub fn run(args: &ListArgs) -> Result<ExitCode> {
    ensure!(
        args.folder.is_dir(),
        "{} is not a folder: name the one that holds runs",
        args.folder.display()
    );
    let folders = find(&args.folder);
    let mut entries = Vec::new();
    for folder in &folders {
        match Run::read(folder) {
            Ok(run) => entries.push(Entry::of(run)),
            // One broken run does not hide the others.
            Err(error) => complain(format_args!("skipped: {}: {error:#}", folder.display())),
        }
    }
    if args.json {
        let objects: Vec<_> = entries.iter().map(Entry::json).collect();
        say(serde_json::to_string_pretty(&objects)?);
    } else if args.csv {
        say(table::csv_line(
            &HEADS
                .map(|head| head.replace(' ', "_"))
                .each_ref()
                .map(String::as_str),
        )
        .trim_end());
        for entry in &entries {
            let cells = entry.cells(|error| error.to_string());
            say(table::csv_line(&cells.each_ref().map(String::as_str)).trim_end());
        }
    } else if entries.is_empty() {
        say(format_args!("no runs in {}", args.folder.display()));
    } else {
        let percent = |error: f64| format!("{:.2} %", 100.0 * error);
        let rows = entries.iter().map(|entry| entry.cells(percent).to_vec());
        table::print(&HEADS, &rows.collect::<Vec<_>>(), 5);
    }
    Ok(ExitCode::SUCCESS)
}

struct Entry {
    run: Run,
    state: &'static str,
    /// that it is to come to
    epochs: usize,
}

impl Entry {
    fn of(run: Run) -> Self {
        let epochs = run.setting("epochs").parse().unwrap_or(0);
        let last = run.records.last().map_or(0, |r| r.epoch);
        let state = match (RunFolder::is_in_use(&run.folder), last) {
            (true, _) => "running",
            (false, last) if last >= epochs => "finished",
            (false, 0) if !RunFolder::has_checkpoint(&run.folder) => "not begun",
            (false, _) => "stopped",
        };
        Self { run, state, epochs }
    }

    fn cells(&self, error: impl Fn(f64) -> String) -> [String; 8] {
        let run = &self.run;
        let last = run.records.last().map_or(0, |r| r.epoch);
        [
            run.folder.display().to_string(),
            self.state.to_string(),
            run.algorithm_name(),
            run.network_name(),
            run.setting("dataset"),
            run.setting("seed"),
            format!("{last}/{}", self.epochs),
            run.best().map_or("-".into(), |r| error(r.test.top1_error)),
        ]
    }

    fn json(&self) -> serde_json::Value {
        let run = &self.run;
        json!({
            "folder": run.folder.display().to_string(),
            "state": self.state,
            "algorithm": run.algorithm_name(),
            "network": run.network_name(),
            "dataset": run.setting("dataset"),
            "seed": run.setting("seed"),
            "epoch": run.records.last().map_or(0, |r| r.epoch),
            "epochs": self.epochs,
            "best_epoch": run.best().map(|r| r.epoch),
            "best_top1_error": run.best().map(|r| r.test.top1_error),
        })
    }
}
