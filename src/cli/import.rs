//! `eqprop-cuda import`

use crate::network::ParameterSet;
use crate::network::presets::ActivationKind;
use crate::torch::{self, Tensors};
use crate::train::settings::is_network_file;
use crate::train::{Checkpoint, Config, RunFolder, Settings, UsageError, say};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use ndarray::ArrayD;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a run folder of the published program's model.pt
///
/// The folder is as if a run had just begun with these parameters: `eval` measures it, `train --resume` trains it further. Network and
/// widths are taken from the file; everything else that is not given has the default of `train`.
#[derive(Args)]
pub struct ImportArgs {
    /// A list of tensors that torch.save wrote: biases, then weights
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

    #[command(flatten)]
    settings: Settings,
}

pub fn run(args: ImportArgs) -> Result<ExitCode> {
    let mut settings = args.settings;
    RunFolder::check_unused(&args.output)?;
    let name = args.file.display();
    let tensors = match torch::read(&args.file)? {
        Tensors::List(tensors) => tensors,
        Tensors::Named(tensors) => bail!(
            "{name} is a dictionary of {} named tensors; a list was expected, as the published program saves a Hopfield network",
            tensors.len()
        ),
    };
    if settings.network.is_none()
        && let Some((network, channels)) = recognise(&tensors)
    {
        settings.network = Some(network.to_string());
        settings.channels = settings.channels.or(Some(channels));
    }
    let file = args.config.as_deref().map(Settings::read).transpose()?;
    let (config, network) = Config::resolve(args.preset.as_deref(), file, &settings)?;
    ensure!(
        config.activation != ActivationKind::ReluClip || is_network_file(&config.network),
        UsageError(format!(
            "--activation reluclip: {name} does not hold the maxima at which its layers are clipped, which were drawn at random; \
             describe the network with them in a .toml file and give it with --network"
        ))
    );
    let mut run = Checkpoint::fresh(config, network);
    run.parameters = ParameterSet::from_tensors(&run.network, tensors).with_context(|| {
        format!(
            "{name} does not fit --network {} on --dataset {}",
            run.config.network, run.config.dataset
        )
    })?;
    let names = run.network.parameter_names().into_iter();
    for (parameter, tensor) in names.zip(run.parameters.tensors()) {
        ensure!(
            tensor.iter().all(|v| v.is_finite()),
            "{name}: {parameter} holds values that are not finite, so there is nothing to go on with"
        );
    }
    let folder = RunFolder::create(Some(&args.output), &run.config)?;
    folder.save_config(&run.config, &run.network)?;
    folder.save_last(&run)?;
    let activation = run.config.activation.to_possible_value();
    say(format_args!(
        "{}: {} for {} with activation {}, {} parameter tensors",
        folder.path().display(),
        run.network.name(),
        run.config.dataset,
        activation.as_ref().map_or("?", |value| value.get_name()),
        run.parameters.tensors().len()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The published network that such tensors belong to, and its widths.
fn recognise(tensors: &[ArrayD<f64>]) -> Option<(&'static str, Vec<usize>)> {
    // Biases of 9 or 5 layers, then 13 or 5 weights; the layers whose widths are the network's.
    let (network, layers) = match tensors.len() {
        22 => ("hopfieldresnet13", [0, 2, 4, 6]),
        10 => ("vgg5", [0, 1, 2, 3]),
        _ => return None,
    };
    Some((network, layers.map(|l| tensors[l].len()).to_vec()))
}
