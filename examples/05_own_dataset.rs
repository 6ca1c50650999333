//! Data of one's own: a batch is an array of images and a list of labels, of whatever size the network's input has.
//!
//!     cargo run --release --example 05_own_dataset

use eqprop_cuda::cpu;
use eqprop_cuda::network::parameters::initialise;
use eqprop_cuda::network::{ActivationKind, Mode, NetworkDescription};
use eqprop_cuda::optim::{MAX_NORM, OptimizerConfig};
use eqprop_cuda::phase::{
    CostFunction, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use ndarray::{Array4, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NETWORK: &str = r#"
    name = "bars"
    layer = [
        { name = "image", shape = [1, 8, 8] },
        { name = "edges", shape = [8, 4, 4] },
        { name = "classes", shape = [2] },
    ]
    edge = [
        { from = "image", to = "edges", kind = "conv-max-pool", kernel = 3, padding = 1, gain = 0.7 },
        { from = "edges", to = "classes", kind = "dense", gain = 0.7 },
    ]
"#;
const COST: CostFunction = CostFunction::Mse;
const NUDGING: Nudging = Nudging {
    beta: 0.2,
    variant: Variant::Centered,
    form: NudgedPhase::SumDifference,
    output: OutputCondition::Nudged,
};

/// Noisy images of a bar: label 0 lies, label 1 stands.
fn bars(n: usize, rng: &mut ChaCha8Rng) -> (Array4<f32>, Vec<usize>) {
    let mut images = Array4::from_shape_simple_fn((n, 1, 8, 8), || rng.random_range(-0.5..0.5));
    let labels: Vec<usize> = (0..n).map(|_| rng.random_range(0..2)).collect();
    for (i, &label) in labels.iter().enumerate() {
        let at = rng.random_range(0..8);
        let bar = match label {
            0 => s![i, 0, at, ..],
            _ => s![i, 0, .., at],
        };
        images.slice_mut(bar).mapv_inplace(|v| v + 1.0);
    }
    (images, labels)
}

fn main() -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let network =
        NetworkDescription::from_toml(NETWORK)?.build(ActivationKind::HardSigmoid, &mut rng)?;
    let mut backend = cpu::backend::<f32>(&network);
    backend.set_parameters(&initialise(&network, 0))?;
    backend.set_optimizer(OptimizerConfig::Adam { weight_decay: 0.0 })?;
    let learning_rates = vec![0.01; network.parameter_count()];
    let relaxation = |iterations| Relaxation {
        mode: Mode::Coloured,
        omega: 1.2,
        iterations,
        tolerance: None,
    };
    for step in 0..=200 {
        let (images, labels) = bars(32, &mut rng);
        backend.load_batch(&images, &labels, Start::Zero)?;
        backend.free_phase(&relaxation(20))?;
        let answers = backend.outcome(COST)?.prediction;
        let right = answers.iter().zip(&labels).filter(|(a, b)| a == b).count();
        if step % 40 == 0 {
            println!("step {step:>3}: {right} of 32 new images right");
        }
        backend.nudged_phases(&NUDGING, COST, &relaxation(10))?;
        backend.estimate_gradient()?;
        backend.step(&learning_rates, Some(MAX_NORM))?;
    }
    Ok(())
}
