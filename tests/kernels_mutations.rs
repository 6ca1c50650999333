//! Deliberately broken kernels are noticed: this is a test of the tests.
//!
//! The emulation compiles the kernels with switches that break one thing each (`EQ_MUTATION` in `kernels/`). One test in
//! a process of its own, because the switch is global.
#![cfg(feature = "emulation")]

mod kernels_support;

use eqprop_cuda::cuda::{Precision, emulated, emulated_backend};
use eqprop_cuda::ep::NudgedPhase;
use eqprop_cuda::network::{Network, presets::ActivationKind};
use eqprop_cuda::reference;
use kernels_support::*;

const MUTATIONS: [(i32, &str, Precision); 12] = [
    (1, "every tap reads one row too low", Precision::Fp32),
    (
        2,
        "the mask of the left border is off by one",
        Precision::Fp32,
    ),
    (
        3,
        "a pair that is clipped is taken for one that is not",
        Precision::Fp32,
    ),
    (
        4,
        "no barrier between fetching and using a slice",
        Precision::Fp32,
    ),
    (
        5,
        "no barrier between using a slice and fetching the next",
        Precision::Fp32,
    ),
    (
        6,
        "no barrier between the stages of the tensor-core kernel",
        Precision::Fp16,
    ),
    (
        7,
        "the tensor-core kernel does not wait for its copies",
        Precision::Fp16,
    ),
    (
        8,
        "the weight gradient reads one pixel too many",
        Precision::Fp16,
    ),
    (
        9,
        "the weight gradient's tap is one column off",
        Precision::Fp32,
    ),
    (
        10,
        "the weight gradient is stored past the last channel",
        Precision::Fp32,
    ),
    (
        11,
        "unpooling forgets the free state's maximum",
        Precision::Fp32,
    ),
    (12, "no barrier in the sum of the change", Precision::Fp32),
];

/// The largest error over two training steps, or what the emulation complained of.
fn error_of(network: &Network, precision: Precision) -> Result<f64, String> {
    let recipe = Recipe {
        form: NudgedPhase::SumDifference,
        beta: 2.0,
        ..Recipe::default()
    };
    let parameters = random_parameters(network, 1);
    let batches = [random_images(network, 3, 1), random_images(network, 3, 2)];
    let mut truth = reference::backend(network, reference::Precision::Fp64);
    truth.set_parameters(&parameters).unwrap();
    let want = train(&mut *truth, network, &batches, &recipe).unwrap();
    let run = || {
        let mut kernels = emulated_backend(network, precision)?;
        kernels.set_parameters(&parameters)?;
        train(&mut *kernels, network, &batches, &recipe)
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

#[test]
fn every_deliberate_defect_is_noticed() {
    let networks = [
        preset(
            "hopfieldresnet13",
            [4, 6, 8, 9],
            3,
            10,
            ActivationKind::HardSigmoid,
        ),
        preset("vgg5", [4, 6, 8, 9], 1, 10, ActivationKind::HardSigmoid),
    ];
    let tolerance = |precision| match precision {
        Precision::Fp32 => 1e-3,
        Precision::Fp16 => 2e-2,
    };
    let worst_of = |precision| -> Result<f64, String> {
        let networks = if precision == Precision::Fp16 {
            &networks[..1]
        } else {
            &networks[..]
        };
        (networks.iter()).try_fold(0.0, |worst, n| Ok(error_of(n, precision)?.max(worst)))
    };
    for precision in [Precision::Fp32, Precision::Fp16] {
        let error = worst_of(precision).unwrap();
        assert!(
            error < tolerance(precision),
            "{precision:?} without a defect: {error}"
        );
    }
    for (number, defect, precision) in MUTATIONS {
        emulated::set_mutation(number);
        let outcome = worst_of(precision);
        emulated::set_mutation(0);
        match outcome {
            Ok(error) => assert!(
                error > tolerance(precision),
                "{defect} (mutation {number}) went unnoticed: error {error:e}"
            ),
            Err(complaint) => assert!(complaint.contains("kernel"), "{complaint}"),
        }
    }
}
