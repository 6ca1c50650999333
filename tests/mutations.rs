//! Deliberately broken kernels are noticed: this is a test of the tests.
//!
//! The emulation compiles the kernels with switches that break one thing each (`kernels/defects.cuh`). One test in
//! a process of its own, because the switch is global.
#![cfg(feature = "emulation")]

mod support;

use eqprop_cuda::cpu;
use eqprop_cuda::cuda::{Precision, emulated, emulated_backend, emulated_feed_forward};
use eqprop_cuda::device::{self, Device};
use eqprop_cuda::feedforward::FeedForward;
use eqprop_cuda::network::{ActivationKind, Network, Pooling};
use eqprop_cuda::optim::OptimizerConfig;
use eqprop_cuda::phase::{CostFunction, NudgedPhase};
use support::kernels::*;

/// The training steps that have to notice a defect.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Steps {
    Fp32,
    Fp16,
    Backprop,
    /// recurrent and truncated backpropagation
    Linear,
    LinearFp16,
    /// equilibrium propagation with average pooling
    Averages,
}
use Steps::*;

const MUTATIONS: [(i32, &str, Steps); 31] = [
    (1, "every tap reads one row too low", Fp32),
    (2, "the mask of the left border is off by one", Fp32),
    (3, "a clipped pair is taken for one that is not", Fp32),
    (4, "no barrier between fetching and using a slice", Fp32),
    (5, "no barrier between using and fetching a slice", Fp32),
    (6, "no barrier between tensor-core stages", Fp16),
    (7, "the tensor-core kernel does not await copies", Fp16),
    (8, "the weight gradient reads one pixel too many", Fp16),
    (9, "the weight gradient's tap is one column off", Fp32),
    (10, "the weight gradient stores too many channels", Fp32),
    (11, "unpooling forgets the free state's maximum", Fp32),
    (12, "no barrier in the sum of the change", Fp32),
    (13, "no barrier between sums over lanes", Backprop),
    (14, "no barrier in the sum over lanes", Backprop),
    (15, "a gradient goes to the next of a window", Backprop),
    (16, "normalisation passes on its variance", Backprop),
    (17, "the running variance is biased", Backprop),
    (18, "Adam forgets the weight decay", Backprop),
    (19, "the loss takes the next class for right", Backprop),
    (20, "nudging has the wrong sign", Fp32),
    (21, "half of a pair's cross-entropy is lost", Fp32),
    (22, "the energy lacks bias and input", Fp32),
    (23, "the last split of a gradient is forgotten", Fp32),
    (24, "parity classes all begin in the first row", Fp32),
    (25, "padding is fetched from an odd address", Fp16),
    (26, "the old state is not awaited", Fp16),
    (27, "a clipped unit responds", Linear),
    (27, "a clipped unit responds", LinearFp16),
    (28, "a response looks for maxima of its own", Linear),
    (29, "the last part of a sum over iterations is all", Linear),
    (30, "the mean of a window goes down whole", Averages),
];

/// What a defect may not reach, and correct kernels stay below.
fn tolerance(steps: Steps) -> f64 {
    match steps {
        Fp32 | Linear | Backprop | Averages => 1e-3,
        Fp16 | LinearFp16 => 2e-2,
    }
}

/// The largest error over two training steps of equilibrium propagation, or what the emulation complained of.
fn ep_error(network: &Network, cost: CostFunction, precision: Precision) -> Result<f64, String> {
    let recipe = Recipe {
        form: NudgedPhase::SumDifference,
        cost,
        beta: 2.0,
        ..Recipe::default()
    };
    error(network, &recipe, precision)
}

/// The same of recurrent and of truncated backpropagation.
fn linear_error(network: &Network, precision: Precision) -> Result<f64, String> {
    let recipe = |is_truncated| Recipe {
        form: NudgedPhase::Linear,
        is_truncated,
        ..Recipe::default()
    };
    let recurrent = error(network, &recipe(false), precision)?;
    Ok(recurrent.max(error(network, &recipe(true), precision)?))
}

fn error(network: &Network, recipe: &Recipe, precision: Precision) -> Result<f64, String> {
    let parameters = random_parameters(network, 1);
    let batches = [random_images(network, 3, 1), random_images(network, 3, 2)];
    let mut truth = cpu::backend(network, cpu::Precision::Fp64);
    truth.set_parameters(&parameters).unwrap();
    let want = train(&mut *truth, network, &batches, recipe).unwrap();
    let run = || {
        let mut kernels = emulated_backend(network, precision)?;
        kernels.set_parameters(&parameters)?;
        train(&mut *kernels, network, &batches, recipe)
    };
    let got = run().map_err(|e| e.to_string())?;
    let (got, want) = match precision {
        Precision::Fp32 => (got, want),
        Precision::Fp16 => (
            got.without_what_fp16_rounds_away(),
            want.without_what_fp16_rounds_away(),
        ),
    };
    Ok(worst(&got, &want, |_| 0.1).0)
}

/// The same of backpropagation.
fn feed_forward_error(model: &FeedForward) -> Result<f64, String> {
    let adam = OptimizerConfig::Adam { weight_decay: 0.1 };
    let state = model.initialise(1);
    let batches = [1, 2].map(|seed| random_images(model.network(), 5, seed));
    let mut truth = (Device::Cpu.feed_forward(model, device::Precision::Fp64)).unwrap();
    truth.set_state(&state).unwrap();
    let want = train_feed_forward(&mut *truth, model, &batches, adam).unwrap();
    let run = || {
        let mut kernels = emulated_feed_forward(model, Precision::Fp32)?;
        kernels.set_state(&state)?;
        train_feed_forward(&mut *kernels, model, &batches, adam)
    };
    let got = run().map_err(|e: anyhow::Error| e.to_string())?;
    Ok(worst(&got, &want, |_| 0.1).0)
}

#[test]
fn every_deliberate_defect_is_noticed() {
    let channels = [4, 6, 8, 9];
    let resnet13 = preset(
        "hopfieldresnet13",
        channels,
        3,
        10,
        ActivationKind::HardSigmoid,
    );
    let vgg5 = preset("vgg5", channels, 1, 10, ActivationKind::HardSigmoid);
    let mut edges = vgg5.edges().to_vec();
    for edge in edges.iter_mut().filter(|e| e.pooling != Pooling::None) {
        edge.pooling = Pooling::Average2x2;
    }
    let averages = Network::new("averages", vgg5.layers().to_vec(), edges).unwrap();
    let models = [("resnet13", 3), ("vgg5", 1)]
        .map(|(name, inputs)| FeedForward::preset(name, inputs, 10, channels).unwrap());
    let worst_of = |steps| -> Result<f64, String> {
        match steps {
            Fp32 => {
                let error = ep_error(&resnet13, CostFunction::Mse, Precision::Fp32)?;
                Ok(error.max(ep_error(&vgg5, CostFunction::Ce, Precision::Fp32)?))
            }
            Fp16 => ep_error(&resnet13, CostFunction::Mse, Precision::Fp16),
            Linear => {
                let error = linear_error(&resnet13, Precision::Fp32)?;
                Ok(error.max(linear_error(&vgg5, Precision::Fp32)?))
            }
            Averages => ep_error(&averages, CostFunction::Mse, Precision::Fp32),
            LinearFp16 => linear_error(&resnet13, Precision::Fp16),
            Backprop => {
                (models.iter()).try_fold(0.0, |worst, m| Ok(feed_forward_error(m)?.max(worst)))
            }
        }
    };
    for steps in [Fp32, Fp16, Backprop, Linear, LinearFp16, Averages] {
        let error = worst_of(steps).unwrap();
        assert!(
            error < tolerance(steps),
            "{steps:?} without a defect: {error}"
        );
    }
    for (number, defect, steps) in MUTATIONS {
        emulated::set_mutation(number);
        let outcome = worst_of(steps);
        emulated::set_mutation(0);
        match outcome {
            Ok(error) => assert!(
                error > tolerance(steps),
                "{defect} (mutation {number}) went unnoticed: error {error:e}"
            ),
            Err(complaint) => assert!(complaint.contains("kernel"), "{complaint}"),
        }
    }
}
