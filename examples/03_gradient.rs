//! How good is the gradient of equilibrium propagation? Estimates at several beta, against the true gradient of the cost.
//!
//!     cargo run --release --example 03_gradient

use eqprop_cuda::cpu;
use eqprop_cuda::data::{Batch, DatasetName, Source, load, normalize};
use eqprop_cuda::diagnose::{agreement, true_gradient};
use eqprop_cuda::network::parameters::initialise;
use eqprop_cuda::network::{ActivationKind, Mode, NetworkDescription};
use eqprop_cuda::phase::*;
use ndarray::Array4;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Convolutions with and without max pooling, a skip edge, a dense head: docs/networks.md describes the file.
const NETWORK: &str = include_str!("networks/branches.toml");
const COST: CostFunction = CostFunction::Mse;
const ORDER: (Mode, f64) = (Mode::Coloured, 1.4);

fn main() -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let network = NetworkDescription::from_toml(NETWORK)?.build(ActivationKind::Relu6, &mut rng)?;
    let parameters = initialise(&network, 0);

    // Four of the images that are inside the program.
    let data = load(DatasetName::FashionMnistMini, &Source::default())?.train;
    let normalization = DatasetName::FashionMnistMini.normalization();
    let pixels: Vec<f32> = (0..4)
        .flat_map(|i| normalize(&data.image(i), &normalization))
        .collect();
    let batch = Batch {
        index: 0,
        images: Array4::from_shape_vec((4, 1, 32, 32), pixels)?,
        labels: data.labels[..4].iter().map(|&label| label.into()).collect(),
    };

    // The slope of the cost at the free fixed point, by implicit differentiation in f64.
    let truth = true_gradient(&network, &parameters, &batch, COST, ORDER)?;
    println!(
        "true gradient: norm {:.6}, converged: {}",
        truth.gradient.norm(),
        truth.has_converged()
    );

    let relaxation = |iterations| Relaxation {
        mode: ORDER.0,
        omega: ORDER.1,
        iterations,
        tolerance: None,
    };
    let mut backend = cpu::backend::<f64>(&network);
    backend.set_parameters(&parameters)?;
    println!("beta     variant     1 - cosine   norm / true norm");
    for beta in [0.5, 0.1, 0.01] {
        for variant in [Variant::Centered, Variant::Positive] {
            backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
            backend.free_phase(&relaxation(200))?;
            let form = NudgedPhase::SumDifference;
            backend.nudged_phases(
                &Nudging {
                    beta,
                    variant,
                    form,
                    output: OutputCondition::Nudged,
                },
                COST,
                &relaxation(200),
            )?;
            backend.estimate_gradient()?;
            let found = agreement(backend.gradient()?.tensors(), truth.gradient.tensors());
            let (angle, norms) = (found.one_minus_cosine, found.norm_ratio);
            println!(
                "{beta:<8} {:<10} {angle:>11.1e} {norms:>18.5}",
                format!("{variant:?}")
            );
        }
    }
    Ok(())
}
