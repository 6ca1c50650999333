//! `eqprop-cuda eval`

use super::progress::{Printer, ProgressArgs};
use super::runs;
use super::say;
use super::table::csv_line;
use crate::config::{Settings, Tolerance, UsageError};
use crate::data::{DatasetName, Shard};
use crate::device::{Device, Precision};
use crate::network::Mode;
use crate::run::{Checkpoint, Evaluation, evaluate, interrupt, replace_file};
use crate::run::{load_data, loader, threads};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure a trained network on test or training images
///
/// What is not given is as it was in training.
#[derive(Args)]
pub struct EvalArgs {
    /// A checkpoint, or the folder of a run (its best checkpoint)
    checkpoint: PathBuf,
    /// Dataset whose test images are used
    #[arg(long, ignore_case = true, value_name = "NAME")]
    dataset: Option<DatasetName>,
    /// Folder that holds the dataset, or that it is downloaded into
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Never download
    #[arg(long)]
    offline: bool,
    /// Download from URL/FILE instead of the published addresses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Images to measure on; training images are not augmented
    #[arg(long, value_name = "IMAGES", default_value = "test")]
    on: Images,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Print how often each class was taken for which
    #[arg(long)]
    confusion: bool,
    /// Write label and prediction of every image, as a table with commas
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Use only the first N training images (with --on train)
    #[arg(long, value_name = "N", value_parser = crate::config::count, allow_hyphen_values = true)]
    limit_train: Option<usize>,
    /// Use only the first N test images
    #[arg(long, value_name = "N", value_parser = crate::config::count, allow_hyphen_values = true)]
    limit_test: Option<usize>,
    /// Images per batch
    #[arg(long, value_name = "N", value_parser = crate::config::count, allow_hyphen_values = true)]
    batch_size: Option<usize>,
    /// Iterations of the free phase
    #[arg(long, value_name = "N", value_parser = crate::config::count, allow_hyphen_values = true)]
    num_iterations_inference: Option<usize>,
    /// Order in which layers are updated
    #[arg(long)]
    mode: Option<Mode>,
    /// Over-relaxation, between 0 and 2
    #[arg(long, allow_hyphen_values = true, value_name = "X")]
    omega: Option<f64>,
    /// End the phase when the relative change of the states in an iteration falls below this, or off
    #[arg(long, allow_hyphen_values = true, value_name = "X|off")]
    tolerance: Option<Tolerance>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long)]
    device: Option<Device>,
    /// Arithmetic
    #[arg(long)]
    precision: Option<Precision>,
    /// Threads of the CPU
    #[arg(long, value_name = "N", value_parser = crate::config::count, allow_hyphen_values = true)]
    threads: Option<usize>,
    #[command(flatten)]
    progress: ProgressArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Images {
    Test,
    Train,
}

impl Images {
    /// As they are called in a sentence.
    fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Train => "training",
        }
    }
}

pub fn run(args: EvalArgs) -> Result<ExitCode> {
    let path = runs::checkpoint_of(&args.checkpoint)?;
    let run = Checkpoint::load(&path)?;
    let given = Settings {
        dataset: args.dataset,
        data_dir: args.data_dir,
        offline: args.offline.then_some(true),
        mirror: args.mirror,
        limit_train: args.limit_train,
        limit_test: args.limit_test,
        batch_size: args.batch_size,
        num_iterations_inference: args.num_iterations_inference,
        mode: args.mode,
        omega: args.omega,
        tolerance: args.tolerance,
        device: args.device,
        precision: args.precision,
        threads: args.threads,
        ..Settings::default()
    };
    let mut config = runs::evaluated(&run, &given)?;
    let profile = config.profile()?;
    let (network, dataset) = (&run.network, config.dataset);
    let input = network.input().shape;
    ensure!(
        (input.channels, network.classes()) == (profile.channels, profile.classes.len()),
        UsageError(format!(
            "--dataset {dataset}: its images have {} channels and {} classes, but the network of {} has {} and {}",
            profile.channels,
            profile.classes.len(),
            path.display(),
            input.channels,
            network.classes()
        ))
    );

    threads::start(config.threads)?;
    let _watch = interrupt::watch("it stops after the batch")?;
    let data = load_data(&mut config, network)?;
    let images = match args.on {
        Images::Test => data.test,
        Images::Train => data.train,
    };
    let mut rule = config.rule(network, None)?;
    rule.set_state(&run.model)?;
    if !args.json {
        say(format_args!(
            "{}: {} after {} epochs of {}; {} {} images of {dataset}; {}",
            path.display(),
            network.name(),
            run.position.epoch,
            run.config.dataset,
            images.len(),
            args.on.name(),
            rule.describe()
        ));
    }
    let loader = loader(&config, images, false, Shard::WHOLE)?;
    let evaluation = evaluate(
        &mut *rule,
        &config,
        network,
        &loader,
        &mut Printer::new(args.progress.shown(), 0),
        &|| Ok(interrupt::requested()),
    )?;
    let Some(evaluation) = evaluation else {
        return Ok(ExitCode::from(interrupt::exit_code()));
    };
    let names = &profile.classes;
    if let Some(file) = &args.predictions {
        let text = predictions_csv(&evaluation, names);
        replace_file(file, text.as_bytes())?;
    }
    if args.json {
        let object = json!({
            "checkpoint": path.display().to_string(),
            "network": network.name(),
            "trained_on": run.config.dataset.to_string(),
            "epoch": run.position.epoch,
            "dataset": dataset.to_string(),
            "images": args.on.name(),
            "count": evaluation.predictions.len(),
            "measures": evaluation.tally.measures(),
            "classes": names,
            // by label, then by prediction
            "confusion": confusion(&evaluation),
        });
        say(serde_json::to_string_pretty(&object)?);
        return Ok(ExitCode::SUCCESS);
    }
    report(&evaluation, names);
    if args.confusion {
        say(confusion_table(&evaluation, names));
    }
    if let Some(file) = &args.predictions {
        say(format_args!("\n{}", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// How often images of each class (rows) were taken for each class (columns).
fn confusion(evaluation: &Evaluation) -> Vec<Vec<usize>> {
    let classes = evaluation.classes.len();
    let mut counts = vec![vec![0; classes]; classes];
    for &(label, prediction) in &evaluation.predictions {
        counts[label][prediction] += 1;
    }
    counts
}

fn confusion_table(evaluation: &Evaluation, names: &[impl AsRef<str>]) -> String {
    let width = names
        .iter()
        .map(|name| name.as_ref().len())
        .max()
        .unwrap_or(0);
    let heads: String = (0..names.len()).map(|c| format!("{c:>6}")).collect();
    let mut text = format!(
        "\n{:<width$}   predicted:\n{:<width$}      {heads}\n",
        "", "class"
    );
    for (c, (name, row)) in names.iter().zip(confusion(evaluation)).enumerate() {
        let cells: String = row.iter().map(|n| format!("{n:>6}")).collect();
        text += &format!("{:<width$} {c:>4} {cells}\n", name.as_ref());
    }
    text.trim_end().to_string()
}

fn predictions_csv(evaluation: &Evaluation, names: &[impl AsRef<str>]) -> String {
    let mut text = String::from("image,label,prediction,label_name,prediction_name\n");
    for (i, &(label, prediction)) in evaluation.predictions.iter().enumerate() {
        let (a, b) = (names[label].as_ref(), names[prediction].as_ref());
        text += &csv_line(&[
            &i.to_string(),
            &label.to_string(),
            &prediction.to_string(),
            a,
            b,
        ]);
    }
    text
}

fn report(evaluation: &Evaluation, names: &[impl AsRef<str>]) {
    let width = names
        .iter()
        .map(|name| name.as_ref().len())
        .max()
        .unwrap_or(0);
    say(evaluation.tally.measures().columns());
    say(format_args!("\n{:<width$}   images   accuracy", "class"));
    for (name, &(images, correct)) in names.iter().zip(&evaluation.classes) {
        let accuracy = match images {
            0 => "-".to_string(),
            _ => format!("{:.2} %", 100.0 * correct as f64 / images as f64),
        };
        let name = name.as_ref();
        say(format_args!("{name:<width$}   {images:>6}   {accuracy:>8}"));
    }
}
