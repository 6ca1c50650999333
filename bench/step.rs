//! `cargo bench --bench step`: whole training steps, and what an epoch and a run would take.
//!
//! Of HopfieldResNet13 by equilibrium propagation, and of the feed-forward networks by backpropagation (`--algorithm` for one
//! of them). Options: `--help`. The projections are step time x steps: loading images and evaluation are not in them.

mod options;

use anyhow::Result;
use clap::Parser;
use eqprop_cuda::cuda::{self, CudaBackend, CudaFeedForward};
use eqprop_cuda::feedforward::{self, FeedForward};
use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{ActivationKind, Mode, Network, parameters};
use eqprop_cuda::optim::{MAX_NORM, OptimizerConfig};
use eqprop_cuda::phase::{
    Backend, CostFunction, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use ndarray::Array4;
use options::{Algorithm, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Instant;

/// Images of CIFAR-10's training set, and epochs of the paper.
const IMAGES: usize = 50_000;
const EPOCHS: f64 = 300.0;

const SGD: OptimizerConfig = OptimizerConfig::Sgd {
    momentum: 0.9,
    weight_decay: 3.5e-4,
};

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

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// training steps that are timed, after one that is not; default: 10, emulated 1
    #[arg(long)]
    steps: Option<usize>,
    /// cargo's own
    #[arg(long, hide = true)]
    bench: bool,
}

/// What all measurements share.
struct Bench {
    options: Options,
    steps: usize,
    /// none: the CPU
    kernels: Option<Arc<dyn cuda::Device>>,
}

fn main() -> Result<()> {
    let Arguments { options, steps, .. } = Arguments::parse();
    let bench = Bench {
        kernels: options.kernels()?,
        steps: steps.unwrap_or(if options.is_tiny() { 1 } else { 10 }),
        options,
    };
    let options = &bench.options;
    println!(
        "{}, batch {}, {}, {} steps",
        (bench.kernels.as_ref()).map_or("CPU".to_string(), |device| device.describe()),
        options.batch(),
        options.precision().name(),
        bench.steps
    );
    println!(
        "{:36} {:>10} {:>10} {:>10} {:>12}",
        "schedule", "ms/step", "images/s", "epoch, s", "300 epochs, h"
    );
    if options.includes(Algorithm::Ep) {
        for schedule in &SCHEDULES {
            bench.equilibrium_propagation(schedule)?;
        }
    }
    if options.includes(Algorithm::Backprop) {
        let adam = OptimizerConfig::Adam {
            weight_decay: 2.5e-4,
        };
        for (name, optimizer) in FeedForward::PRESETS.into_iter().zip([adam, SGD]) {
            bench.backpropagation(name, optimizer)?;
        }
    }
    Ok(())
}

impl Bench {
    fn equilibrium_propagation(&self, schedule: &Schedule) -> Result<()> {
        let preset = PresetOptions {
            input_channels: 3,
            classes: 10,
            channels: self.options.channels()?,
            activation: ActivationKind::Relu6,
            gains: None,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let network = presets::build("hopfieldresnet13", &preset, &mut rng)?;
        let mut backend: Box<dyn Backend> = match &self.kernels {
            Some(device) => {
                let format = self.options.format()?;
                Box::new(CudaBackend::new(&network, device.clone(), format)?)
            }
            None => (self.options.device).backend(&network, self.options.precision())?,
        };
        backend.set_parameters(&parameters::initialise(&network, 0))?;
        backend.set_optimizer(SGD)?;
        let (images, labels) = self.batch(&network);
        let rates = vec![1e-3; network.parameter_count()];
        let nudging = Nudging {
            beta: 0.1,
            variant: Variant::Centered,
            form: self.options.precision().default_nudged_phase(),
            output: OutputCondition::Nudged,
        };
        let relaxation = |iterations| Relaxation {
            mode: schedule.mode,
            iterations,
            omega: schedule.omega,
            tolerance: None,
        };
        let (free, nudged) = match self.options.is_tiny() {
            true => (3, 2),
            false => (schedule.free, schedule.nudged),
        };
        self.time(schedule.name, || {
            backend.load_batch(&images, &labels, Start::Kept)?;
            backend.free_phase(&relaxation(free))?;
            backend.outcome(CostFunction::Mse)?;
            backend.nudged_phases(&nudging, CostFunction::Mse, &relaxation(nudged))?;
            backend.estimate_gradient()?;
            backend.step(&rates, Some(MAX_NORM))
        })
    }

    fn backpropagation(&self, name: &str, optimizer: OptimizerConfig) -> Result<()> {
        let model = FeedForward::preset(name, 3, 10, self.options.channels()?)?;
        let mut backend: Box<dyn feedforward::Backend> = match &self.kernels {
            Some(device) => {
                let format = self.options.format()?;
                Box::new(CudaFeedForward::new(&model, device.clone(), format)?)
            }
            None => (self.options.device).feed_forward(&model, self.options.precision())?,
        };
        backend.set_state(&model.initialise(0))?;
        backend.set_optimizer(optimizer)?;
        let (images, labels) = self.batch(model.network());
        let rates = vec![1e-3; model.parameter_names().len()];
        self.time(&format!("{name}, backpropagation"), || {
            backend.forward(&images, &labels, feedforward::NormMode::Train)?;
            backend.backward()?;
            backend.step(&rates)
        })
    }

    fn batch(&self, network: &Network) -> (Array4<f32>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shape = (self.options.batch(), 3, 32, 32);
        let images = Array4::from_shape_fn(shape, |_| rng.random_range(-1.0f32..1.0));
        let labels = (0..shape.0).map(|n| n % network.classes()).collect();
        (images, labels)
    }

    /// Times a training step and prints a line.
    fn time(&self, name: &str, mut step: impl FnMut() -> eqprop_cuda::Result<()>) -> Result<()> {
        let wait = || {
            self.kernels
                .as_ref()
                .map_or(Ok(()), |device| device.synchronize())
        };
        step()?; // tables, memory, and the GPU's clocks
        wait()?;
        let start = Instant::now();
        (0..self.steps).try_for_each(|_| step())?;
        wait()?;
        let seconds = start.elapsed().as_secs_f64() / self.steps as f64;
        let batch = self.options.batch();
        let epoch = seconds * IMAGES.div_ceil(batch) as f64;
        println!(
            "{name:36} {:10.2} {:10.0} {epoch:10.1} {:12.2}",
            seconds * 1e3,
            batch as f64 / seconds,
            EPOCHS * epoch / 3600.0
        );
        Ok(())
    }
}
