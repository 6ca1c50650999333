//! `cargo bench --bench kernels`: every kernel on the layer shapes of the paper's networks.
//!
//! Time per launch, TFLOP/s, GB/s, and the fraction of the roofline that was measured in the same run: the larger of
//! operations / (mma.sync in registers) and bytes / (device copy). First equilibrium propagation's kernels, then those of the
//! feed-forward networks. Options: `--help`.

mod options;

use anyhow::{Context, Result};
use clap::Parser;
use eqprop_cuda::cuda::measure::{
    Effort, Measurement, Roofline, feed_forward_kernels, kernels, roofline,
};
use eqprop_cuda::feedforward::FeedForward;
use eqprop_cuda::network::ActivationKind;
use eqprop_cuda::network::presets::{self, PresetOptions};
use options::{Algorithm, Options};
use rand::SeedableRng;
use std::process::Command;

const GPU: Effort = Effort {
    repeats: 50,
    copy_bytes: 1 << 30,
    blocks: 132 * 2 * 8,
};
const TINY: Effort = Effort {
    repeats: 1,
    copy_bytes: 1 << 20,
    blocks: 1,
};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// the same products by cuDNN and cuBLAS, too, through the PyTorch of `python3` (bench/library_layers.py)
    #[arg(long)]
    compare: bool,
    /// cargo's own
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let Arguments {
        options, compare, ..
    } = Arguments::parse();
    let device = (options.kernels()?).context("--device cpu runs no kernels: name a GPU")?;
    let effort = if options.is_tiny() { TINY } else { GPU };
    let (batch, precision, channels) = (
        options.batch(),
        options.kernel_precision()?,
        options.channels()?,
    );
    let limit = roofline(&device, effort)?;
    println!(
        "{}, batch {batch}, {precision:?}\nroofline: {:.1} TFLOP/s (mma.sync in registers), {:.0} GB/s (device copy)",
        device.describe(),
        limit.operations_per_second / 1e12,
        limit.bytes_per_second / 1e9
    );
    if options.includes(Algorithm::Ep) {
        for name in presets::PRESETS {
            let preset = PresetOptions {
                input_channels: 3,
                classes: 10,
                channels,
                activation: ActivationKind::Relu6,
                gains: None,
            };
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
            let network = presets::build(name, &preset, &mut rng)?;
            let table = kernels(&network, &device, precision, batch, effort)?;
            print(name, &table, limit);
            if compare {
                compare_with_libraries(name, channels, &options)?;
            }
        }
    }
    if options.includes(Algorithm::Backprop) {
        for name in FeedForward::PRESETS {
            let model = FeedForward::preset(name, 3, 10, channels)?;
            let table = feed_forward_kernels(&model, &device, precision, batch, effort)?;
            print(&format!("{name}, feed-forward"), &table, limit);
        }
    }
    Ok(())
}

/// Runs the libraries on the same shapes; on the emulation those of the CPU, to see that it works.
fn compare_with_libraries(network: &str, channels: [usize; 4], options: &Options) -> Result<()> {
    // cargo and bench/gpu_check.sh both start in the repository's root.
    let script = "bench/library_layers.py";
    let device = match options.is_tiny() {
        true => "cpu".to_string(),
        false => options.device.resolved().to_string(),
    };
    let status = Command::new("python3")
        .args([script, "--network", network, "--device", &device])
        .args(["--dtype", options.precision().name()])
        .args(["--batch", &options.batch().to_string()])
        .args(["--channels", &channels.map(|c| c.to_string()).join(",")])
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => {
            println!("\n{network} by the libraries: skipped, the PyTorch of python3 cannot do it")
        }
        Err(error) => {
            println!("\n{network} by the libraries: skipped, python3 does not start: {error}")
        }
    }
    Ok(())
}

fn print(title: &str, table: &[Measurement], limit: Roofline) {
    println!(
        "\n{title}\n{:16} {:28} {:>10} {:>9} {:>8} {:>9}",
        "kernel", "shape", "us", "TFLOP/s", "GB/s", "roofline"
    );
    for line in table {
        let bound = (line.operations / limit.operations_per_second)
            .max(line.bytes / limit.bytes_per_second);
        println!(
            "{:16} {:28} {:10.1} {:9.2} {:8.0} {:8.1}%",
            line.kernel,
            line.shape,
            line.seconds * 1e6,
            line.operations / line.seconds / 1e12,
            line.bytes / line.seconds / 1e9,
            100.0 * bound / line.seconds
        );
    }
}
