//! `eqprop-cuda import`

use super::say;
use crate::config::is_network_file;
use crate::config::{Algorithm, Config, Settings, UsageError};
use crate::learn::SavedAs;
use crate::network::{ActivationKind, ModelState};
use crate::run::{Checkpoint, RunFolder};
use crate::torch::{self, Tensors};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ndarray::ArrayD;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a run folder of the published program's model.pt
///
/// Of a feed-forward baseline's state_dict (Resnet13_cifar10wbn.pth) too.
/// The folder is as if a run had just begun with these parameters: `eval` measures it, `train --resume` trains it further. Network and
/// widths are taken from the file; everything else that is not given has the default of `train`.
#[derive(Args)]
pub struct ImportArgs {
    /// What torch.save wrote: a list of tensors (biases, then weights), or the state_dict of a baseline
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
    let name = args.file.display().to_string();
    let tensors = torch::read(&args.file)?;
    if let Some((network, channels)) = recognise(&tensors)
        && settings.network.is_none()
    {
        settings.network = Some(network.to_string());
        settings.channels = settings.channels.or(Some(channels));
    }
    if let Tensors::Named(_) = tensors {
        let saved_so = |a: &&Algorithm| a.description().saved_as == SavedAs::Dictionary;
        let usual = Algorithm::ALL.iter().find(saved_so).map(|a| (*a).into());
        settings.algorithm = settings.algorithm.or(usual);
    }
    let file = args.config.as_deref().map(Settings::read).transpose()?;
    let (config, network) = Config::resolve(args.preset.as_deref(), file, &settings)?;
    let mut run = Checkpoint::fresh(config, network)?;
    let algorithm = run.config.algorithm;
    run.model = match (tensors, algorithm.description().saved_as) {
        (Tensors::List(tensors), SavedAs::List) => of_list(tensors, &run, &name),
        (Tensors::Named(tensors), SavedAs::Dictionary) => of_dictionary(tensors, &run, &name),
        (Tensors::List(_), SavedAs::Dictionary) => bail!(
            "{name} is a list of tensors, as the published program saves a Hopfield network; leave out --algorithm {algorithm}"
        ),
        (Tensors::Named(_), SavedAs::List) => bail!(
            "{name} is a dictionary of named tensors, as the published program saves a feed-forward network; a Hopfield network is a \
             list; leave out --algorithm {algorithm}"
        ),
    }
    .with_context(|| {
        format!(
            "{name} does not fit --network {} on --dataset {}",
            run.config.network, run.config.dataset
        )
    })?;
    let names = run.names()?;
    let parameters = names.parameters.iter().zip(run.model.parameters.tensors());
    let statistics = names.statistics.iter().zip(&run.model.statistics);
    for (tensor, values) in parameters.chain(statistics) {
        ensure!(
            values.iter().all(|v| v.is_finite()),
            "{name}: {tensor} holds values that are not finite, so there is nothing to go on with"
        );
    }
    let folder = RunFolder::create(Some(&args.output), &run.config)?;
    folder.save_config(&run.config, &run.network)?;
    folder.save_last(&run.encode()?)?;
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

/// Biases, then weights.
fn of_list(tensors: Vec<ArrayD<f64>>, run: &Checkpoint, name: &str) -> Result<ModelState> {
    ensure!(
        run.config.activation != ActivationKind::ReluClip || is_network_file(&run.config.network),
        UsageError(format!(
            "--activation reluclip: {name} does not hold the maxima at which its layers are clipped, which were drawn at random; \
             describe the network with them in a .toml file and give it with --network"
        ))
    );
    let learning = run.config.algorithm.learning();
    Ok(learning.state(&run.network, tensors, Vec::new())?)
}

/// Tensors of a `state_dict`, all of them and no others.
fn of_dictionary(
    tensors: Vec<(String, ArrayD<f64>)>,
    run: &Checkpoint,
    file: &str,
) -> Result<ModelState> {
    let known = run.names()?;
    let mut tensors: HashMap<String, ArrayD<f64>> = tensors.into_iter().collect();
    let mut take = |names: &[String]| -> Result<Vec<ArrayD<f64>>> {
        let take = |name: &String| {
            (tensors.remove(name)).with_context(|| format!("{file} has no tensor {name}"))
        };
        names.iter().map(take).collect()
    };
    let parameters = take(&known.parameters)?;
    let statistics = take(&known.statistics)?;
    if let Some(name) = tensors.keys().min() {
        bail!("{file} holds {name}, which the network does not have");
    }
    let learning = run.config.algorithm.learning();
    Ok(learning.state(&run.network, parameters, statistics)?)
}

/// The published network that such tensors belong to, and its widths.
fn recognise(tensors: &Tensors) -> Option<(&'static str, Vec<usize>)> {
    match tensors {
        // Biases of 9 or 5 layers, then 13 or 5 weights; the layers whose widths are the network's.
        Tensors::List(tensors) => {
            let (network, layers) = match tensors.len() {
                22 => ("hopfieldresnet13", [0, 2, 4, 6]),
                10 => ("vgg5", [0, 1, 2, 3]),
                _ => return None,
            };
            Some((network, layers.map(|l| tensors[l].len()).to_vec()))
        }
        Tensors::Named(tensors) => {
            let width = |name: String| {
                let (_, tensor) = tensors.iter().find(|(known, _)| *known == name)?;
                Some(tensor.len())
            };
            let resnet13 = ["0_1", "2_3", "4_5", "6_7"].map(|m| format!("layers.{m}.1.bias"));
            let vgg5 = [0, 2, 4, 6].map(|m| format!("features.{m}.1.bias"));
            let found = |names: [String; 4]| names.into_iter().map(width).collect::<Option<_>>();
            let resnet13 = found(resnet13).map(|widths| ("resnet13", widths));
            resnet13.or_else(|| found(vgg5).map(|widths| ("vgg5", widths)))
        }
    }
}
