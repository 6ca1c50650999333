//! A training run at one moment, and the file that keeps it.
//!
//! The file is in the safetensors format: parameters as `bias.l` and `weight.e` (of a feed-forward network by the names that
//! PyTorch gives them, with the running statistics), the optimizer's moments as `optimizer.k.bias.l` .., and, in the middle of an epoch,
//! the states that the next batch starts from as `state.l`; in F32 or F64 as the run computes. Everything else is JSON under the metadata
//! key `eqprop-cuda` ([`State`]), together with an MD5 checksum over all of it. There is no random state to keep: every random draw of a
//! run is a function of the seed, the epoch and the example's index.

use super::atomic;
use super::metrics::Tally;
use crate::config::Config;
use crate::device::Precision;
use crate::error::{Context, Error, Result, bail, ensure};
use crate::learn::TensorNames;
use crate::network::{ModelState, Network, NetworkDescription, ParameterSet};
use crate::optim::OptimizerState;
use crate::shown::complaint;
use md5::{Digest, Md5};
use ndarray::ArrayD;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const FORMAT: u32 = 1;
const KEY: &str = "eqprop-cuda";
/// Bytes before the tensors, as the format limits them.
const LONGEST_HEADER: u64 = 100_000_000;

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// epochs that are over; the learning rates' schedule stands here too
    pub epoch: usize,
    /// training batches of the present epoch that are over
    pub batch: usize,
}

/// The epoch with the smallest test error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// from 1
    pub epoch: usize,
    /// a fraction
    pub top1_error: f64,
}

/// A training run at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// what was asked for
    pub config: Config,
    /// with all its sizes
    pub network: Network,
    /// epochs and batches that are done
    pub position: Position,
    /// sums over the present epoch; `None` at its start
    pub tally: Option<Tally>,
    /// so far; `None` before the first epoch has ended
    pub best: Option<Best>,
    /// training images per epoch, to notice a dataset that changed; `None` before the first
    pub examples: Option<usize>,
    /// parameters and running statistics
    pub model: ModelState,
    /// what it remembers
    pub optimizer: OptimizerState,
    /// one per layer above the input; `None` at the start of an epoch
    pub kept_state: Option<Vec<ArrayD<f64>>>,
}

/// What a checkpoint file holds besides tensors.
#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    program: String,
    /// of the tensors and of this object with an empty checksum
    checksum: String,
    config: Config,
    network: NetworkDescription,
    position: Position,
    tally: Option<Tally>,
    best: Option<Best>,
    examples: Option<usize>,
    optimizer_steps: u64,
    optimizer_moments: usize,
    has_state: bool,
}

impl Checkpoint {
    /// A run that has not begun.
    ///
    /// # Errors
    /// When the algorithm does not train such a network.
    pub fn fresh(config: Config, network: Network) -> Result<Self> {
        Ok(Self {
            model: config.algorithm.learning().initial(&network, config.seed)?,
            config,
            network,
            position: Position::default(),
            tally: None,
            best: None,
            examples: None,
            optimizer: OptimizerState::default(),
            kept_state: None,
        })
    }

    /// Learning rates during the present epoch, one per trained tensor.
    pub fn learning_rates(&self) -> Vec<f64> {
        let rates = self.config.learning_rates(self.position.epoch);
        match rates[..] {
            [rate] => vec![rate; self.model.parameters.tensors().len()],
            _ => rates,
        }
    }

    /// What the tensors are called.
    ///
    /// # Errors
    /// When the algorithm does not train such a network.
    pub fn names(&self) -> Result<TensorNames> {
        Ok(self.config.algorithm.learning().names(&self.network)?)
    }

    /// Notes the size of the training set; an error when the run was started with another.
    ///
    /// # Errors
    /// When it was another one.
    pub fn set_examples(&mut self, examples: usize) -> Result<()> {
        let before = *self.examples.get_or_insert(examples);
        ensure!(
            File,
            before == examples,
            "the run was started with {before} training images, but {} has {examples} now; restore the dataset",
            self.config.dataset
        );
        Ok(())
    }

    /// Replaces the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        atomic::replace(path, &self.encode()?)
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// When a tensor cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let tensors = self.encode_tensors()?;
        let mut state = State {
            format: FORMAT,
            program: format!("eqprop-cuda {}", env!("CARGO_PKG_VERSION")),
            checksum: String::new(),
            config: self.config.clone(),
            network: NetworkDescription::of(&self.network),
            position: self.position,
            tally: self.tally.clone(),
            best: self.best,
            examples: self.examples,
            optimizer_steps: self.optimizer.steps,
            optimizer_moments: self.optimizer.moments.len(),
            has_state: self.kept_state.is_some(),
        };
        let views: Vec<(&str, TensorView)> = tensors
            .iter()
            .map(|t| (t.name.as_str(), t.view()))
            .collect();
        state.checksum = checksum(&views, &mut state)?;
        // One key only: with more, their order in the file would be another in each run.
        let metadata = HashMap::from([(KEY.to_string(), serde_json::to_string(&state)?)]);
        safetensors::serialize(views, Some(metadata))
            .map_err(|error| Error::File(format!("cannot encode a checkpoint: {error}")))
    }

    /// Reads and checks a file. The error is one line that names it.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged, or of a later version.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| {
            Error::File(format!(
                "cannot read the checkpoint {}: {e}",
                path.display()
            ))
        })?;
        Self::decode(&bytes).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// What a file says of its run, without the tensors: neither they nor its checksum are read.
    ///
    /// # Errors
    /// When it is no checkpoint.
    pub fn outline(path: &Path) -> Result<(Config, Position)> {
        let state = || -> Result<State> {
            let mut file = File::open(path)?;
            let mut length = [0; 8];
            file.read_exact(&mut length)?;
            let length = u64::from_le_bytes(length);
            ensure!(
                File,
                length <= LONGEST_HEADER,
                "its header is of {length} bytes"
            );
            let mut header = Vec::new();
            file.take(length).read_to_end(&mut header)?;
            let header: serde_json::Value = serde_json::from_slice(&header)?;
            let json = header["__metadata__"][KEY].as_str();
            let none = || Error::File("it is no checkpoint of eqprop-cuda".into());
            Ok(serde_json::from_str(json.ok_or_else(none)?)?)
        };
        let state =
            state().with_context(|| format!("the checkpoint {} cannot be used", path.display()))?;
        Ok((state.config, state.position))
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        const REMEDY: &str = "use another checkpoint of the run, or train again";
        let corrupt = |what: String| {
            let what = complaint(&what);
            Error::File(format!(
                "the checkpoint is truncated or corrupt ({what}); {REMEDY}"
            ))
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| corrupt(e.to_string()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| corrupt(e.to_string()))?;
        let Some(json) = header.metadata().as_ref().and_then(|m| m.get(KEY)) else {
            bail!(
                File,
                "it is a safetensors file, but no checkpoint of eqprop-cuda (or a corrupt one)"
            );
        };
        let format = serde_json::from_str::<serde_json::Value>(json)
            .map_err(|e| corrupt(e.to_string()))?
            .get("format")
            .and_then(|format| format.as_u64());
        ensure!(
            File,
            format == Some(u64::from(FORMAT)),
            "it has format {}, this program reads format {FORMAT}; use the version of eqprop-cuda that wrote it",
            format.map_or("?".into(), |format| format.to_string())
        );
        let mut state: State = serde_json::from_str(json).map_err(|e| corrupt(e.to_string()))?;
        let views: Vec<(&str, TensorView)> = file.iter().collect();
        let expected = std::mem::take(&mut state.checksum);
        let found = checksum(&views, &mut state)?;
        if found != expected {
            return Err(corrupt("its checksum is wrong".to_string()));
        }

        let mut rng = ChaCha8Rng::seed_from_u64(state.config.seed);
        let network = state.network.build(state.config.activation, &mut rng)?;
        let learning = state.config.algorithm.learning();
        let names = learning.names(&network)?;
        let read = |prefix: &str, names: &[String]| -> Result<Vec<ArrayD<f64>>> {
            let tensors = names
                .iter()
                .map(|name| tensor(&file, &format!("{prefix}{name}")));
            tensors.collect()
        };
        let statistics = read("", &names.statistics)?;
        let decode = |prefix: &str| -> Result<ModelState> {
            let parameters = read(prefix, &names.parameters)?;
            Ok(learning.state(&network, parameters, statistics.clone())?)
        };
        let moments: Result<Vec<_>> = (0..state.optimizer_moments)
            .map(|k| Ok(decode(&format!("optimizer.{k}."))?.parameters))
            .collect();
        let layers = || {
            network
                .free_layers()
                .map(|l| tensor(&file, &format!("state.{l}")))
                .collect()
        };
        Ok(Self {
            model: decode("")?,
            optimizer: OptimizerState {
                steps: state.optimizer_steps,
                moments: moments?,
            },
            kept_state: state.has_state.then(layers).transpose()?,
            config: state.config,
            position: state.position,
            tally: state.tally,
            best: state.best,
            examples: state.examples,
            network,
        })
    }

    fn encode_tensors(&self) -> Result<Vec<Tensor>> {
        let precision = self.config.precision;
        let TensorNames {
            parameters: names,
            statistics,
            ..
        } = self.names()?;
        let encode = |(name, values): (&String, &ArrayD<f64>)| {
            Tensor::encode(name.clone(), values, precision)
        };
        let set = |prefix: String, set: &ParameterSet<f64>| -> Vec<Tensor> {
            let pairs = names.iter().zip(set.tensors());
            pairs
                .map(|(name, values)| Tensor::encode(format!("{prefix}{name}"), values, precision))
                .collect()
        };
        let mut tensors = set(String::new(), &self.model.parameters);
        tensors.extend(statistics.iter().zip(&self.model.statistics).map(encode));
        for (k, moment) in self.optimizer.moments.iter().enumerate() {
            tensors.extend(set(format!("optimizer.{k}."), moment));
        }
        for (i, state) in self.kept_state.iter().flatten().enumerate() {
            tensors.push(Tensor::encode(format!("state.{}", i + 1), state, precision));
        }
        Ok(tensors)
    }
}

struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Little-endian, in the precision that the run computes in, so that nothing is lost.
    fn encode(name: String, values: &ArrayD<f64>, precision: Precision) -> Self {
        let (dtype, bytes) = match precision {
            // The master weights of bf16 and fp16 are fp32.
            Precision::Bf16 | Precision::Fp16 | Precision::Fp32 => (
                Dtype::F32,
                values
                    .iter()
                    .flat_map(|&v| (v as f32).to_le_bytes())
                    .collect(),
            ),
            Precision::Fp64 => (
                Dtype::F64,
                values.iter().flat_map(|&v| v.to_le_bytes()).collect(),
            ),
        };
        Self {
            name,
            dtype,
            shape: values.shape().to_vec(),
            bytes,
        }
    }

    fn view(&self) -> TensorView<'_> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes)
            .expect("there are as many bytes as the shape says")
    }
}

fn tensor(file: &SafeTensors, name: &str) -> Result<ArrayD<f64>> {
    let view = file
        .tensor(name)
        .map_err(|_| Error::File(format!("the checkpoint has no tensor {name}")))?;
    let values: Vec<f64> = match view.dtype() {
        Dtype::F32 => {
            let (values, _) = view.data().as_chunks::<4>();
            values
                .iter()
                .map(|&b| f64::from(f32::from_le_bytes(b)))
                .collect()
        }
        Dtype::F64 => {
            let (values, _) = view.data().as_chunks::<8>();
            values.iter().map(|&b| f64::from_le_bytes(b)).collect()
        }
        other => bail!(
            File,
            "the tensor {name} has type {other:?}; expected F32 or F64"
        ),
    };
    ArrayD::from_shape_vec(view.shape(), values)
        .map_err(|error| Error::File(format!("the tensor {name}: {error}")))
}

/// MD5 over the tensors by name, and over the state, whose own checksum is left empty meanwhile.
fn checksum(tensors: &[(&str, TensorView)], state: &mut State) -> Result<String> {
    let mut hash = Md5::new();
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, view) in sorted {
        hash.update(format!("{name} {:?} {:?}\n", view.dtype(), view.shape()));
        hash.update(view.data());
    }
    state.checksum.clear();
    hash.update(serde_json::to_string(state)?);
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
