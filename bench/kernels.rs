//! `cargo bench --bench kernels`: every kernel on the layer shapes of the paper's networks.
//!
//! Time per launch, TFLOP/s, GB/s, and the fraction of the roofline that was measured in the same run: the larger of
//! operations / (mma.sync in registers) and bytes / (device copy). Options: `--batch N`, `--precision fp16|fp32`, and, in a
//! build with the feature `emulation`, `--emulated`, which runs the same code on a tiny network on the CPU (its times say
//! nothing about a GPU).

use anyhow::{Context, Result, bail};
use eqprop_cuda::cuda::measure::{Effort, kernels, roofline};
use eqprop_cuda::cuda::{Device, Gpu, Precision};
use eqprop_cuda::network::presets::{self, ActivationKind, PAPER_CHANNELS, PresetOptions};
use rand::SeedableRng;
use std::sync::Arc;

const GPU: Effort = Effort {
    repeats: 50,
    copy_bytes: 1 << 30,
    blocks: 132 * 2 * 8,
};

struct Options {
    batch: usize,
    precision: Precision,
    emulated: bool,
}

fn options() -> Result<Options> {
    let mut options = Options {
        batch: 128,
        precision: Precision::Fp16,
        emulated: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" => {} // cargo's own
            "--batch" => options.batch = value()?.parse().context("--batch takes a number")?,
            "--precision" => {
                options.precision = match value()?.as_str() {
                    "fp16" => Precision::Fp16,
                    "fp32" => Precision::Fp32,
                    other => bail!("--precision {other}: expected fp16 or fp32"),
                }
            }
            "--emulated" => options.emulated = true,
            other => bail!("unknown option {other}"),
        }
    }
    Ok(options)
}

#[cfg(feature = "emulation")]
fn emulated() -> Result<Arc<dyn Device>> {
    Ok(Arc::new(eqprop_cuda::cuda::emulated::EmulatedDevice::new()))
}

#[cfg(not(feature = "emulation"))]
fn emulated() -> Result<Arc<dyn Device>> {
    bail!("--emulated needs a build with --features emulation")
}

fn main() -> Result<()> {
    let mut options = options()?;
    let (device, effort, channels) = if options.emulated {
        options.batch = 2;
        let tiny = Effort {
            repeats: 1,
            copy_bytes: 1 << 20,
            blocks: 1,
        };
        (emulated()?, tiny, [8, 8, 8, 8])
    } else {
        match Gpu::open(0) {
            Ok(gpu) => (Arc::new(gpu) as Arc<dyn Device>, GPU, PAPER_CHANNELS),
            Err(error) => {
                println!("nothing to measure: {error:#}");
                return Ok(());
            }
        }
    };
    let limit = roofline(&device, effort)?;
    println!(
        "{}, batch {}, {:?}\nroofline: {:.1} TFLOP/s (mma.sync in registers), {:.0} GB/s (device copy)",
        device.describe(),
        options.batch,
        options.precision,
        limit.operations_per_second / 1e12,
        limit.bytes_per_second / 1e9
    );
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
        println!(
            "\n{name}\n{:16} {:28} {:>10} {:>9} {:>8} {:>9}",
            "kernel", "shape", "us", "TFLOP/s", "GB/s", "roofline"
        );
        for line in kernels(&network, &device, options.precision, options.batch, effort)? {
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
    Ok(())
}
