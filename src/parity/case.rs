//! The case of a golden file of a Hopfield network: network, parameters, batch, and how it relaxes.

use super::golden::{Golden, GoldenError};
use crate::network::presets::{self, PresetOptions};
use crate::network::{Activation, ActivationKind, Mode, Network, NetworkError, ParameterSet};
use crate::phase::{CostFunction, Variant};
use ndarray::Array4;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

type Result<T> = std::result::Result<T, GoldenError>;

/// More than anyone asks for: a guard against a damaged number that would run for days.
const MOST_ITERATIONS: usize = 100_000;

/// What a golden file of a Hopfield network was computed with.
pub struct Case {
    pub title: String,
    pub network: Network,
    pub parameters: ParameterSet<f64>,
    pub x: Array4<f32>,
    pub y: Vec<usize>,
    pub cost: CostFunction,
    pub beta: f64,
    pub mode: Mode,
    /// of the file's own estimate, in a kind that has one
    pub variant: Variant,
    pub free_iterations: usize,
    pub nudged_iterations: usize,
    /// the file exists to judge the direction of a small gradient
    pub is_precision: bool,
    /// over-relaxation of every phase; 1 unless stated
    pub omega: f64,
    pub momentum: Option<f64>,
    pub weight_decay: Option<f64>,
}

impl Case {
    pub fn read(golden: &Golden) -> Result<Self> {
        let kind = golden.text("kind")?;
        let network = network(golden)?;
        let parameters = parameters(golden, &network)?;
        let x = golden.images("x")?;
        let y = golden.labels("y")?;
        let iterations = |key| -> Result<usize> {
            let count = golden.setting(key)?;
            if count > MOST_ITERATIONS {
                return Err(metadata(
                    key,
                    format!("{count} is more than {MOST_ITERATIONS}"),
                ));
            }
            Ok(count)
        };
        if let Some(batch) = golden.optional::<usize>("batch")?
            && batch != x.dim().0
        {
            let message = format!("{batch}, but x holds {} images", x.dim().0);
            return Err(metadata("batch", message));
        }
        let (cost, beta): (CostFunction, f64) = (golden.setting("loss")?, golden.setting("beta")?);
        let purpose: Option<String> = golden.optional("purpose")?;
        let is_precision = match purpose.as_deref() {
            None => false,
            Some("precision") => true,
            Some(other) => {
                let message = format!("{other:?} is unknown; expected \"precision\"");
                return Err(metadata("purpose", message));
            }
        };
        // What follows is settled by tensors; its presence in the metadata is information for the reader.
        for key in ["lr", "distinct_lr", "weight_gains"] {
            golden.optional::<Value>(key)?;
        }
        Ok(Self {
            title: format!("{kind}, {}, beta {beta}", network.name()),
            network,
            parameters,
            x,
            y,
            cost,
            beta,
            mode: golden.setting("mode")?,
            variant: match &kind[..] {
                "ep" => golden.setting("variant")?,
                _ => Variant::Centered,
            },
            free_iterations: iterations("free_iterations")?,
            nudged_iterations: iterations("nudged_iterations")?,
            is_precision,
            omega: golden.optional("omega")?.unwrap_or(1.0),
            momentum: golden.optional("momentum")?,
            weight_decay: golden.optional("weight_decay")?,
        })
    }
}

fn network(golden: &Golden) -> Result<Network> {
    let activation: ActivationKind = golden.setting("activation")?;
    let options = PresetOptions {
        input_channels: golden.setting("num_inputs")?,
        classes: golden.setting("num_outputs")?,
        channels: golden.setting("channels")?,
        activation,
        gains: None,
    };
    // Only reluclip draws from it, and those values are replaced by the golden ones.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let network = presets::build(&golden.text("network")?, &options, &mut rng)?;
    if activation != ActivationKind::ReluClip {
        return Ok(network);
    }
    let clips = golden.vector("clip")?;
    if let Some(stated) = golden.optional::<Vec<f64>>("clip_values")?
        && stated != clips
    {
        return Err(metadata(
            "clip_values",
            format!("{stated:?}, but the tensor \"clip\" holds {clips:?}"),
        ));
    }
    let mut layers = network.layers().to_vec();
    let hidden = 1..network.output_index();
    if clips.len() != hidden.len() {
        return Err(GoldenError::Tensor {
            name: "clip".into(),
            message: format!("holds {} numbers; expected {}", clips.len(), hidden.len()),
        });
    }
    for (layer, clip) in layers[hidden].iter_mut().zip(clips) {
        layer.activation = Activation::relu_clip(clip);
    }
    Ok(Network::new(
        network.name(),
        layers,
        network.edges().to_vec(),
    )?)
}

/// `bias.l` and `weight.e`. Shapes are checked before anything of the network's size is allocated: a damaged number of
/// channels is an error, not an attempt to fill the memory.
fn parameters(golden: &Golden, network: &Network) -> Result<ParameterSet<f64>> {
    let biases = (network.free_layers()).map(|l| vec![network.layers()[l].shape.channels]);
    let weights = (0..network.edges().len()).map(|e| network.weight_shape(e));
    let mut tensors = Vec::new();
    for (name, expected) in network.parameter_names().iter().zip(biases.chain(weights)) {
        let shape = golden.shape(name)?;
        if shape != expected {
            return Err(NetworkError(format!(
                "{name} has shape {shape:?}, but the metadata's network expects {expected:?}"
            ))
            .into());
        }
        tensors.push(golden.floats(name)?);
    }
    Ok(ParameterSet::from_tensors(network, tensors)?)
}

fn metadata(key: &str, message: String) -> GoldenError {
    GoldenError::Metadata {
        key: key.to_string(),
        message,
    }
}
