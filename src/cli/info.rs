//! `eqprop-cuda info`

use super::say;
use crate::config::{Config, Settings};
use crate::cuda;
use crate::run::threads;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show devices, kernels, and the memory that a configuration needs
#[derive(Args)]
pub struct InfoArgs {
    /// Preset of `train`
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    preset: Option<String>,
    /// Configuration file of `train`
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

const MIB: f64 = 1024.0 * 1024.0;

pub fn run(args: InfoArgs) -> Result<ExitCode> {
    threads::start(None)?;
    let file = args.config.as_deref().map(Settings::read).transpose()?;
    let (config, network) = Config::resolve(args.preset.as_deref(), file, &args.settings)?;
    say(format_args!("eqprop-cuda {}", env!("CARGO_PKG_VERSION")));
    say(format_args!(
        "cpu          {} threads; precision fp32 (default), fp64",
        rayon::current_num_threads()
    ));
    match cuda::kernel_architectures() {
        Some(architectures) => say(format_args!(
            "kernels      sm_{architectures}; precision fp16 (default), fp32"
        )),
        None => say(format_args!(
            "kernels      none: this build was made without nvcc"
        )),
    }
    match cuda::driver_version() {
        Ok((major, minor)) => say(format_args!("driver       CUDA {major}.{minor}")),
        Err(error) => say(format_args!("driver       {error:#}")),
    }
    for gpu in cuda::list_gpus().unwrap_or_default() {
        let (major, minor) = gpu.compute_capability;
        say(format_args!(
            "cuda:{:<7} {}, compute capability {major}.{minor}, {} multiprocessors, {:.0} MiB",
            gpu.ordinal,
            gpu.name,
            gpu.multiprocessors,
            gpu.memory_bytes as f64 / MIB
        ));
    }
    say(format_args!("\n{network}"));
    for format in [cuda::Format::F16, cuda::Format::F32] {
        let (images, optimizer) = (config.batch_size, config.optimizer_config());
        let learning = config.algorithm.learning();
        let settings = config.rule_settings();
        let bytes = learning.memory_need(&settings, &network, format, images, optimizer)?;
        say(format_args!(
            "GPU memory to train this with batches of {} in {}: {:.0} MiB",
            config.batch_size,
            format.name(),
            bytes as f64 / MIB
        ));
    }
    Ok(ExitCode::SUCCESS)
}
