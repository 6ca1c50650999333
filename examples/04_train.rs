//! A training loop of one's own: batches, phases, gradient, step, and the test error after each epoch.
//!
//!     cargo run --release --example 04_train

use eqprop_cuda::cpu;
use eqprop_cuda::data::{Dataset, DatasetName, Loader, LoaderOptions, Shard, Source, load};
use eqprop_cuda::network::parameters::initialise;
use eqprop_cuda::network::{ActivationKind, Mode, NetworkDescription};
use eqprop_cuda::optim::{MAX_NORM, OptimizerConfig};
use eqprop_cuda::phase::*;
use rand::SeedableRng;
use std::sync::Arc;

const NAME: DatasetName = DatasetName::FashionMnistMini;
/// Convolutions with and without max pooling, a skip edge, a dense head: docs/networks.md describes the file.
const NETWORK: &str = include_str!("networks/branches.toml");
const COST: CostFunction = CostFunction::Mse;
const NUDGING: Nudging = Nudging {
    beta: 0.1,
    variant: Variant::Centered,
    form: NudgedPhase::SumDifference,
    output: OutputCondition::Nudged,
};

fn loader(dataset: Dataset, shuffle: bool) -> Loader {
    let options = LoaderOptions {
        batch_size: 25,
        shuffle,
        augment: shuffle.then(|| NAME.augmentation()),
        normalization: NAME.normalization(),
        seed: 0,
        threads: 1,
        prefetch: 2,
        shard: Shard::WHOLE,
    };
    Loader::new(Arc::new(dataset), options)
}

fn relaxation(iterations: usize) -> Relaxation {
    Relaxation {
        mode: Mode::Coloured,
        omega: 1.6,
        iterations,
        tolerance: None,
    }
}

fn main() -> anyhow::Result<()> {
    let data = load(NAME, &Source::default())?;
    let training = loader(data.train.truncated(1000), true);
    let test = loader(data.test, false);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let network = NetworkDescription::from_toml(NETWORK)?.build(ActivationKind::Relu6, &mut rng)?;
    let mut backend = cpu::backend::<f32>(&network);
    backend.set_parameters(&initialise(&network, 0))?;
    backend.set_optimizer(OptimizerConfig::Adam { weight_decay: 0.0 })?;
    let learning_rates = vec![3e-3; network.parameter_count()];

    for epoch in 0..3 {
        for batch in training.epoch(epoch, 0) {
            backend.load_batch(&batch.images, &batch.labels, Start::Kept)?;
            backend.free_phase(&relaxation(15))?;
            backend.nudged_phases(&NUDGING, COST, &relaxation(8))?;
            backend.estimate_gradient()?;
            backend.step(&learning_rates, Some(MAX_NORM))?;
        }
        let mut wrong = 0;
        for batch in test.epoch(0, 0) {
            backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
            backend.free_phase(&relaxation(15))?;
            let outcome = backend.outcome(COST)?;
            let pairs = outcome.prediction.iter().zip(&batch.labels);
            wrong += pairs.filter(|(answer, label)| answer != label).count();
        }
        let error = wrong as f64 / test.examples() as f64;
        println!("epoch {}: test error {error:.3}", epoch + 1);
    }
    Ok(())
}
