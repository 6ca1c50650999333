//! `cargo bench --bench step`: whole training steps of HopfieldResNet13, and what an epoch and a run would take.
//!
//! Options: `--batch N`, `--steps N`, `--precision fp16|fp32`, and, with the feature `emulation`, `--emulated` (a tiny network
//! on the CPU, to see that the benchmark works). The projections are step time x steps: loading images and evaluation
//! are not in them.

use anyhow::{Context, Result, bail};
use eqprop_cuda::cuda::{CudaBackend, Device, Gpu, Precision};
use eqprop_cuda::ep::{Backend, CostFunction, NudgedPhase, Nudging, Relaxation, Start, Variant};
use eqprop_cuda::network::presets::{self, ActivationKind, PAPER_CHANNELS, PresetOptions};
use eqprop_cuda::network::{Mode, parameters};
use eqprop_cuda::optim::OptimizerConfig;
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Instant;

/// Images of CIFAR-10's training set, and epochs of the paper.
const IMAGES: usize = 50_000;
const EPOCHS: f64 = 300.0;

/// A way to train: what an iteration is and how many there are.
struct Schedule {
    name: &'static str,
    mode: Mode,
    omega: f64,
    free: usize,
    nudged: usize,
}

const SCHEDULES: [Schedule; 2] = [
    Schedule {
        name: "paper order, 120 + 50 + 50",
        mode: Mode::Asynchronous,
        omega: 1.0,
        free: 120,
        nudged: 50,
    },
    Schedule {
        name: "coloured, omega 1.6, 25 + 10 + 10",
        mode: Mode::Coloured,
        omega: 1.6,
        free: 25,
        nudged: 10,
    },
];

#[cfg(feature = "emulation")]
fn emulated() -> Result<Arc<dyn Device>> {
    Ok(Arc::new(eqprop_cuda::cuda::emulated::EmulatedDevice::new()))
}

#[cfg(not(feature = "emulation"))]
fn emulated() -> Result<Arc<dyn Device>> {
    bail!("--emulated needs a build with --features emulation")
}

fn main() -> Result<()> {
    let (mut batch, mut steps, mut precision, mut on_cpu) = (128, 10, Precision::Fp16, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" => {} // cargo's own
            "--batch" => batch = value()?.parse().context("--batch takes a number")?,
            "--steps" => steps = value()?.parse().context("--steps takes a number")?,
            "--precision" => {
                precision = match value()?.as_str() {
                    "fp16" => Precision::Fp16,
                    "fp32" => Precision::Fp32,
                    other => bail!("--precision {other}: expected fp16 or fp32"),
                }
            }
            "--emulated" => on_cpu = true,
            other => bail!("unknown option {other}"),
        }
    }
    let (device, channels) = if on_cpu {
        (batch, steps) = (2, 1);
        (emulated()?, [4, 4, 4, 4])
    } else {
        match Gpu::open(0) {
            Ok(gpu) => (Arc::new(gpu) as Arc<dyn Device>, PAPER_CHANNELS),
            Err(error) => {
                println!("nothing to measure: {error:#}");
                return Ok(());
            }
        }
    };
    let preset = PresetOptions {
        input_channels: 3,
        classes: 10,
        channels,
        activation: ActivationKind::Relu6,
        gains: None,
    };
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let network = presets::build("hopfieldresnet13", &preset, &mut rng)?;
    let images = Array4::from_shape_fn((batch, 3, 32, 32), |_| rng.random_range(-1.0f32..1.0));
    let labels: Vec<usize> = (0..batch).map(|n| n % network.classes()).collect();
    let rates = vec![1e-3; network.parameter_count()];
    let nudging = Nudging {
        beta: 0.1,
        variant: Variant::Centered,
        form: NudgedPhase::SumDifference,
    };
    println!(
        "{}, batch {batch}, {precision:?}, {steps} steps",
        device.describe()
    );
    println!(
        "{:36} {:>10} {:>10} {:>10} {:>12}",
        "schedule", "ms/step", "images/s", "epoch, s", "300 epochs, h"
    );
    for schedule in &SCHEDULES {
        let mut backend = CudaBackend::new(&network, device.clone(), precision)?;
        backend.set_parameters(&parameters::initialise(&network, 0))?;
        backend.set_optimizer(OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 3.5e-4,
        })?;
        let relaxation = |iterations| Relaxation {
            mode: schedule.mode,
            iterations,
            omega: schedule.omega,
            tolerance: None,
        };
        let (free, nudged) = if on_cpu {
            (3, 2)
        } else {
            (schedule.free, schedule.nudged)
        };
        let mut step = || -> Result<()> {
            backend.load_batch(&images, &labels, Start::Kept)?;
            backend.free_phase(&relaxation(free))?;
            backend.outcome(CostFunction::Mse)?;
            backend.nudged_phases(&nudging, CostFunction::Mse, &relaxation(nudged))?;
            backend.estimate_gradient()?;
            backend.step(&rates)
        };
        step()?; // tables, memory, and the GPU's clocks
        device.synchronize()?;
        let start = Instant::now();
        (0..steps).try_for_each(|_| step())?;
        device.synchronize()?;
        let seconds = start.elapsed().as_secs_f64() / steps as f64;
        let epoch = seconds * IMAGES.div_ceil(batch) as f64;
        println!(
            "{:36} {:10.2} {:10.0} {:10.1} {:12.2}",
            schedule.name,
            seconds * 1e3,
            batch as f64 / seconds,
            epoch,
            EPOCHS * epoch / 3600.0
        );
    }
    Ok(())
}
