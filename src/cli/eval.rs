//! `eqprop-cuda eval`

use super::{load_data, loader, use_threads};
use crate::data::DatasetName;
use crate::device::{Device, Precision};
use crate::network::Mode;
use crate::run::{
    Checkpoint, Evaluation, Learner, RunFolder, Settings, UsageError, evaluate, interrupt, say,
};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure a trained network on test images
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
    /// Use only the first N test images
    #[arg(long, value_name = "N", value_parser = crate::run::settings::count, allow_hyphen_values = true)]
    limit_test: Option<usize>,
    /// Images per batch
    #[arg(long, value_name = "N", value_parser = crate::run::settings::count, allow_hyphen_values = true)]
    batch_size: Option<usize>,
    /// Iterations of the free phase
    #[arg(long, value_name = "N", value_parser = crate::run::settings::count, allow_hyphen_values = true)]
    num_iterations_inference: Option<usize>,
    /// Order in which layers are updated
    #[arg(long)]
    mode: Option<Mode>,
    /// Over-relaxation, between 0 and 2
    #[arg(long, allow_hyphen_values = true, value_name = "X")]
    omega: Option<f64>,
    /// End the phase when the relative change of the states in an iteration falls below this
    #[arg(long, allow_hyphen_values = true, value_name = "X")]
    tolerance: Option<f64>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long)]
    device: Option<Device>,
    /// Arithmetic
    #[arg(long)]
    precision: Option<Precision>,
    /// Threads of the CPU
    #[arg(long, value_name = "N", value_parser = crate::run::settings::count, allow_hyphen_values = true)]
    threads: Option<usize>,
}

pub fn run(args: EvalArgs) -> Result<ExitCode> {
    let path = RunFolder::best_of(&args.checkpoint);
    let run = Checkpoint::load(&path)?;
    let given = Settings {
        dataset: args.dataset,
        data_dir: args.data_dir,
        offline: args.offline.then_some(true),
        mirror: args.mirror,
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
    let config = run.config.evaluated(&given, &run.network)?;
    let (network, dataset) = (&run.network, config.dataset);
    let input = network.input().shape;
    ensure!(
        (input.channels, network.classes()) == (dataset.channels(), dataset.classes()),
        UsageError(format!(
            "--dataset {dataset}: its images have {} channels and {} classes, but the network of {} has {} and {}",
            dataset.channels(),
            dataset.classes(),
            path.display(),
            input.channels,
            network.classes()
        ))
    );

    use_threads(&config)?;
    interrupt::install()?;
    let data = load_data(&config)?;
    let mut learner = Learner::new(&config, network)?;
    learner.set_learned(&run.learned)?;
    say(format_args!(
        "{}: {} after {} epochs of {}; {} test images of {dataset}; {}",
        path.display(),
        network.name(),
        run.position.epoch,
        run.config.dataset,
        data.test.len(),
        learner.describe()
    ));
    let loader = loader(&config, data.test, false);
    let evaluation = evaluate(
        &mut learner,
        &config,
        network,
        &loader,
        &interrupt::requested,
    )?;
    let Some(evaluation) = evaluation else {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    report(&evaluation, dataset);
    Ok(ExitCode::SUCCESS)
}

fn report(evaluation: &Evaluation, dataset: DatasetName) {
    let names = dataset.class_names();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    say(evaluation.tally.measures().columns());
    say(format_args!("\n{:<width$}   images   accuracy", "class"));
    for (name, &(images, correct)) in names.iter().zip(&evaluation.classes) {
        let accuracy = match images {
            0 => "-".to_string(),
            _ => format!("{:.2} %", 100.0 * correct as f64 / images as f64),
        };
        say(format_args!("{name:<width$}   {images:>6}   {accuracy:>8}"));
    }
}
