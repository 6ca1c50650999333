//! Parameters that were learnt elsewhere, for `import` and `train --init-from`: those of a run or a checkpoint, or a file of PyTorch.

use crate::config::{Algorithm, Settings, UsageError, is_network_file};
use crate::learn::SavedAs;
use crate::network::{Activation, ActivationKind, Layer, ModelState, Network};
use crate::run::{Checkpoint, RunFolder};
use crate::torch::{self, Saved, Tensors};
use anyhow::{Context, Result, bail, ensure};
use ndarray::ArrayD;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Where parameters come from.
pub struct Known {
    /// the file, for messages
    name: String,
    what: What,
}

enum What {
    Checkpoint(Box<Checkpoint>),
    Saved(Saved),
}

/// A safetensors file starts with the length of its header, which has no such bytes.
const OF_PYTORCH: [&[u8]; 2] = [b"PK\x03\x04", b"\x80"];

impl Known {
    /// Reads a file of PyTorch.
    ///
    /// # Errors
    /// When it is none, or damaged.
    pub fn of_pytorch(path: &Path) -> Result<Self> {
        Ok(Self {
            name: path.display().to_string(),
            what: What::Saved(torch::read(path)?),
        })
    }

    /// Reads a file of PyTorch, or a checkpoint; `path` is the file.
    ///
    /// # Errors
    /// When it is neither, or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let mut start = Vec::new();
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        file.take(4).read_to_end(&mut start)?;
        let ends = path.extension().is_some_and(|e| e == "safetensors");
        if !ends && OF_PYTORCH.iter().any(|known| start.starts_with(known)) {
            return Self::of_pytorch(path);
        }
        Ok(Self {
            name: path.display().to_string(),
            what: What::Checkpoint(Box::new(Checkpoint::load(path)?)),
        })
    }

    /// Fills in what follows for settings of the network where nobody chose it.
    pub fn complete(&self, settings: &mut Settings) {
        match &self.what {
            What::Checkpoint(run) => {
                let network = &run.config.network;
                // The file that the run was begun with may be gone, or another by now.
                let kept = match is_network_file(network) {
                    true => RunFolder::network_beside(Path::new(&self.name)),
                    false => None,
                };
                let kept = kept.map(|path| path.display().to_string());
                settings.network = kept.or_else(|| Some(network.clone()));
                settings.channels = settings.channels.take().or(run.config.channels.clone());
                (settings.activation).get_or_insert(run.config.activation);
                (settings.algorithm).get_or_insert(run.config.algorithm.into());
            }
            What::Saved(saved) => {
                if let Some((network, channels)) = recognise(&saved.tensors) {
                    settings.network = Some(network.to_string());
                    settings.channels = settings.channels.take().or(Some(channels));
                }
                self.complete_algorithm(settings);
            }
        }
    }

    /// The same of the algorithm and the activation alone.
    pub fn complete_algorithm(&self, settings: &mut Settings) {
        let What::Saved(saved) = &self.what else {
            return;
        };
        if let Tensors::Named(tensors) = &saved.tensors
            && as_list(tensors).is_none()
        {
            let saved_so = |a: &&Algorithm| a.description().saved_as == SavedAs::Dictionary;
            let usual = Algorithm::ALL.iter().find(saved_so).map(|a| (*a).into());
            settings.algorithm = settings.algorithm.take().or(usual);
        }
        if saved.clips.is_some() {
            (settings.activation).get_or_insert(ActivationKind::ReluClip);
        }
    }

    /// Puts them into a run that has not begun. `clips` are the maxima of its `reluclip` layers, where they were given.
    ///
    /// # Errors
    /// When a name or a shape does not fit, or a value is not finite.
    pub fn give(self, run: &mut Checkpoint, clips: Option<&[f64]>) -> Result<()> {
        let name = self.name;
        let fits = format!(
            "{name} does not fit --network {} on --dataset {}",
            run.config.network, run.config.dataset
        );
        match self.what {
            What::Checkpoint(known) => {
                run.model = of_checkpoint(&known, run, &name).context(fits)?;
                run.network = with_activations(&run.network, known.network.layers());
            }
            What::Saved(saved) => {
                let clips = clips.or(saved.clips.as_deref());
                run.model = of_saved(saved.tensors, run, clips, &name).context(fits)?;
                if let Some(clips) = clips {
                    run.network = with_clips(&run.network, clips)?;
                }
            }
        }
        let names = run.names()?;
        let parameters = names.parameters.iter().zip(run.model.parameters.tensors());
        let statistics = names.statistics.iter().zip(&run.model.statistics);
        for (tensor, values) in parameters.chain(statistics) {
            ensure!(
                values.iter().all(|v| v.is_finite()),
                "{name}: {tensor} holds values that are not finite, so there is nothing to go on with"
            );
        }
        Ok(())
    }
}

/// The tensors of another run, which must have the same names and shapes.
fn of_checkpoint(known: &Checkpoint, run: &Checkpoint, file: &str) -> Result<ModelState> {
    let names = known.names()?;
    let named = |names: Vec<String>, tensors: &[ArrayD<f64>]| -> Vec<_> {
        names.into_iter().zip(tensors.iter().cloned()).collect()
    };
    let mut tensors = named(names.parameters, known.model.parameters.tensors());
    tensors.extend(named(names.statistics, &known.model.statistics));
    of_dictionary(tensors, run, file)
}

fn of_saved(
    tensors: Tensors,
    run: &Checkpoint,
    clips: Option<&[f64]>,
    name: &str,
) -> Result<ModelState> {
    let algorithm = run.config.algorithm;
    let tensors = match tensors {
        Tensors::Named(named) => match as_list(&named) {
            Some(list) => Tensors::List(list),
            None => Tensors::Named(named),
        },
        list => list,
    };
    match (tensors, algorithm.description().saved_as) {
        (Tensors::List(tensors), SavedAs::List) => of_list(tensors, run, clips, name),
        (Tensors::Named(tensors), SavedAs::Dictionary) => of_dictionary(tensors, run, name),
        (Tensors::List(_), SavedAs::Dictionary) => bail!(
            "{name} is a list of tensors, as the published program saves a Hopfield network; leave out --algorithm {algorithm}"
        ),
        (Tensors::Named(_), SavedAs::List) => bail!(
            "{name} is a dictionary of named tensors, as the published program saves a feed-forward network; a Hopfield network is a \
             list; leave out --algorithm {algorithm}"
        ),
    }
}

/// Biases, then weights.
fn of_list(
    mut tensors: Vec<ArrayD<f64>>,
    run: &Checkpoint,
    clips: Option<&[f64]>,
    name: &str,
) -> Result<ModelState> {
    let is_drawn =
        run.config.activation == ActivationKind::ReluClip && !is_network_file(&run.config.network);
    ensure!(
        !is_drawn || clips.is_some(),
        UsageError(format!(
            "--activation reluclip: {name} does not hold the maxima at which its layers are clipped, which were drawn at random; \
             give them with --clips, or describe the network with them in a .toml file and give it with --network"
        ))
    );
    // A weight between flat layers is a matrix there, and here has axes of one pixel.
    let expected = run.model.parameters.tensors();
    for (tensor, expected) in tensors.iter_mut().zip(expected) {
        let long = |shape: &[usize]| shape.iter().copied().filter(|&n| n > 1).collect::<Vec<_>>();
        if tensor.ndim() < expected.ndim() && long(tensor.shape()) == long(expected.shape()) {
            let values = std::mem::take(tensor).into_iter().collect();
            *tensor = ArrayD::from_shape_vec(expected.raw_dim(), values)?;
        }
    }
    let learning = run.config.algorithm.learning();
    Ok(learning.state(&run.network, tensors, Vec::new())?)
}

/// Tensors by name, all of them and no others.
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

/// Tensors with the names of an export, biases first and each kind in the order of its numbers; `None` if others are among them.
fn as_list(tensors: &[(String, ArrayD<f64>)]) -> Option<Vec<ArrayD<f64>>> {
    let place = |name: &str| {
        let (kind, number) = name.split_once('.')?;
        let kind = ["bias", "weight"].iter().position(|known| *known == kind)?;
        Some((kind, number.parse::<usize>().ok()?))
    };
    let placed = tensors.iter().map(|(name, t)| Some((place(name)?, t)));
    let mut placed: Vec<_> = placed.collect::<Option<_>>()?;
    placed.sort_by_key(|(place, _)| *place);
    Some(
        placed
            .into_iter()
            .map(|(_, tensor)| tensor.clone())
            .collect(),
    )
}

/// The same network with the bounds of these layers, where it has layers of such names with the same activation.
fn with_activations(network: &Network, known: &[Layer]) -> Network {
    let like = |layer: &Layer| {
        let mut layer = layer.clone();
        let same = known.iter().find(|other| other.name == layer.name);
        if let Some(other) = same
            && other.activation.kind() == layer.activation.kind()
        {
            layer.activation = other.activation;
        }
        layer
    };
    let layers = network.layers().iter().map(like).collect();
    let again = Network::new(network.name(), layers, network.edges().to_vec());
    again.unwrap_or_else(|_| network.clone())
}

/// The same network with these maxima for its `reluclip` layers.
fn with_clips(network: &Network, clips: &[f64]) -> Result<Network> {
    let clipped = |layer: &&Layer| layer.activation.kind() == ActivationKind::ReluClip;
    let count = network.layers().iter().filter(clipped).count();
    ensure!(
        count == clips.len(),
        UsageError(format!(
            "--clips: {} maxima, but {} has {count} layers of reluclip",
            clips.len(),
            network.name()
        ))
    );
    let mut clips = clips.iter();
    let mut layers = network.layers().to_vec();
    for layer in layers.iter_mut().filter(|layer| clipped(&&**layer)) {
        let clip = *clips.next().context("they were counted")?;
        let activation = Activation::new(ActivationKind::ReluClip, Some(clip));
        layer.activation = activation.context("a maximum of reluclip")?;
    }
    Ok(Network::new(
        network.name(),
        layers,
        network.edges().to_vec(),
    )?)
}

/// The published network that such tensors belong to, and its widths.
fn recognise(tensors: &Tensors) -> Option<(&'static str, Vec<usize>)> {
    match tensors {
        Tensors::List(tensors) => recognise_list(tensors),
        Tensors::Named(tensors) => {
            if let Some(list) = as_list(tensors) {
                return recognise_list(&list);
            }
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

/// Of biases, then weights: by their number, and by the side of the first kernel where that leaves a choice. The biases of some of the
/// layers have the network's widths.
fn recognise_list(tensors: &[ArrayD<f64>]) -> Option<(&'static str, Vec<usize>)> {
    let kernel = |weight: usize| tensors.get(weight).map_or(0, |w| w.shape()[w.ndim() - 1]);
    let (network, layers): (_, &[usize]) = match tensors.len() {
        // Biases of 9 or 5 layers, then 13 or 5 weights.
        22 => ("hopfieldresnet13", &[0, 2, 4, 6]),
        10 => ("vgg5", &[0, 1, 2, 3]),
        4 => ("dhn-1h", &[0]),
        6 if kernel(3) == 5 => ("dchn28", &[0, 1]),
        6 => ("dhn-2h", &[0, 1]),
        8 => ("dhn-3h", &[0, 1, 2]),
        _ => return None,
    };
    Some((network, layers.iter().map(|&l| tensors[l].len()).collect()))
}
