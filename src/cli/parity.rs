//! `eqprop-cuda parity`

use super::output::Stdout;
use crate::device::{Device, Precision};
use crate::parity::replay_files;
use crate::run::threads;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Replay golden files and compare: exit status 1 when anything fails
#[derive(Args)]
pub struct ParityArgs {
    /// golden files (safetensors)
    #[arg(required = true, value_name = "FILE.safetensors")]
    files: Vec<PathBuf>,
    /// where to compute: auto, cpu, cuda, cuda:N, emulated or interpreted
    #[arg(long, default_value = "auto")]
    device: Device,
    /// arithmetic, and with it the tolerances [default: fp32 on a CPU, fp16 on a GPU]
    #[arg(long)]
    precision: Option<Precision>,
}

pub fn run(args: &ParityArgs) -> Result<ExitCode> {
    threads::start(None)?;
    let precision = (args.precision).unwrap_or_else(|| args.device.default_precision());
    let passed = replay_files(&args.files, args.device, precision, &mut Stdout)?;
    Ok(ExitCode::from(u8::from(!passed)))
}
