//! `eqprop-cuda export`

use super::runs;
use super::say;
use crate::run::{Checkpoint, atomic};
use anyhow::{Context, Result, ensure};
use clap::Args;
use safetensors::tensor::{Dtype, TensorView};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a network's parameters as plain safetensors, for PyTorch and others
///
/// In float32, under the names bias.1 .. and weight.0 ..: convolutions are (C_post, C_pre, k, k), dense weights (C, H, W, classes).
/// A network trained by backpropagation has the names and shapes of the published module's state_dict.
#[derive(Args)]
pub struct ExportArgs {
    /// A checkpoint, or the folder of a run (its best checkpoint)
    checkpoint: PathBuf,
    /// File to write, for instance weights.safetensors
    output: PathBuf,
}

pub fn run(args: ExportArgs) -> Result<ExitCode> {
    let run = Checkpoint::load(&runs::checkpoint_of(&args.checkpoint)?)?;
    ensure!(
        !args.output.exists(),
        "{} is there already; move it away or choose another name",
        args.output.display()
    );
    let names = run.names()?;
    let parameters = names.parameters.iter().zip(run.model.parameters.tensors());
    let statistics = names.statistics.iter().zip(&run.model.statistics);
    // A float32 may be out of range where the double was not.
    let all = parameters.clone().chain(statistics.clone());
    for (name, tensor) in all {
        ensure!(
            tensor.iter().all(|&v| (v as f32).is_finite()),
            "{name} holds a value that is not finite in float32: this network has diverged, and is not written; export an \
             earlier checkpoint"
        );
    }
    let tensors: Vec<(&String, Dtype, Vec<usize>, Vec<u8>)> = (parameters.chain(statistics))
        .map(|(name, tensor)| {
            let shape = tensor.shape().to_vec();
            if name.ends_with("num_batches_tracked") {
                let bytes = tensor.iter().flat_map(|&v| (v as i64).to_le_bytes());
                return (name, Dtype::I64, shape, bytes.collect());
            }
            let bytes = tensor.iter().flat_map(|&v| (v as f32).to_le_bytes());
            (name, Dtype::F32, shape, bytes.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, None).context("cannot encode the parameters")?;
    atomic::replace(&args.output, &bytes)?;
    say(format_args!(
        "{}: {} tensors of {}",
        args.output.display(),
        tensors.len(),
        run.network.name()
    ));
    Ok(ExitCode::SUCCESS)
}
