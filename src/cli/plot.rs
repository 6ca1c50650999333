//! `eqprop-cuda plot`

use super::differences;
use super::figure::{FigureArgs, make};
use super::output::complain;
use super::runs::{self, Run, name_of};
use super::say;
use crate::config::count;
use crate::config::{Settings, UsageError};
use crate::cpu;
use crate::data::{Batch, Shard};
use crate::diagnose::{Iterations, RelaxationStudy, study_relaxation};
use crate::phase::Relaxation;
use crate::plot::{self, Curve, MOST_CURVES};
use crate::run::{Checkpoint, RunFolder, replace_file};
use crate::run::{load_data, loader, threads};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Draw learning curves, weight distributions and the relaxation of runs, as PNG, SVG and PDF
///
/// The relaxation is that of the first test images, computed on the CPU; a table of the iterations at which it reaches
/// tolerances is printed too.
#[derive(Args)]
pub struct PlotArgs {
    /// Folders of runs; or checkpoints, to draw their weights and relaxation instead of those of the best
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder for the pictures [default: plots in the run's folder; of several runs: plots]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Only these figures
    #[arg(long, value_delimiter = ',', value_name = "FIGURES")]
    only: Vec<Figures>,
    /// Draw the learning curves of runs that differ only in the seed as their mean, with a band from the least to the largest
    #[arg(long)]
    bands: bool,
    /// Iterations of the relaxation that are shown [default: twice those of the run]
    #[arg(long, value_name = "FREE+NUDGED", help_heading = "Relaxation")]
    iterations: Option<Iterations>,
    /// Test images that relax [default: 32, or the run's batch if that is smaller]
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true, help_heading = "Relaxation")]
    batch_size: Option<usize>,
    /// Where to compute: only cpu can be watched iteration by iteration
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = ["cpu"], hide_possible_values = true, help_heading = "Relaxation")]
    device: String,
    /// Arithmetic
    #[arg(long, default_value = "fp64", value_parser = ["fp32", "fp64"], help_heading = "Relaxation")]
    precision: String,
    /// Folder that holds the dataset, or that it is downloaded into
    #[arg(long, value_name = "DIR", help_heading = "Relaxation")]
    data_dir: Option<PathBuf>,
    /// Never download
    #[arg(long, help_heading = "Relaxation")]
    offline: bool,
    /// Download from URL/FILE instead of the published addresses
    #[arg(long, value_name = "URL", help_heading = "Relaxation")]
    mirror: Option<String>,
    /// Threads of the CPU
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true, help_heading = "Relaxation")]
    threads: Option<usize>,
    #[command(flatten)]
    figure: FigureArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figures {
    /// learning curves
    Curves,
    /// histograms of all tensors
    Weights,
    /// energy, change and residual by iteration
    Relaxation,
}

const DEFAULT_IMAGES: usize = 32;

/// A run, or a checkpoint, that was named on the command line.
struct Named {
    name: String,
    folder: PathBuf,
    checkpoint: PathBuf,
}

pub fn run(args: PlotArgs) -> Result<ExitCode> {
    let wants = |figures| args.only.is_empty() || args.only.contains(&figures);
    let runs = find_runs(&args.runs)?;
    let output = match (&args.output, &runs[..]) {
        (Some(folder), _) => folder.clone(),
        (None, [run]) => run.folder.join("plots"),
        (None, _) => "plots".into(),
    };
    let style = args.figure.style();
    let save = |figure: plot::Figure, name: &str| args.figure.save(&figure, &output, name);
    if wants(Figures::Curves) {
        let curves = learning_curves(&runs, args.bands)?;
        save(plot::learning_curves(&curves, &style)?, "learning_curve")?;
    }
    let mut threads_chosen = false;
    for run in &runs {
        // Of several runs each has pictures of its own name.
        let named = |figure: &str| match runs.len() {
            1 => figure.to_string(),
            _ => format!("{figure}-{}", run.name.replace(['/', '\\'], "-")),
        };
        if !wants(Figures::Weights) && !wants(Figures::Relaxation) {
            break;
        }
        let checkpoint = Checkpoint::load(&run.checkpoint)?;
        let epoch = checkpoint.position.epoch;
        let algorithm = checkpoint.config.algorithm.description();
        if wants(Figures::Weights) {
            let title = format!("Parameters of {} after epoch {epoch}", run.name);
            let figure = plot::weights(
                &title,
                &checkpoint.names()?.titles,
                &checkpoint.model.parameters,
                &style,
            )?;
            save(figure, &named("weights"))?;
        }
        if wants(Figures::Relaxation) && !algorithm.relaxes {
            ensure!(
                args.only.is_empty(),
                UsageError(format!(
                    "--only relaxation: {} is trained by {}; nothing relaxes",
                    run.name, algorithm.title
                ))
            );
        } else if wants(Figures::Relaxation) {
            let (study, images) = relax(&args, &checkpoint, &mut threads_chosen)?;
            let config = &checkpoint.config;
            let title = format!(
                "Relaxation of {images} test images: {} after epoch {epoch}, {}, ω = {}",
                run.name, config.mode, config.omega
            );
            save(
                plot::relaxation(&title, &study, &style)?,
                &named("relaxation"),
            )?;
            make(&output)?;
            let path = output.join(format!("{}.csv", named("relaxation")));
            replace_file(&path, study.csv().as_bytes())?;
            say(path.display());
            say(format_args!(
                "\n{}: {images} test images, iterations until the",
                run.name
            ));
            say(study.tables());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn find_runs(paths: &[PathBuf]) -> Result<Vec<Named>> {
    let mut runs: Vec<Named> = Vec::new();
    for path in paths {
        let mut run = find_run(path)?;
        ensure!(
            runs.iter().all(|other| other.checkpoint != run.checkpoint),
            UsageError(format!("{} is named twice", path.display()))
        );
        if runs.iter().any(|other| other.name == run.name) {
            run.name = path.display().to_string();
        }
        runs.push(run);
    }
    Ok(runs)
}

fn find_run(path: &Path) -> Result<Named> {
    let checkpoint = RunFolder::best_of(path);
    ensure!(
        path.is_file() || RunFolder::check_is_one(path).is_ok(),
        runs::no_run(path)
    );
    let folder = if path.is_dir() {
        RunFolder::check_is_one(path)?;
        path.to_path_buf()
    } else {
        RunFolder::find(path)?.0
    };
    // A path can be written in many ways.
    let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    Ok(Named {
        name: name_of(&folder),
        folder,
        checkpoint: absolute(&checkpoint),
    })
}

/// The curves of the runs, each with what tells it from the others; with `bands`, those of other seeds together.
fn learning_curves(named: &[Named], bands: bool) -> Result<Vec<Curve>> {
    let read = |named: &Named| {
        let run = Run::read(&named.folder)?;
        ensure!(
            !run.records.is_empty(),
            "{} has no learning curve yet: its first epoch is not over; wait, or ask with --only for other figures",
            named.folder.display()
        );
        Ok(Run {
            name: named.name.clone(),
            ..run
        })
    };
    let all = named.iter().map(read).collect::<Result<Vec<Run>>>()?;
    let groups = match bands {
        true => runs::groups(all),
        false => all.into_iter().map(|run| vec![run]).collect(),
    };
    ensure!(
        groups.len() <= MOST_CURVES,
        UsageError(format!(
            "{} curves in one picture cannot be told apart; name at most {MOST_CURVES} runs{}",
            groups.len(),
            if bands {
                " that differ in more than the seed"
            } else {
                ", or draw seeds together with --bands"
            }
        ))
    );
    let firsts: Vec<&Run> = groups.iter().map(|group| &group[0]).collect();
    let unshown = differences::unshown(&firsts);
    if !unshown.is_empty() {
        complain(format_args!(
            "note: the legend has no room for all that differs: the runs have other values of {}, too",
            unshown.join(", ")
        ));
    }
    Ok(differences::curves(groups))
}

/// Relaxes the first test images as the run would, for more iterations.
fn relax(
    args: &PlotArgs,
    run: &Checkpoint,
    threads_chosen: &mut bool,
) -> Result<(RelaxationStudy, usize)> {
    let images = args
        .batch_size
        .unwrap_or(run.config.batch_size.min(DEFAULT_IMAGES));
    let given = Settings {
        data_dir: args.data_dir.clone(),
        offline: args.offline.then_some(true),
        mirror: args.mirror.clone(),
        batch_size: Some(images),
        threads: args.threads,
        ..Settings::default()
    };
    let config = runs::evaluated(run, &given)?;
    // There is one pool of threads for the whole process.
    if !std::mem::replace(threads_chosen, true) {
        threads::start(config.threads)?;
    }
    let used = (
        config.num_iterations_inference,
        config.num_iterations_training,
    );
    let (free, nudged) = match args.iterations {
        None => (2 * used.0, 2 * used.1),
        Some(Iterations::Count { free, nudged }) => (free, nudged),
        Some(Iterations::Converged) => {
            bail!(UsageError(
                "--iterations converged: expected FREE+NUDGED, such as 240+100".into()
            ))
        }
    };
    let longer = |relaxation: Relaxation, iterations| Relaxation {
        iterations,
        ..relaxation
    };
    let batch = first_batch(&config, &run.network)?;
    let mut backend = match &args.precision[..] {
        "fp32" => cpu::tracing_backend::<f32>(&run.network),
        _ => cpu::tracing_backend::<f64>(&run.network),
    };
    let study = study_relaxation(
        &run.network,
        &mut *backend,
        &run.model.parameters,
        &batch,
        (
            &longer(config.free_relaxation(), free),
            &longer(config.nudged_relaxation(), nudged),
        ),
        (&config.rule_settings().nudging(), config.lossfn),
        used,
    )?;
    Ok((study, batch.len()))
}

fn first_batch(config: &crate::config::Config, network: &crate::network::Network) -> Result<Batch> {
    let mut config = config.clone();
    let data = load_data(&mut config, network)?;
    let batch = loader(&config, data.test, false, Shard::WHOLE)?
        .epoch(0, 0)
        .next();
    batch.context("the dataset has no test images")
}
