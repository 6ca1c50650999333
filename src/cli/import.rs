//! `eqprop-cuda import`

use super::parameters::Known;
use super::say;
use crate::config::{Config, Settings, UsageError};
use crate::run::{Checkpoint, RunFolder};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a run folder of the published program's model.pt
///
/// Of a feed-forward baseline's state_dict (Resnet13_cifar10wbn.pth), a dictionary that has either under `model` or `state_dict`, and a
/// whole network (model_full.pkl, a pickled module) too.
/// The folder is as if a run had just begun with these parameters: `eval` measures it, `train --resume` trains it further. Network and
/// widths are taken from the file; everything else that is not given has the default of `train`.
#[derive(Args)]
pub struct ImportArgs {
    /// What torch.save wrote: a list of tensors (biases, then weights), the state_dict of a baseline, or a whole network
    file: PathBuf,
    /// Folder to make
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    output: PathBuf,
    /// Settings that belong together (see `train --help`); other options modify them
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    preset: Option<String>,
    /// A file with the same keys as these options
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// Of --activation reluclip: the maxima of the hidden layers, from the input on, where the file does not say them
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Run")]
    clips: Option<Vec<f64>>,

    #[command(flatten)]
    settings: Settings,
}

pub fn run(args: ImportArgs) -> Result<ExitCode> {
    let mut settings = args.settings;
    RunFolder::check_unused(&args.output)?;
    for clip in args.clips.iter().flatten() {
        ensure!(
            clip.is_finite() && *clip > 0.0,
            UsageError(format!("--clips {clip}: expected positive numbers"))
        );
    }
    let known = Known::of_pytorch(&args.file)?;
    match settings.network {
        None => known.complete(&mut settings),
        Some(_) => known.complete_algorithm(&mut settings),
    }
    let file = args.config.as_deref().map(Settings::read).transpose()?;
    let (config, network) = Config::resolve(args.preset.as_deref(), file, &settings)?;
    let mut run = Checkpoint::fresh(config, network)?;
    known.give(&mut run, args.clips.as_deref())?;
    let folder = RunFolder::create(Some(&args.output), &run.config)?;
    folder.save_config(&run.config, &run.network)?;
    folder.save_last(&run.encode()?)?;
    let algorithm = run.config.algorithm;
    let activation = match algorithm.description().foreign.contains(&"activation") {
        true => String::new(),
        false => format!(" with activation {}", run.config.activation.name()),
    };
    say(format_args!(
        "{}: {} for {}{activation}, {} parameter tensors",
        folder.path().display(),
        run.network.name(),
        run.config.dataset,
        run.model.parameters.tensors().len()
    ));
    Ok(ExitCode::SUCCESS)
}
