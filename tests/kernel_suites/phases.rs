//! Whole training steps through the fp32 kernels agree with the f64 reference, whatever the network.
//!
//! Tolerance: fp32 rounds each operation to 6e-8. Sums of up to some thousand terms and a dozen iterations bring that to a
//! few 1e-6 of a tensor's largest value. A gradient in the direct form is a difference of nearly equal sums divided by
//! 2 beta N, so its errors are judged against that of a sum of its own size: 1e-3 suffices to tell an index error, which is
//! of the size of the values themselves.

use crate::support::kernels::*;
use crate::support::networks;
use eqprop_cuda::cpu;
use eqprop_cuda::device::Precision;
use eqprop_cuda::network::{ActivationKind, Mode, Network, Pooling};
use eqprop_cuda::optim::OptimizerConfig;
use eqprop_cuda::phase::{CostFunction, NudgedPhase, OutputCondition, Variant};

const TOLERANCE: f64 = 1e-3;

fn check(network: &Network, seed: u64, n: usize, recipe: &Recipe) {
    let parameters = random_parameters(network, seed);
    let batches = [
        random_images(network, n, seed),
        random_images(network, n, seed + 1),
    ];
    let mut truth = cpu::backend::<f64>(network);
    let mut kernels = kernels(network, Precision::Fp32).unwrap();
    truth.set_parameters(&parameters).unwrap();
    kernels.set_parameters(&parameters).unwrap();
    let want = train(&mut *truth, network, &batches, recipe).unwrap();
    let got = train(&mut *kernels, network, &batches, recipe).unwrap();
    let (error, place) = worst(&got, &want, |name| match name {
        name if name.contains("gradient") => 0.01,
        name if name.contains("change") => 0.01,
        // The exact state of a layer may be zero.
        name if name.contains("layer") => 1e-3,
        _ => 0.0,
    });
    // AdamW divides a gradient by its own size, so the rounding of the smallest ones counts.
    let tolerance = match recipe.optimizer {
        OptimizerConfig::AdamW { .. } => 3.0 * TOLERANCE,
        _ => TOLERANCE,
    };
    assert!(
        error < tolerance,
        "seed {seed}, {n} examples, {recipe:?}\n{network}\n{error:e} at {place}"
    );
}

#[test]
fn a_training_step_of_hopfieldresnet13_matches_the_reference() {
    let network = preset(
        "hopfieldresnet13",
        [4, 6, 8, 9],
        3,
        10,
        ActivationKind::Relu6,
    );
    check(&network, 1, 2, &Recipe::default());
    let pair = Recipe {
        form: NudgedPhase::SumDifference,
        cost: CostFunction::Ce,
        ..Recipe::default()
    };
    check(&network, 2, 3, &pair);
}

#[test]
fn a_training_step_of_vgg5_matches_the_reference() {
    let network = preset("vgg5", [4, 6, 8, 9], 1, 10, ActivationKind::HardSigmoid);
    check(&network, 1, 2, &Recipe::default());
    let pair = Recipe {
        form: NudgedPhase::SumDifference,
        ..Recipe::default()
    };
    check(&network, 2, 3, &pair);
}

#[test]
fn training_steps_match_the_reference_for_random_networks() {
    for seed in 0..24 {
        let mut network = varied_network(seed);
        if seed % 4 == 2 {
            network = networks::unclipped(&network);
        }
        let recipe = Recipe {
            mode: [
                Mode::Asynchronous,
                Mode::Synchronous,
                Mode::Forward,
                Mode::Backward,
                Mode::Coloured,
            ][seed as usize % 5],
            omega: if seed % 5 == 4 { 1.5 } else { 1.0 },
            form: if seed % 2 == 0 {
                NudgedPhase::SumDifference
            } else {
                NudgedPhase::Direct
            },
            cost: if seed % 3 == 0 {
                CostFunction::Ce
            } else {
                CostFunction::Mse
            },
            variant: [Variant::Centered, Variant::Positive, Variant::Negative]
                [seed as usize / 2 % 3],
            optimizer: match seed % 4 {
                1 => OptimizerConfig::AdamW { weight_decay: 1e-2 },
                3 => OptimizerConfig::HeavyBall {
                    momentum: 0.9,
                    weight_decay: 1e-2,
                },
                _ => Recipe::default().optimizer,
            },
            free: 4 + seed as usize % 3,
            ..Recipe::default()
        };
        check(&network, seed, 1 + seed as usize % 5, &recipe);
    }
}

/// Contrastive and coupled learning, and the alternative formula of each.
#[test]
fn clamped_outputs_and_the_alternative_formula_match_the_reference() {
    for seed in 100..118 {
        let network = random_network(seed);
        let recipe = Recipe {
            mode: [
                Mode::Asynchronous,
                Mode::Synchronous,
                Mode::Forward,
                Mode::Backward,
                Mode::Coloured,
            ][seed as usize % 5],
            form: if seed % 2 == 0 {
                NudgedPhase::SumDifference
            } else {
                NudgedPhase::Direct
            },
            output: if seed % 6 < 4 {
                OutputCondition::Clamped
            } else {
                OutputCondition::Nudged
            },
            at_free_state: seed % 4 < 2,
            cost: if seed % 3 == 0 {
                CostFunction::Ce
            } else {
                CostFunction::Mse
            },
            variant: [Variant::Centered, Variant::Positive, Variant::Negative]
                [seed as usize / 2 % 3],
            ..Recipe::default()
        };
        check(&network, seed, 1 + seed as usize % 5, &recipe);
    }
}

/// Through clips, skip edges, max pooling, and edges of every kind.
#[test]
fn recurrent_and_truncated_backpropagation_match_the_reference() {
    for seed in 500..528 {
        let mut network = varied_network(seed);
        if seed % 8 > 5 {
            network = networks::unclipped(&network);
        }
        check(&network, seed, 1 + seed as usize % 4, &linear_recipe(seed));
    }
}

#[test]
fn recurrent_and_truncated_backpropagation_of_vgg5_match_the_reference() {
    let network = preset("vgg5", [4, 6, 8, 9], 1, 10, ActivationKind::HardSigmoid);
    for seed in [1, 2, 8, 9] {
        check(&network, seed, 2, &linear_recipe(seed));
    }
}

/// Alone and beside maxima, through every rule.
#[test]
fn average_pooling_matches_the_reference() {
    let pooling = [
        Pooling::None,
        Pooling::Average2x2,
        Pooling::Average2x2,
        Pooling::Max2x2,
    ];
    for seed in 600..616 {
        let network = varied_network_of(seed, &[1, 3, 5, 8, 9, 17, 33, 40], &pooling);
        let recipe = match seed % 4 {
            0 => Recipe {
                form: NudgedPhase::Direct,
                ..Recipe::default()
            },
            1 => Recipe {
                form: NudgedPhase::SumDifference,
                mode: Mode::Synchronous,
                at_free_state: seed % 8 == 1,
                ..Recipe::default()
            },
            _ => linear_recipe(seed),
        };
        check(&network, seed, 1 + seed as usize % 4, &recipe);
    }
}
