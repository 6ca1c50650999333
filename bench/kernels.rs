//! `cargo bench --bench kernels`: every kernel on the layer shapes of the paper's networks.
//!
//! Time per launch, TFLOP/s, GB/s, and the fraction of the roofline that was measured in the same run: the larger of
//! operations / (mma.sync in registers) and bytes / (device copy). First equilibrium propagation's kernels, then those of the
//! feed-forward networks. Options: `--help`.

mod options;

use anyhow::{Context, Result};
use clap::Parser;
use eqprop_cuda::cuda::measure::{
    Chip, Constant, Effort, Estimate, Launch, Measurement, Roofline, estimates,
    feed_forward_kernels, kernels, roofline,
};
#[cfg(feature = "interpreter")]
use eqprop_cuda::cuda::measure::{Counted, Family, counts};
use eqprop_cuda::cuda::{Format, Gpu};
use eqprop_cuda::device::Device;
use eqprop_cuda::feedforward::FeedForward;
use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{ActivationKind, Network};
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
    /// what the tile lists would give on a GPU, by a model whose constants are printed: needs no GPU; with one, the estimate
    /// stands beside the measurement. Tensor-core kernels of equilibrium propagation only. Built with the feature `interpreter`, what
    /// one image's launches execute is counted beside what the model says of them
    #[arg(long)]
    estimate: bool,
    /// cargo's own
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let Arguments {
        options,
        compare,
        estimate,
        ..
    } = Arguments::parse();
    if estimate && !is_present(options.device) {
        let chip = Chip::H100;
        print_constants("an H100 SXM, on which nothing was measured", &chip);
        for name in presets::PRESETS {
            let network = network(name, options.channels()?)?;
            print_estimates(name, &estimates(&network, options.batch(), &chip)?, &chip);
            print_counts(name, &network, options.batch(), &chip)?;
        }
        return Ok(());
    }
    let device = (options.kernels()?).context("--device cpu runs no kernels: name a GPU")?;
    let effort = if options.is_tiny() { TINY } else { GPU };
    let (batch, format, channels) = (options.batch(), options.format()?, options.channels()?);
    let limit = roofline(&device, effort)?;
    println!(
        "{}, batch {batch}, {}\nroofline: {:.1} TFLOP/s (mma.sync in registers), {:.0} GB/s (device copy)",
        device.describe(),
        format.name(),
        limit.operations_per_second / 1e12,
        limit.bytes_per_second / 1e9
    );
    if options.includes(Algorithm::Ep) {
        for name in presets::PRESETS {
            let network = network(name, channels)?;
            let table = kernels(&network, &device, format, batch, effort)?;
            let chip = Chip::measured(device.multiprocessors(), limit);
            let estimates = match estimate && format == Format::F16 {
                true => estimates(&network, batch, &chip)?,
                false => Vec::new(),
            };
            print(name, &table, &estimates, limit);
            if !estimates.is_empty() {
                print_constants(&device.describe(), &chip);
                print_estimates(name, &estimates, &chip);
            }
            if compare {
                compare_with_libraries(name, channels, &options)?;
            }
        }
    }
    if options.includes(Algorithm::Backprop) {
        for name in FeedForward::PRESETS {
            let model = FeedForward::preset(name, 3, 10, channels)?;
            let table = feed_forward_kernels(&model, &device, format, batch, effort)?;
            print(&format!("{name}, feed-forward"), &table, &[], limit);
        }
    }
    Ok(())
}

/// Whether the device that was named is there: a GPU may not be.
fn is_present(device: Device) -> bool {
    match device {
        Device::Auto => Gpu::open(0).is_ok(),
        Device::Cuda(number) => Gpu::open(number).is_ok(),
        _ => true,
    }
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

fn network(name: &str, channels: [usize; 4]) -> Result<Network> {
    let preset = PresetOptions {
        input_channels: 3,
        classes: 10,
        channels,
        activation: ActivationKind::Relu6,
        gains: None,
    };
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    Ok(presets::build(name, &preset, &mut rng)?)
}

fn print_constants(gpu: &str, chip: &Chip) {
    println!("\nESTIMATES, by a model (src/cuda/measure/estimate.rs), for {gpu}:");
    println!(
        "  (share: of the dense rate; busy: how much of the time the limiting resource works; hopper: with EQPROP_HOPPER=on and\n\
         EQPROP_CLUSTERS=off; clusters: as the kernels are, in clusters of two blocks; then what both would be in one launch for the phase)"
    );
    for Constant {
        name,
        value,
        unit,
        source,
    } in chip.constants()
    {
        println!("  {name:34} {value:>9.3e} {unit:28} {source}");
    }
}

fn print_estimates(title: &str, table: &[Estimate], chip: &Chip) {
    println!(
        "\n{title}, estimated\n{:12} {:28} {:>8} {:>6} {:>6} {:>7} {:>7} {:>7} {:>14} {:>8} {:>6} {:>5} {:>10} {:>9} {:>9} {:>9}",
        "kernel",
        "shape",
        "channels",
        "tiles",
        "waves",
        "GFLOP",
        "L2 MB",
        "MB",
        "limit",
        "us",
        "share",
        "busy",
        "hopper, us",
        "clusters",
        "1 launch",
        "both"
    );
    for line in table {
        let launches = &line.launches;
        let sum = |of: fn(&Launch) -> f64| launches.iter().map(of).sum::<f64>();
        // A sweep of several launches has a limit in each.
        let limit = match launches[..] {
            [launch] => launch.limit.to_string(),
            _ => format!("{} launches", launches.len()),
        };
        println!(
            "{:12} {:28} {:>8} {:6} {:6.2} {:7.1} {:7.0} {:7.0} {limit:>14} {:8.1} {:5.1}% {:4.0}% {:10.1} {:9.1} {:9.1} {:9.1}",
            line.kernel,
            line.shape,
            launches.iter().map(|l| l.channels).max().unwrap_or(0),
            launches.iter().map(|l| l.tiles).sum::<usize>(),
            sum(|l| l.waves),
            line.operations() / 1e9,
            sum(|l| l.l2_bytes) / 1e6,
            sum(|l| l.memory_bytes) / 1e6,
            line.seconds() * 1e6,
            100.0 * line.share(chip),
            100.0 * launches.iter().map(|l| l.busy * l.seconds).sum::<f64>() / line.seconds(),
            line.hopper.seconds * 1e6,
            line.hopper.clusters * 1e6,
            line.hopper.one_launch * 1e6,
            line.hopper.both * 1e6
        );
        if launches.len() > 1 && launches.len() <= 3 {
            for launch in launches {
                println!(
                    "{:41} {:>8} {:6} {:6.2} {:7.1} {:7.0} {:7.0} {:>14} {:8.1} {:5.1}%",
                    "",
                    launch.channels,
                    launch.tiles,
                    launch.waves,
                    launch.operations / 1e9,
                    launch.l2_bytes / 1e6,
                    launch.memory_bytes / 1e6,
                    launch.limit,
                    launch.seconds * 1e6,
                    100.0 * launch.operations / launch.seconds / chip.dense.value
                );
            }
        }
    }
}

/// What the model says of one image's launches, and what the interpreter of the compiled kernels counts.
#[cfg(feature = "interpreter")]
fn print_counts(title: &str, network: &Network, images: usize, chip: &Chip) -> Result<()> {
    println!(
        "\n{title}, one image, counted in the compiled kernels (model in brackets): thousands of instructions of warps; megabytes\n\
         {:12} {:28} {:>6} {:>17} {:>15} {:>9} {:>9} {:>15} {:>8} {:>8} {:>8} {:>9}",
        "kernel",
        "shape",
        "tiles",
        "instructions",
        "mma",
        "ldmatrix",
        "cp.async",
        "read, written",
        "L2",
        "sh. read",
        "written",
        "conflicts"
    );
    counts(network, images, chip, Family::Mma)?
        .iter()
        .for_each(print_count);
    println!("by the kernels for Hopper: mma are wgmma, each of 64 rows; copies are boxes");
    match counts(network, images, chip, Family::Hopper) {
        Ok(table) => table.iter().for_each(print_count),
        Err(error) => println!("not counted: {error:#}"),
    }
    Ok(())
}

#[cfg(feature = "interpreter")]
fn print_count(line: &Counted) {
    let beside = |count: f64, model: Option<f64>| match model {
        Some(model) => format!("{count:.1} ({model:.1})"),
        None => format!("{count:.1}"),
    };
    let thousands = |count: u64| count as f64 / 1e3;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let (report, model) = (&line.report, line.modelled);
    let traffic = &report.traffic;
    println!(
        "{:12} {:28} {:6} {:>17} {:>15} {:9.1} {:9.1} {:>15} {:>8} {:8.2} {:8.2} {:9}",
        line.kernel,
        line.shape,
        line.tiles,
        beside(
            thousands(report.total().warps),
            model.map(|m| m.instructions / 1e3)
        ),
        beside(
            thousands(report.products().warps),
            model.map(|m| m.products / 1e3)
        ),
        thousands(report.count("ldmatrix").warps),
        thousands(report.copies().warps),
        beside(
            megabytes(traffic.global_read + traffic.global_written),
            model.map(|m| m.asked_bytes / 1e6)
        ),
        model.map_or(String::new(), |m| format!("({:.1})", m.l2_bytes / 1e6)),
        megabytes(traffic.shared_read),
        megabytes(traffic.shared_written),
        traffic.bank_conflicts
    );
}

#[cfg(not(feature = "interpreter"))]
fn print_counts(_: &str, _: &Network, _: usize, _: &Chip) -> Result<()> {
    Ok(())
}

/// `estimates` of the same kernels and shapes stand beside the times.
fn print(title: &str, table: &[Measurement], estimates: &[Estimate], limit: Roofline) {
    println!(
        "\n{title}\n{:16} {:28} {:>10} {:>9} {:>8} {:>9} {:>9}",
        "kernel", "shape", "us", "TFLOP/s", "GB/s", "roofline", "estimate"
    );
    for line in table {
        let bound = (line.operations / limit.operations_per_second)
            .max(line.bytes / limit.bytes_per_second);
        println!(
            "{:16} {:28} {:10.1} {:9.2} {:8.0} {:8.1}% {:>9}",
            line.kernel,
            line.shape,
            line.seconds * 1e6,
            line.operations / line.seconds / 1e12,
            line.bytes / line.seconds / 1e9,
            100.0 * bound / line.seconds,
            (estimates.iter())
                .find(|e| e.kernel == line.kernel && e.shape == line.shape)
                .map_or(String::new(), |e| format!("{:.1}", e.seconds() * 1e6))
        );
    }
}
