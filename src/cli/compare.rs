//! `eqprop-cuda compare`

use super::output::complain;
use super::runs::{self, Run};
use super::say;
use super::statistics::Estimate;
use super::sweep::SWEEP_FILE;
use super::table;
use crate::run::{Record, RunFolder};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print accuracy, time and memory of runs side by side
///
/// The comparison of the paper's tables: train one network with equilibrium propagation and its feed-forward equivalent with
/// --algorithm backprop, then name both folders. Runs that differ only in the seed share a line, with mean, standard deviation
/// and the 95 % confidence interval of the mean by Student's t.
#[derive(Args)]
pub struct CompareArgs {
    /// Folders of runs; others are skipped with a word, so that runs/* will do
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// A line for every run, whatever its seed
    #[arg(long)]
    each: bool,
    /// Print a JSON array, one object a line of the table
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

pub fn run(args: CompareArgs) -> Result<ExitCode> {
    let all = read(&args.runs)?;
    let groups = match args.each {
        true => all.into_iter().map(|run| vec![run]).collect(),
        false => runs::groups(all),
    };
    let lines: Vec<Line> = groups.iter().map(|group| Line::of(group)).collect();
    if args.json {
        let objects: Vec<_> = lines.iter().map(Line::json).collect();
        say(serde_json::to_string_pretty(&objects)?);
    } else if args.csv {
        say(table::csv_line(&CSV).trim_end());
        lines.iter().for_each(|line| say(line.csv().trim_end()));
    } else {
        let several = lines.iter().any(|line| line.runs.len() > 1);
        let mut heads = vec![
            "run",
            "algorithm",
            "network",
            "dataset",
            "epochs",
            "test accuracy",
        ];
        if several {
            heads.splice(4..4, ["runs"]);
            heads.extend(["std", "95 % interval"]);
        }
        heads.extend(["time", "per epoch", "peak memory"]);
        let rows: Vec<_> = lines.iter().map(|line| line.cells(several)).collect();
        table::print(&heads, &rows, 4);
    }
    Ok(ExitCode::SUCCESS)
}

/// The runs among the paths that have something to compare; of what is skipped a line on stderr says why.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Run>> {
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    for path in paths {
        ensure!(path.exists(), runs::no_run(path));
        // The file of a sweep lies beside its runs.
        if path.ends_with(SWEEP_FILE) && path.is_file() {
            continue;
        }
        if let Err(reason) = RunFolder::check_is_one(path) {
            skipped.push(reason.to_string());
            continue;
        }
        let mut run = Run::read(path)?;
        run.name = path.display().to_string();
        match run.records.is_empty() {
            true => skipped.push(format!(
                "{} has nothing to compare yet: its first epoch is not over",
                path.display()
            )),
            false => found.push(run),
        }
    }
    ensure!(!found.is_empty(), "{}", nothing(paths, &skipped));
    skipped
        .iter()
        .for_each(|reason| complain(format_args!("skipped: {reason}")));
    Ok(found)
}

/// Why there is nothing to compare.
fn nothing(paths: &[PathBuf], skipped: &[String]) -> String {
    match paths {
        [path] if path.ends_with(SWEEP_FILE) => runs::no_run(path),
        [path] if RunFolder::check_is_one(path).is_err() => runs::no_run(path),
        _ => skipped.join("; "),
    }
}

const CSV: [&str; 15] = [
    "run",
    "algorithm",
    "network",
    "dataset",
    "runs",
    "epochs",
    "best_top1_error_mean",
    "best_top1_error_std",
    "best_top1_error_ci95",
    "last_top1_error_mean",
    "last_top1_error_std",
    "last_top1_error_ci95",
    "seconds_mean",
    "seconds_per_epoch_mean",
    "peak_memory_mib",
];

/// What is said of one run, or of several that differ only in the seed.
pub struct Line<'a> {
    pub runs: &'a [Run],
    /// test errors as fractions: the smallest of each run, and that of its last epoch
    pub best: Estimate,
    pub last: Estimate,
    pub seconds: Estimate,
    pub per_epoch: Estimate,
    pub memory: Option<f64>,
}

impl<'a> Line<'a> {
    /// Of runs that have records.
    pub fn of(runs: &'a [Run]) -> Self {
        let of = |quantity: &dyn Fn(&Run) -> Option<f64>| {
            Estimate::of(&runs.iter().filter_map(quantity).collect::<Vec<_>>())
        };
        let seconds = |run: &Run| {
            let both = |r: &Record| r.train.seconds + r.test.seconds;
            run.records.iter().map(both).sum::<f64>()
        };
        let memory = runs.iter().flat_map(|run| &run.records);
        Self {
            runs,
            best: of(&|run| Some(run.best()?.test.top1_error)),
            last: of(&|run| Some(run.records.last()?.test.top1_error)),
            seconds: of(&|run| Some(seconds(run))),
            per_epoch: of(&|run| Some(seconds(run) / run.records.len() as f64)),
            memory: memory.filter_map(|r| r.peak_memory_mib).reduce(f64::max),
        }
    }

    pub fn name(&self) -> String {
        match self.runs {
            [run] => run.name.clone(),
            runs => format!("{} and {} more", runs[0].name, runs.len() - 1),
        }
    }

    pub fn algorithm(&self) -> String {
        let run = &self.runs[0];
        let description = match run.algorithm() {
            Ok(algorithm) => algorithm.description(),
            Err(name) => return name,
        };
        let label = description.label;
        let foreign = |key: &str| description.foreign.contains(&key);
        let ends = |key: &str| !matches!(&*run.setting(key), "" | "off");
        let bound = match ends("tolerance") || ends("tolerance-nudged") {
            true => "up to ",
            false => "",
        };
        match (
            foreign("num-iterations-inference"),
            foreign("num-iterations-training"),
        ) {
            (true, _) => label.into(),
            (false, true) => format!(
                "{label}, {bound}{} iterations",
                run.setting("num-iterations-inference")
            ),
            (false, false) => format!(
                "{label}, {bound}{}+{} iterations",
                run.setting("num-iterations-inference"),
                run.setting("num-iterations-training")
            ),
        }
    }

    /// Number of epochs; from the least to the most where the runs are not equally far.
    pub fn epochs(&self) -> String {
        let epochs = self.runs.iter().map(|run| run.records.len());
        let (least, most) = (epochs.clone().min().unwrap_or(0), epochs.max().unwrap_or(0));
        match least == most {
            true => most.to_string(),
            false => format!("{least}-{most}"),
        }
    }

    pub fn cells(&self, several: bool) -> Vec<String> {
        let run = &self.runs[0];
        let percent = |v: f64| format!("{:.2} %", 100.0 * v);
        let mut cells = vec![
            self.name(),
            self.algorithm(),
            run.network_name(),
            run.setting("dataset"),
            self.epochs(),
            percent(1.0 - self.best.mean),
        ];
        if several {
            cells.splice(4..4, [self.runs.len().to_string()]);
            cells.push(self.best.deviation.map_or("-".into(), percent));
            let interval = self.best.confidence.map(|c| format!("± {}", percent(c)));
            cells.push(interval.unwrap_or("-".into()));
        }
        cells.extend([
            table::duration(self.seconds.mean),
            table::duration(self.per_epoch.mean),
            self.memory
                .map_or("-".into(), |mib| format!("{mib:.0} MiB")),
        ]);
        cells
    }

    fn csv(&self) -> String {
        let run = &self.runs[0];
        let number = |v: Option<f64>| v.map_or(String::new(), |v| v.to_string());
        let (best, last) = (&self.best, &self.last);
        let cells = [
            self.name(),
            self.algorithm(),
            run.network_name(),
            run.setting("dataset"),
            self.runs.len().to_string(),
            self.epochs(),
            best.mean.to_string(),
            number(best.deviation),
            number(best.confidence),
            last.mean.to_string(),
            number(last.deviation),
            number(last.confidence),
            self.seconds.mean.to_string(),
            self.per_epoch.mean.to_string(),
            number(self.memory),
        ];
        table::csv_line(&cells.each_ref().map(String::as_str))
    }

    fn json(&self) -> serde_json::Value {
        let estimate =
            |e: &Estimate| json!({ "mean": e.mean, "std": e.deviation, "ci95": e.confidence });
        let runs = self.runs.iter().map(|run| {
            json!({
                "folder": run.name,
                "seed": run.setting("seed"),
                "epochs": run.records.len(),
                "best_epoch": run.best().map(|r| r.epoch),
                "best_top1_error": run.best().map(|r| r.test.top1_error),
                "last_top1_error": run.records.last().map(|r| r.test.top1_error),
            })
        });
        let first = &self.runs[0];
        json!({
            "runs": runs.collect::<Vec<_>>(),
            "algorithm": first.algorithm_name(),
            "network": first.network_name(),
            "dataset": first.setting("dataset"),
            "best_top1_error": estimate(&self.best),
            "last_top1_error": estimate(&self.last),
            "seconds": estimate(&self.seconds),
            "seconds_per_epoch": estimate(&self.per_epoch),
            "peak_memory_mib": self.memory,
        })
    }
}
