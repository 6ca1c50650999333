//! `eqprop-cuda sweep`

use super::output::{self, complain};
use super::say;
use super::table::duration;
use crate::config::{UsageError, count};
use crate::device::Device;
use crate::run::{RunFolder, interrupt, replace_file};
use crate::shown::shell_word;
use crate::sweep::{Crew, Event, Plan, Point, train};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Train all combinations of options that a file lists, or random choices
///
/// Each run has a process and a folder of its own. The same command again goes on: what is finished is skipped, what was
/// interrupted or has failed is resumed. Ctrl-C and SIGTERM save the runs under way.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct SweepArgs {
    /// What to train, in TOML (below)
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Folder for the runs' folders [default: runs/FILE, without its ending]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Runs at a time [default: one, or one for each of --devices]. Several share the cores, unless threads = N is in the file
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    jobs: Option<usize>,
    /// Devices that the runs at a time take in turn, with commas: cuda:0,cuda:1
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    devices: Vec<Device>,
    /// Print the runs, each with its command, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Say nothing but what went wrong
    #[arg(short, long)]
    quiet: bool,
}

/// A copy of the file of a sweep, in the folder that holds the folders of its runs.
pub const SWEEP_FILE: &str = "sweep.toml";

const AFTER_HELP: &str = "\
The file has the keys of train's options, for all runs, and of these tables what is wanted:

  [grid]                            lists of values: all combinations are trained
  beta = [0.1, 0.2]
  seed = [0, 1, 2]

  [random]                          drawn; needs `draws = N` at the top of the file
  omega = [1.0, 1.6]                one of a list, or from a range: of whole numbers
  learning-rate = { from = 1e-4, to = 1e-2, scale = \"log\" }     where both ends are

  [case.NAME]                       options under a name: all else with each case
  preset = \"quickstart\"

`eqprop-cuda compare FOLDER/*` takes seeds together: their mean and its interval.";

pub fn run(args: &SweepArgs) -> Result<ExitCode> {
    let plan = Plan::read(&args.file)?;
    check(&plan, &args.file)?;
    let folder = folder(args)?;
    if args.dry_run {
        for point in &plan.points {
            let path = shell_word(&folder.join(&point.name));
            let words: Vec<String> = point
                .arguments()
                .iter()
                .map(|word| shell_word(Path::new(word)))
                .collect();
            say(format_args!(
                "eqprop-cuda train {} --output {path} --resume",
                words.join(" ")
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.quiet {
        output::be_silent();
    }
    let _watch = interrupt::watch("the runs under way are saved and no other begins")?;
    std::fs::create_dir_all(&folder).with_context(|| {
        format!(
            "cannot make the folder {}; choose another with --output",
            folder.display()
        )
    })?;
    ensure!(
        RunFolder::check_is_one(&folder).is_err(),
        "{} is the folder of a run; choose another with --output",
        folder.display()
    );
    let _lock = RunFolder::lock(&folder)?;
    // Beside the runs, for whoever wonders where they come from.
    replace_file(&folder.join(SWEEP_FILE), plan.text.as_bytes())?;
    let jobs = args.jobs.unwrap_or(args.devices.len().max(1));
    let crew = Crew {
        jobs,
        options: &|place, point| options(args, jobs, place, point),
        stop: &interrupt::requested,
    };
    let mut count = Count::default();
    let all = plan.points.len();
    train(&plan.points, &folder, &crew, &mut |point, event| {
        count.add(&event);
        tell(point, &event, &folder, count.over(), all);
    })?;
    say(count.summary(all, &folder));
    Ok(match (count.failed, interrupt::requested()) {
        (_, true) => ExitCode::from(interrupt::exit_code()),
        (0, false) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Nothing begins as long as `train` would refuse one of the points.
fn check(plan: &Plan, file: &Path) -> Result<()> {
    for point in &plan.points {
        let wrong = |error: crate::error::Error| {
            UsageError(format!("{}: {}: {error:#}", file.display(), point.name))
        };
        point.config().map_err(wrong)?;
    }
    Ok(())
}

fn folder(args: &SweepArgs) -> Result<PathBuf> {
    let stem = args
        .file
        .file_stem()
        .context("the sweep's file has no name")?;
    Ok(args
        .output
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(stem)))
}

/// What a process gets besides the options of its point: a device, and its share of the cores.
fn options(args: &SweepArgs, jobs: usize, place: usize, point: &Point) -> Vec<String> {
    let device = (!args.devices.is_empty())
        .then(|| format!("--device={}", args.devices[place % args.devices.len()]));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (jobs > 1 && !point.says("threads"))
        .then(|| format!("--threads={}", (cores / jobs).max(1)));
    device.into_iter().chain(threads).collect()
}

fn tell(point: &Point, event: &Event, folder: &Path, over: usize, all: usize) {
    let name = &point.name;
    match event {
        Event::Skipped => say(format_args!("{over}/{all}   {name}   is finished")),
        Event::Begun => say(format_args!("      {name}   begins")),
        Event::Resumed => say(format_args!("      {name}   goes on")),
        Event::Finished(time) => {
            let records = RunFolder::records(&folder.join(name)).unwrap_or_default();
            let errors = records.iter().map(|record| record.test.top1_error);
            let best = errors.reduce(f64::min);
            let best = best.map_or(String::new(), |best| {
                format!(", smallest test error {:.2} %", 100.0 * best)
            });
            let time = duration(time.as_secs_f64());
            say(format_args!(
                "{over}/{all}   {name}   finished in {time}{best}"
            ));
        }
        Event::Stopped => say(format_args!("      {name}   saved and stopped")),
        Event::Failed(why) => complain(format_args!("failed: {name}: {why}")),
    }
}

#[derive(Default)]
struct Count {
    finished: usize,
    failed: usize,
}

impl Count {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Skipped | Event::Finished(_) => self.finished += 1,
            Event::Failed(_) => self.failed += 1,
            Event::Begun | Event::Resumed | Event::Stopped => {}
        }
    }

    fn over(&self) -> usize {
        self.finished + self.failed
    }

    fn summary(&self, all: usize, folder: &Path) -> String {
        let folder = shell_word(folder);
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let next = match self.finished {
            0 => String::new(),
            _ => format!(": `eqprop-cuda compare {folder}/*`"),
        };
        format!("{} of {all} finished{failed}{next}", self.finished)
    }
}
