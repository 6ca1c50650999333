//! What the kernel suites share: random networks and batches, and the comparison of two backends.

pub use super::networks::{chain, cosine, rng};

use super::networks;
use eqprop_cuda::Result;
use eqprop_cuda::cuda;
use eqprop_cuda::device::{Device, Precision};
use eqprop_cuda::feedforward::{self, FeedForward};
use eqprop_cuda::network::presets::{self, PresetOptions};
use eqprop_cuda::network::{
    Activation, ActivationKind, Convolution, LinearMap, Mode, Network, ParameterSet, Pooling, Shape,
};
use eqprop_cuda::optim::{MAX_NORM, OptimizerConfig};
use eqprop_cuda::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, PhaseState, Relaxation, Start,
    Variant,
};
use ndarray::{Array4, ArrayD};
use rand::RngExt;
use std::sync::Arc;

/// The machine that these suites test: the emulation (or, in a build without it, the interpreter), unless EQPROP_TEST_DEVICE
/// names another one, `cuda` for instance.
pub fn device() -> Device {
    let usual = match cfg!(feature = "emulation") {
        true => "emulated",
        false => "interpreted",
    };
    let name = std::env::var("EQPROP_TEST_DEVICE").unwrap_or(usual.into());
    name.parse().expect("EQPROP_TEST_DEVICE is a device")
}

/// [`device`] itself, for tests that launch kernels; one that is played has so many multiprocessors.
pub fn machine(multiprocessors: usize) -> Arc<dyn cuda::Device> {
    machine_with(multiprocessors, true)
}

/// The same with or without loops inside recordings; of a GPU EQPROP_WHILE decides.
#[allow(
    unused_variables,
    reason = "a build may have no machine that is played"
)]
pub fn machine_with(multiprocessors: usize, loops: bool) -> Arc<dyn cuda::Device> {
    match device() {
        Device::Cuda(number) => Arc::new(cuda::Gpu::open(number).unwrap()),
        #[cfg(feature = "emulation")]
        Device::Emulated => {
            let device = cuda::emulated::EmulatedDevice::with_multiprocessors(multiprocessors);
            Arc::new(device.with_loops(loops))
        }
        #[cfg(feature = "interpreter")]
        Device::Interpreted => {
            let mut settings = cuda::interpreted::Settings::from_environment().unwrap();
            settings.multiprocessors = multiprocessors;
            settings.loops = loops;
            Arc::new(cuda::interpreted::InterpretedDevice::of(settings).unwrap())
        }
        device => panic!("EQPROP_TEST_DEVICE={device}: this build cannot launch kernels there"),
    }
}

/// The kernels on [`device`], with all parameters at zero.
pub fn kernels(network: &Network, precision: Precision) -> Result<Box<dyn Backend>> {
    device().backend(network, precision)
}

pub fn preset(
    name: &str,
    channels: [usize; 4],
    input: usize,
    classes: usize,
    activation: ActivationKind,
) -> Network {
    let options = PresetOptions {
        input_channels: input,
        classes,
        channels,
        activation,
        gains: None,
    };
    presets::build(name, &options, &mut rng(7)).expect("a preset is valid")
}

/// The output sums 25 x 136 products in one tile and the wide layer 9 x 136: K is split, into unequal parts of several runs.
pub fn split_network() -> Network {
    let hidden = Activation::HARD_SIGMOID;
    let layers = [
        ("input", Shape::new(1, 5, 5), Activation::LINEAR),
        ("wide", Shape::new(136, 5, 5), hidden),
        ("other", Shape::new(136, 5, 5), hidden),
        ("output", Shape::flat(10), Activation::LINEAR),
    ];
    let conv = |size, padding| LinearMap::Conv(Convolution::square(size, 1, padding));
    chain(
        "split",
        &layers,
        &[conv(1, 0), conv(3, 1), LinearMap::Dense],
        0.7,
    )
}

/// A random graph of widths on all sides of a tile's.
pub fn random_network(seed: u64) -> Network {
    random_network_of(seed, &[1, 3, 5, 8, 9, 17, 33, 40], true)
}

/// The same with a choice of widths, and with or without max pooling.
pub fn random_network_of(seed: u64, widths: &[usize], pooling: bool) -> Network {
    networks::random_network(&mut rng(seed), widths, pooling)
}

/// A random graph of every kind of edge that has kernels.
pub fn varied_network(seed: u64) -> Network {
    let pooling = [Pooling::None, Pooling::None, Pooling::Max2x2];
    varied_network_of(seed, &[1, 3, 5, 8, 9, 17, 33, 40], &pooling)
}

/// The same with a choice of widths and of pooling.
pub fn varied_network_of(seed: u64, widths: &[usize], pooling: &[Pooling]) -> Network {
    networks::varied_network(&mut rng(seed), widths, pooling)
}

pub fn random_parameters(network: &Network, seed: u64) -> ParameterSet<f64> {
    eqprop_cuda::network::parameters::initialise(network, seed)
}

pub struct Images {
    pub images: Array4<f32>,
    pub labels: Vec<usize>,
}

pub fn random_images(network: &Network, n: usize, seed: u64) -> Images {
    let mut rng = rng(seed ^ 0x5eed);
    let Shape {
        channels,
        height,
        width,
    } = network.input().shape;
    Images {
        images: Array4::from_shape_fn((n, channels, height, width), |_| {
            rng.random_range(-1.0..1.0)
        }),
        labels: (0..n)
            .map(|_| rng.random_range(0..network.classes()))
            .collect(),
    }
}

/// What a training batch is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub mode: Mode,
    pub omega: f64,
    pub free: usize,
    pub nudged: usize,
    /// of both phases
    pub tolerance: Option<f64>,
    pub cost: CostFunction,
    pub variant: Variant,
    pub form: NudgedPhase,
    pub output: OutputCondition,
    /// whether the gradient is that of the alternative formula
    pub at_free_state: bool,
    /// whether more iterations are differentiated, in the place of nudged phases
    pub is_truncated: bool,
    pub beta: f64,
    pub optimizer: OptimizerConfig,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            mode: Mode::Asynchronous,
            omega: 1.0,
            free: 7,
            nudged: 4,
            tolerance: None,
            cost: CostFunction::Mse,
            variant: Variant::Centered,
            form: NudgedPhase::Direct,
            output: OutputCondition::Nudged,
            at_free_state: false,
            is_truncated: false,
            beta: 0.3,
            optimizer: OptimizerConfig::Sgd {
                momentum: 0.9,
                weight_decay: 1e-3,
            },
        }
    }
}

impl Recipe {
    pub fn relaxation(&self, iterations: usize) -> Relaxation {
        Relaxation {
            mode: self.mode,
            iterations,
            omega: self.omega,
            tolerance: self.tolerance,
        }
    }

    pub fn nudging(&self) -> Nudging {
        Nudging {
            beta: self.beta,
            variant: self.variant,
            form: self.form,
            output: self.output,
        }
    }
}

/// Recurrent and truncated backpropagation, in every mode and over-relaxed where the order bears it: two seeds in turn.
pub fn linear_recipe(seed: u64) -> Recipe {
    let (mode, omega) = [
        (Mode::Asynchronous, 1.0),
        (Mode::Synchronous, 1.0),
        (Mode::Forward, 1.0),
        (Mode::Backward, 1.0),
        (Mode::Coloured, 1.3),
        (Mode::Asynchronous, 0.7),
        (Mode::Synchronous, 0.5),
    ][seed as usize / 2 % 7];
    Recipe {
        mode,
        omega,
        form: NudgedPhase::Linear,
        is_truncated: seed.is_multiple_of(2),
        nudged: 5,
        cost: match seed % 3 {
            0 => CostFunction::Ce,
            _ => CostFunction::Mse,
        },
        ..Recipe::default()
    }
}

/// Every number that two backends must agree on.
pub struct Trace {
    pub values: Vec<(String, Vec<f64>)>,
}

/// Two training batches and what they leave behind.
pub fn train(
    backend: &mut dyn Backend,
    network: &Network,
    batches: &[Images],
    recipe: &Recipe,
) -> Result<Trace> {
    let mut values = Vec::new();
    let mut keep = |name: String, tensor: Vec<f64>| values.push((name, tensor));
    let rates: Vec<f64> = (0..network.parameter_count())
        .map(|i| 0.01 + 0.001 * i as f64)
        .collect();
    backend.set_optimizer(recipe.optimizer)?;
    for (b, batch) in batches.iter().enumerate() {
        backend.load_batch(&batch.images, &batch.labels, Start::Kept)?;
        let report = backend.free_phase(&recipe.relaxation(recipe.free))?;
        keep(
            format!("batch {b} change of the free phase"),
            vec![report.change],
        );
        let outcome = backend.outcome(recipe.cost)?;
        keep(format!("batch {b} energy"), outcome.energy);
        keep(format!("batch {b} cost"), outcome.cost);
        keep(
            format!("batch {b} prediction"),
            outcome.prediction.iter().map(|&p| p as f64).collect(),
        );
        keep(
            format!("batch {b} top5"),
            outcome
                .in_top5
                .iter()
                .map(|&p| f64::from(u8::from(p)))
                .collect(),
        );
        let nudged = recipe.relaxation(recipe.nudged);
        let report = match recipe.is_truncated {
            true => backend.truncated_backpropagation(recipe.cost, &nudged)?,
            false => backend.nudged_phases(&recipe.nudging(), recipe.cost, &nudged)?,
        };
        keep(
            format!("batch {b} change of the nudged phases"),
            vec![report.change],
        );
        use PhaseState::{First, Free, Second};
        let states: &[PhaseState] = match (recipe.is_truncated, recipe.form) {
            (true, _) => &[Free, Second],
            (false, NudgedPhase::Linear) => &[Free],
            (false, _) => &[Free, First, Second],
        };
        for &which in states {
            for (l, state) in backend.states(which)?.iter().enumerate() {
                keep(format!("batch {b} {which:?} layer {}", l + 1), flat(state));
            }
        }
        match (recipe.is_truncated, recipe.at_free_state) {
            (true, _) => {} // it left its gradient
            (false, true) => backend.estimate_gradient_at_free_state()?,
            (false, false) => backend.estimate_gradient()?,
        }
        for (name, tensor) in network
            .parameter_names()
            .iter()
            .zip(backend.gradient()?.tensors())
        {
            keep(format!("batch {b} gradient {name}"), flat(tensor));
        }
        backend.step(&rates, Some(MAX_NORM))?;
        for (name, tensor) in network
            .parameter_names()
            .iter()
            .zip(backend.parameters()?.tensors())
        {
            keep(format!("batch {b} {name}"), flat(tensor));
        }
    }
    Ok(Trace { values })
}

/// A feed-forward network of a random graph: widths that are no multiples of a tile, skip edges, pooling.
pub fn random_feed_forward(seed: u64) -> FeedForward {
    let attempts = (0..).map(|attempt| FeedForward::of(&random_network(1000 * seed + attempt)));
    let precision = eqprop_cuda::cuda::Format::F32;
    let optimizer = OptimizerConfig::Adam { weight_decay: 0.0 };
    let has_kernels = |model: &FeedForward| {
        eqprop_cuda::cuda::feed_forward_memory_need(model, precision, 1, optimizer).is_ok()
    };
    let mut attempts = attempts.filter(has_kernels);
    (attempts.next()).expect("one in a few graphs has edges for which there are kernels")
}

/// Training steps of a feed-forward network, an evaluation, and what they leave behind.
pub fn train_feed_forward(
    backend: &mut dyn feedforward::Backend,
    model: &FeedForward,
    batches: &[Images],
    optimizer: OptimizerConfig,
) -> Result<Trace> {
    let mut values = Vec::new();
    let mut keep = |name: String, tensor: Vec<f64>| values.push((name, tensor));
    let rates: Vec<f64> = (0..model.parameter_names().len())
        .map(|i| 0.01 + 0.001 * i as f64)
        .collect();
    backend.set_optimizer(optimizer)?;
    for (b, batch) in batches.iter().enumerate() {
        let outcome =
            backend.forward(&batch.images, &batch.labels, feedforward::NormMode::Train)?;
        keep(format!("batch {b} cost"), outcome.cost);
        keep(
            format!("batch {b} logits"),
            flat(&backend.logits()?.into_dyn()),
        );
        backend.backward()?;
        for (name, tensor) in (model.parameter_names().iter()).zip(backend.gradient()?.tensors()) {
            keep(format!("batch {b} gradient {name}"), flat(tensor));
        }
        backend.step(&rates)?;
        let state = backend.state()?;
        let names = model
            .parameter_names()
            .iter()
            .chain(model.statistic_names());
        let tensors = state.parameters.tensors().iter().chain(&state.statistics);
        for (name, tensor) in names.zip(tensors) {
            keep(format!("batch {b} {name}"), flat(tensor));
        }
    }
    let batch = &batches[0];
    backend.forward(
        &batch.images,
        &batch.labels,
        feedforward::NormMode::Evaluate,
    )?;
    keep(
        "evaluated logits".into(),
        flat(&backend.logits()?.into_dyn()),
    );
    Ok(Trace { values })
}

pub fn flat(tensor: &ArrayD<f64>) -> Vec<f64> {
    tensor.iter().copied().collect()
}

impl Trace {
    /// Leaves out what fp16 need not reproduce: near ties between outputs fall either way, and the change of a state ends
    /// at the rounding of its format.
    pub fn without_what_fp16_rounds_away(mut self) -> Self {
        self.leave_out_what_fp16_rounds_away();
        self
    }

    /// The same in place.
    pub fn leave_out_what_fp16_rounds_away(&mut self) {
        let rounded = ["prediction", "top5", "change"];
        (self.values).retain(|(name, _)| !rounded.iter().any(|r| name.contains(r)));
    }
}

/// Largest error relative to the tensor's largest value (and to `floor`, which keeps tiny tensors honest), and where.
pub fn worst(got: &Trace, want: &Trace, floor: impl Fn(&str) -> f64) -> (f64, String) {
    assert_eq!(got.values.len(), want.values.len());
    let mut worst = (0.0, String::from("nothing differs"));
    for ((name, got), (_, want)) in got.values.iter().zip(&want.values) {
        assert_eq!(got.len(), want.len(), "{name}");
        let scale = want.iter().fold(floor(name), |m, v| m.max(v.abs()));
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let error = if g == w { 0.0 } else { (g - w).abs() / scale };
            if error > worst.0 || error.is_nan() {
                worst = (error, format!("{name}[{i}]: {g} instead of {w}"));
                if error.is_nan() {
                    return (f64::INFINITY, worst.1);
                }
            }
        }
    }
    worst
}
