//! Times training steps of the CPU backend: `cargo bench --bench cpu`.
//!
//! The three configurations are those that `bench/pytorch_step.py --baseline-configs` times in PyTorch. A training step
//! is a free phase, two nudged phases, the gradient estimate and the optimizer, on random images and initial weights, in
//! the published order, direct nudged phases, fp32. Threads: RAYON_NUM_THREADS, or all cores.

use eqprop_cuda::cpu::backend;
use eqprop_cuda::network::presets::{PresetOptions, build};
use eqprop_cuda::network::{ActivationKind, Mode, parameters};
use eqprop_cuda::optim::{MAX_NORM, OptimizerConfig};
use eqprop_cuda::phase::{
    CostFunction, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

struct Configuration {
    network: &'static str,
    channels: [usize; 4],
    batch: usize,
    free_iterations: usize,
    nudged_iterations: usize,
}

const CONFIGURATIONS: [Configuration; 3] = [
    Configuration {
        network: "hopfieldresnet13",
        channels: [32, 64, 128, 128],
        batch: 32,
        free_iterations: 20,
        nudged_iterations: 10,
    },
    Configuration {
        network: "vgg5",
        channels: [32, 64, 128, 128],
        batch: 32,
        free_iterations: 20,
        nudged_iterations: 10,
    },
    Configuration {
        network: "hopfieldresnet13",
        channels: [128, 256, 512, 512],
        batch: 4,
        free_iterations: 4,
        nudged_iterations: 2,
    },
];

const REPEATS: usize = 5;

fn main() -> anyhow::Result<()> {
    println!(
        "{:<18} {:<20} {:>5} {:>6} {:>10} {:>10} {:>10}",
        "network", "channels", "batch", "its", "step s", "free s", "gradient s"
    );
    // `cargo bench --bench cpu -- 3` times the third configuration alone.
    let only: Option<usize> = std::env::args().find_map(|argument| argument.parse().ok());
    for (i, configuration) in CONFIGURATIONS.iter().enumerate() {
        if only.is_some_and(|only| only != i + 1) {
            continue;
        }
        let [step, free, gradient] = time(configuration)?;
        println!(
            "{:<18} {:<20} {:>5} {:>3}+{:<2} {step:>10.4} {free:>10.4} {gradient:>10.4}",
            configuration.network,
            format!("{:?}", configuration.channels),
            configuration.batch,
            configuration.free_iterations,
            configuration.nudged_iterations,
        );
    }
    Ok(())
}

/// Median seconds of a whole step, of its free phase, and of its gradient and update.
fn time(configuration: &Configuration) -> anyhow::Result<[f64; 3]> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let options = PresetOptions {
        input_channels: 3,
        classes: 10,
        channels: configuration.channels,
        activation: ActivationKind::Relu6,
        gains: None,
    };
    let network = build(configuration.network, &options, &mut rng)?;
    let mut backend = backend::<f32>(&network);
    backend.set_parameters(&parameters::initialise(&network, 1))?;
    backend.set_optimizer(OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 3.5e-4,
    })?;
    let rates = vec![0.03; network.parameter_count()];
    let relaxation = |iterations| Relaxation {
        mode: Mode::Asynchronous,
        iterations,
        omega: 1.0,
        tolerance: None,
    };
    let nudging = Nudging {
        beta: 0.1,
        variant: Variant::Centered,
        form: NudgedPhase::Direct,
        output: OutputCondition::Nudged,
    };
    let batch = configuration.batch;
    let images = Array4::from_shape_simple_fn((batch, 3, 32, 32), || rng.random_range(-1.0..1.0));
    let labels: Vec<usize> = (0..batch).map(|i| i % 10).collect();

    let mut times = Vec::new();
    for _ in 0..=REPEATS {
        let begin = Instant::now();
        backend.load_batch(&images, &labels, Start::Kept)?;
        backend.free_phase(&relaxation(configuration.free_iterations))?;
        let free = begin.elapsed();
        let cost = CostFunction::Mse;
        let iterations = configuration.nudged_iterations;
        backend.nudged_phases(&nudging, cost, &relaxation(iterations))?;
        let nudged = begin.elapsed();
        backend.estimate_gradient()?;
        backend.step(&rates, Some(MAX_NORM))?;
        let step = begin.elapsed();
        times.push([step, free, step - nudged].map(|t| t.as_secs_f64()));
    }
    // The first step also grows buffers and starts threads.
    times.remove(0);
    Ok([0, 1, 2].map(|column| {
        let mut values: Vec<f64> = times.iter().map(|row| row[column]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }))
}
