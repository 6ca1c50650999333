//! Promises of the relaxation on the CPU backend.

use crate::support::networks::{
    cosine, random_batch, ready_backend, relaxation, rng, small_network,
};
use eqprop_cuda::Error;
use eqprop_cuda::cpu::{Real, backend};
use eqprop_cuda::network::presets::{PresetOptions, build};
use eqprop_cuda::network::{ActivationKind, Network, ParameterSet, parameters};
use eqprop_cuda::optim::{MAX_NORM, OptimizerConfig};
use eqprop_cuda::phase::{
    Backend, CostFunction, Mode, NudgedPhase, Nudging, OutputCondition, PhaseState, Relaxation,
    Start, Variant,
};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use rand::RngExt;

const MODES: [Mode; 5] = [
    Mode::Asynchronous,
    Mode::Synchronous,
    Mode::Forward,
    Mode::Backward,
    Mode::Coloured,
];

fn distance(a: &ParameterSet<f64>, b: &ParameterSet<f64>) -> f64 {
    let pairs = a.tensors().iter().zip(b.tensors());
    let squares: f64 = pairs.map(|(a, b)| (a - b).mapv(|v| v * v).sum()).sum();
    squares.sqrt() / b.norm()
}

fn narrow_resnet() -> Network {
    let options = PresetOptions {
        input_channels: 1,
        classes: 10,
        channels: [4, 4, 8, 8],
        activation: ActivationKind::Relu6,
        gains: None,
    };
    build("hopfieldresnet13", &options, &mut rng(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// In f64 the two forms are the same phases: states and gradient agree to rounding, through clips and max pooling.
    #[test]
    fn sum_and_difference_relaxes_the_same_phases_as_direct(
        seed in 0u64..1_000_000,
        mode in prop::sample::select(MODES.to_vec()),
        variant in prop::sample::select(vec![Variant::Centered, Variant::Positive, Variant::Negative]),
        cost in prop::sample::select(vec![CostFunction::Mse, CostFunction::Ce]),
    ) {
        let mut rng = rng(seed);
        let network = small_network(&mut rng);
        let mut backend = ready_backend::<f64>(&network, &mut rng);
        let n = rng.random_range(1..=5);
        let (images, labels) = random_batch(&network, n, &mut rng);
        let omega = if mode == Mode::Coloured { 1.5 } else { 1.0 };
        let relaxation = |iterations| Relaxation { omega, ..relaxation(mode, iterations) };

        let mut run = |form| {
            backend.load_batch(&images, &labels, Start::Zero).unwrap();
            backend.free_phase(&relaxation(6)).unwrap();
            let nudging = Nudging { beta: 0.5, variant, form, output: OutputCondition::Nudged  };
            backend.nudged_phases(&nudging, cost, &relaxation(3)).unwrap();
            backend.estimate_gradient().unwrap();
            (backend.states(PhaseState::Second).unwrap(), backend.gradient().unwrap())
        };
        let (direct, direct_gradient) = run(NudgedPhase::Direct);
        let (pair, pair_gradient) = run(NudgedPhase::SumDifference);
        for (a, b) in direct.iter().zip(&pair) {
            prop_assert!((a - b).iter().all(|d| d.abs() < 1e-10), "states differ");
        }
        prop_assert!(distance(&pair_gradient, &direct_gradient) < 1e-8, "gradients differ");
    }

    /// All modes have the same fixed points.
    #[test]
    fn every_mode_stays_at_a_fixed_point(
        seed in 0u64..1_000_000,
        mode in prop::sample::select(MODES.to_vec()),
    ) {
        let mut rng = rng(seed);
        let network = small_network(&mut rng);
        let mut backend = ready_backend::<f64>(&network, &mut rng);
        let (images, labels) = random_batch(&network, 2, &mut rng);
        backend.load_batch(&images, &labels, Start::Zero).unwrap();
        let to_rest = Relaxation { tolerance: Some(1e-13), ..relaxation(Mode::Coloured, 2000) };
        let report = backend.free_phase(&to_rest).unwrap();
        prop_assume!(report.change < 1e-13);
        let rest = backend.states(PhaseState::Free).unwrap();
        backend.free_phase(&relaxation(mode, 3)).unwrap();
        for (a, b) in rest.iter().zip(&backend.states(PhaseState::Free).unwrap()) {
            prop_assert!((a - b).iter().all(|d| d.abs() < 1e-9), "{mode:?} left the fixed point");
        }
    }
}

/// Examples do not interact, and sums are taken in a fixed order: nothing depends on the number of threads.
#[test]
fn results_are_identical_on_any_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let network = narrow_resnet();
            let mut backend = ready_backend::<f32>(&network, &mut rng(3));
            backend
                .set_optimizer(OptimizerConfig::Sgd {
                    momentum: 0.9,
                    weight_decay: 1e-4,
                })
                .unwrap();
            let (images, labels) = random_batch(&network, 11, &mut rng(4));
            for _ in 0..2 {
                backend.load_batch(&images, &labels, Start::Kept).unwrap();
                backend
                    .free_phase(&relaxation(Mode::Asynchronous, 5))
                    .unwrap();
                let nudging = Nudging {
                    beta: 0.1,
                    variant: Variant::Centered,
                    form: NudgedPhase::SumDifference,
                    output: OutputCondition::Nudged,
                };
                let nudged = relaxation(Mode::Asynchronous, 3);
                backend
                    .nudged_phases(&nudging, CostFunction::Mse, &nudged)
                    .unwrap();
                backend.estimate_gradient().unwrap();
                backend
                    .step(&vec![0.1; network.parameter_count()], Some(MAX_NORM))
                    .unwrap();
            }
            backend.parameters().unwrap()
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn a_training_batch_starts_from_the_second_nudged_state_of_the_one_before() {
    let network = narrow_resnet();
    let mut backend = ready_backend::<f64>(&network, &mut rng(1));
    let (images, labels) = random_batch(&network, 5, &mut rng(2));
    let train = |backend: &mut dyn Backend| {
        let nudging = Nudging {
            beta: 0.3,
            variant: Variant::Centered,
            form: NudgedPhase::SumDifference,
            output: OutputCondition::Nudged,
        };
        backend.free_phase(&relaxation(Mode::Forward, 3)).unwrap();
        backend
            .nudged_phases(&nudging, CostFunction::Mse, &relaxation(Mode::Forward, 2))
            .unwrap();
        backend.states(PhaseState::Second).unwrap()
    };
    backend.load_batch(&images, &labels, Start::Kept).unwrap();
    let zero = backend.states(PhaseState::Free).unwrap();
    assert!(zero.iter().flatten().all(|&s| s == 0.0), "nothing was kept");
    let second = train(&mut *backend);
    assert!(second.iter().flatten().any(|&s| s != 0.0));

    // An evaluation in between does not touch it.
    let (other, other_labels) = random_batch(&network, 3, &mut rng(3));
    backend
        .load_batch(&other, &other_labels, Start::Zero)
        .unwrap();
    backend.free_phase(&relaxation(Mode::Forward, 2)).unwrap();

    backend.load_batch(&images, &labels, Start::Kept).unwrap();
    assert_eq!(backend.states(PhaseState::Free).unwrap(), second);

    // A batch of another size starts from zero.
    train(&mut *backend);
    backend
        .load_batch(&other, &other_labels, Start::Kept)
        .unwrap();
    let states = backend.states(PhaseState::Free).unwrap();
    assert!(states.iter().flatten().all(|&s| s == 0.0));
}

#[test]
fn a_tolerance_ends_the_phase_early_and_the_count_stays_the_bound() {
    let network = narrow_resnet();
    let mut backend = ready_backend::<f32>(&network, &mut rng(1));
    let (images, labels) = random_batch(&network, 4, &mut rng(2));
    let phase = |backend: &mut dyn Backend, tolerance, iterations| {
        backend.load_batch(&images, &labels, Start::Zero).unwrap();
        backend
            .free_phase(&Relaxation {
                tolerance,
                ..relaxation(Mode::Asynchronous, iterations)
            })
            .unwrap()
    };
    let full = phase(&mut *backend, None, 60);
    assert_eq!(full.iterations, 60);
    let early = phase(&mut *backend, Some(1e-2), 60);
    assert!(early.iterations < 60 && early.change < 1e-2, "{early:?}");
    let before = phase(&mut *backend, None, early.iterations - 1);
    assert!(before.change >= 1e-2, "it could have ended at {before:?}");
}

/// Over-relaxation diverges on the published order, whose second group holds neighbours; the safeguard notices, and the phase comes
/// to rest. On the coloured order the same network needs no help.
#[test]
fn the_safeguard_lowers_omega_where_over_relaxation_diverges() {
    let network = narrow_resnet();
    let mut weights = parameters::initialise(&network, 5);
    weights.tensors_mut().iter_mut().for_each(|t| *t *= 0.75);
    let mut backend = backend::<f32>(&network);
    backend.set_parameters(&weights).unwrap();
    let (images, labels) = random_batch(&network, 4, &mut rng(2));
    let mut phase = |mode| {
        backend.load_batch(&images, &labels, Start::Zero).unwrap();
        let relaxation = Relaxation {
            omega: 1.5,
            ..relaxation(mode, 200)
        };
        backend.free_phase(&relaxation).unwrap()
    };
    let published = phase(Mode::Asynchronous);
    assert!(published.omega < 1.5, "{published:?}");
    assert!(published.change < 1e-3, "{published:?}");
    let coloured = phase(Mode::Coloured);
    assert_eq!(coloured.omega, 1.5, "{coloured:?}");
    assert!(coloured.change < 1e-3, "{coloured:?}");
}

/// Where no two layers of a group are joined, no over-relaxation below 2 raises `E + |s|^2 / 2`, whose minima are the fixed points,
/// though the states may speed up on their way past a saddle: nothing to be safeguarded against.
#[test]
fn over_relaxation_of_unjoined_layers_always_descends_and_is_never_eased() {
    let mut faster = 0;
    for seed in 0..60 {
        let mut rng = rng(seed);
        let network = small_network(&mut rng);
        let mut weights = parameters::initialise(&network, seed);
        let scale = 1.0 + (seed % 4) as f64;
        weights.tensors_mut().iter_mut().for_each(|t| *t *= scale);
        let mut backend = backend::<f64>(&network);
        backend.set_parameters(&weights).unwrap();
        let (images, labels) = random_batch(&network, 2, &mut rng);
        let mode = [Mode::Coloured, Mode::Forward][seed as usize / 4 % 2];
        let mut least: Option<(f64, f64)> = None;
        for iterations in 1..16 {
            backend.load_batch(&images, &labels, Start::Zero).unwrap();
            let relaxation = Relaxation {
                omega: 1.9,
                ..relaxation(mode, iterations)
            };
            let report = backend.free_phase(&relaxation).unwrap();
            assert_eq!(report.omega, 1.9, "seed {seed}, {report:?}");
            let outcome = backend.outcome(CostFunction::Mse).unwrap();
            let states = backend.states(PhaseState::Free).unwrap();
            let squares: f64 = states.iter().flatten().map(|s| s * s).sum();
            let height = outcome.energy.iter().sum::<f64>() + squares / 2.0;
            if let Some((change, before)) = least {
                let rounding = 1e-12 * before.abs();
                assert!(
                    height <= before + rounding,
                    "seed {seed}, iteration {iterations}: from {before} to {height}"
                );
                faster += usize::from(iterations > 4 && report.change > 1.5 * change);
            }
            let change = least.map_or(report.change, |(change, _)| change.min(report.change));
            least = Some((change, height));
        }
    }
    assert!(faster > 0, "no phase put it to the test");
}

/// The gradient that phases in this form estimate with a beta that is far too small for one of them in f32.
fn gradient_at_small_beta<T: Real>(form: NudgedPhase) -> ParameterSet<f64> {
    let network = narrow_resnet();
    let mut backend = ready_backend::<T>(&network, &mut rng(7));
    let (images, labels) = random_batch(&network, 4, &mut rng(8));
    backend.load_batch(&images, &labels, Start::Zero).unwrap();
    backend.free_phase(&relaxation(Mode::Coloured, 80)).unwrap();
    let nudging = Nudging {
        beta: 1e-7,
        variant: Variant::Centered,
        form,
        output: OutputCondition::Nudged,
    };
    let nudged = relaxation(Mode::Coloured, 20);
    backend
        .nudged_phases(&nudging, CostFunction::Mse, &nudged)
        .unwrap();
    backend.estimate_gradient().unwrap();
    backend.gradient().unwrap()
}

/// The reason for the sum-and-difference form: at a small beta, f32 loses the direct gradient but not this one.
#[test]
fn sum_and_difference_keeps_the_gradient_where_direct_phases_lose_it() {
    let truth = gradient_at_small_beta::<f64>(NudgedPhase::SumDifference);
    let direct = cosine(&gradient_at_small_beta::<f32>(NudgedPhase::Direct), &truth);
    let pair = cosine(
        &gradient_at_small_beta::<f32>(NudgedPhase::SumDifference),
        &truth,
    );
    assert!(pair > 0.999_99, "sum and difference: {pair}");
    assert!(
        direct < 0.999,
        "direct phases should have lost it: {direct}"
    );
}

#[test]
fn two_phases_that_would_be_the_same_are_refused() {
    let mut rng = rng(3);
    let network = small_network(&mut rng);
    let mut backend = ready_backend::<f64>(&network, &mut rng);
    let (images, labels) = random_batch(&network, 2, &mut rng);
    backend.load_batch(&images, &labels, Start::Zero).unwrap();
    let relaxation = relaxation(Mode::Asynchronous, 2);
    backend.free_phase(&relaxation).unwrap();
    for output in [OutputCondition::Nudged, OutputCondition::Clamped] {
        let nudging = Nudging {
            beta: 0.0,
            variant: Variant::Centered,
            form: NudgedPhase::Direct,
            output,
        };
        let error = (backend.nudged_phases(&nudging, CostFunction::Mse, &relaxation)).unwrap_err();
        assert!(matches!(error, Error::NoNudging), "{error}");
    }
}

#[test]
fn an_empty_state_to_start_from_is_refused() {
    let network = small_network(&mut rng(3));
    let mut backend = backend::<f64>(&network);
    let of_layer = |l: usize, images: usize| {
        let shape = network.layers()[l].shape;
        ArrayD::zeros(IxDyn(&[images, shape.channels, shape.height, shape.width]))
    };
    for empty in [ArrayD::zeros(IxDyn(&[0])), of_layer(1, 0)] {
        let mut state: Vec<_> = network.free_layers().map(|l| of_layer(l, 2)).collect();
        backend.set_kept_state(Some(state.clone())).unwrap();
        state[0] = empty;
        let error = backend.set_kept_state(Some(state)).unwrap_err().to_string();
        assert!(error.contains("layer 1 is empty"), "{error}");
    }
}
