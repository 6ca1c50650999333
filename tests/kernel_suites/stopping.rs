//! What is decided on the device is what the reference decides: when a phase ends and when omega falls back; and the same
//! seed gives the same bits.

use crate::support::kernels::*;
use eqprop_cuda::cpu;
use eqprop_cuda::cuda::{self, CudaBackend};
use eqprop_cuda::device::Precision;
use eqprop_cuda::network::{
    Activation, ActivationKind, Convolution, LinearMap, Mode, Network, Shape,
};
use eqprop_cuda::optim::MAX_NORM;
use eqprop_cuda::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, PhaseReport, PhaseState,
    Relaxation, Start, Variant,
};
use std::sync::Arc;

fn network() -> Network {
    preset(
        "hopfieldresnet13",
        [4, 6, 8, 9],
        3,
        10,
        ActivationKind::Relu6,
    )
}

fn phases(
    backend: &mut dyn Backend,
    free: Relaxation,
    nudged: Relaxation,
    form: NudgedPhase,
) -> [PhaseReport; 2] {
    let network = network();
    let batch = random_images(&network, 3, 5);
    backend
        .set_parameters(&random_parameters(&network, 5))
        .unwrap();
    backend
        .load_batch(&batch.images, &batch.labels, Start::Zero)
        .unwrap();
    let free = backend.free_phase(&free).unwrap();
    let nudging = Nudging {
        beta: 0.2,
        variant: Variant::Centered,
        form,
        output: OutputCondition::Nudged,
    };
    [
        free,
        backend
            .nudged_phases(&nudging, CostFunction::Mse, &nudged)
            .unwrap(),
    ]
}

fn compare(free: Relaxation, nudged: Relaxation, form: NudgedPhase) -> [PhaseReport; 2] {
    let want = phases(&mut *cpu::backend::<f64>(&network()), free, nudged, form);
    let got = phases(
        &mut *kernels(&network(), Precision::Fp32).unwrap(),
        free,
        nudged,
        form,
    );
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(
            (got.iterations, got.omega),
            (want.iterations, want.omega),
            "{got:?} instead of {want:?}"
        );
        assert!(
            (got.change - want.change).abs() <= 1e-2 * want.change,
            "{got:?} instead of {want:?}"
        );
    }
    got
}

#[test]
fn phases_end_at_the_iteration_at_which_the_reference_ends_them() {
    let relaxation = |tolerance| Relaxation {
        mode: Mode::Asynchronous,
        iterations: 100,
        omega: 1.0,
        tolerance: Some(tolerance),
    };
    for form in [NudgedPhase::Direct, NudgedPhase::SumDifference] {
        let reports = compare(relaxation(2e-3), relaxation(1e-2), form);
        assert!(
            reports.iter().all(|r| (2..100).contains(&r.iterations)),
            "{reports:?}"
        );
    }
}

#[test]
fn the_safeguard_lowers_omega_as_the_reference_does() {
    // Over-relaxation of the published order diverges: layers joined by skip edges are updated together.
    let relaxation = Relaxation {
        mode: Mode::Synchronous,
        iterations: 30,
        omega: 1.9,
        tolerance: None,
    };
    let reports = compare(relaxation, relaxation, NudgedPhase::SumDifference);
    assert!(reports[0].omega < 1.9, "{reports:?}");
    // In colours the energy cannot rise, but for strong nudging.
    let coloured = Relaxation {
        mode: Mode::Coloured,
        ..relaxation
    };
    let reports = compare(coloured, coloured, NudgedPhase::SumDifference);
    assert_eq!(reports[0].omega, 1.9, "{reports:?}");
}

/// The change of a response, and a trajectory whose iterations differ in omega.
#[test]
fn responses_and_trajectories_end_and_fall_back_as_the_reference_does() {
    let relaxation = |omega, tolerance| Relaxation {
        mode: Mode::Synchronous,
        iterations: 12,
        omega,
        tolerance,
    };
    for (is_truncated, omega, tolerance) in [
        (false, 1.0, Some(5e-2)),
        (true, 1.0, Some(2e-2)),
        (false, 1.9, None),
        (true, 1.9, None),
    ] {
        let relaxation = relaxation(omega, tolerance);
        let run = |mut backend: Box<dyn Backend>| {
            let network = network();
            let batch = random_images(&network, 3, 5);
            let free = Relaxation {
                omega: 1.0,
                tolerance: None,
                ..relaxation
            };
            let parameters = random_parameters(&network, 5);
            backend.set_parameters(&parameters).unwrap();
            (backend.load_batch(&batch.images, &batch.labels, Start::Zero)).unwrap();
            backend.free_phase(&free).unwrap();
            let cost = CostFunction::Mse;
            let report = match is_truncated {
                true => backend
                    .truncated_backpropagation(cost, &relaxation)
                    .unwrap(),
                false => {
                    let nudging = Recipe {
                        form: NudgedPhase::Linear,
                        ..Recipe::default()
                    };
                    let nudging = nudging.nudging();
                    let report = backend.nudged_phases(&nudging, cost, &relaxation).unwrap();
                    backend.estimate_gradient().unwrap();
                    report
                }
            };
            (report, backend.gradient().unwrap())
        };
        let (want, truth) = run(cpu::backend::<f64>(&network()));
        let (got, gradient) = run(kernels(&network(), Precision::Fp32).unwrap());
        assert_eq!(
            (got.iterations, got.omega),
            (want.iterations, want.omega),
            "{got:?} instead of {want:?}"
        );
        assert_eq!(got.iterations < 12, tolerance.is_some(), "{got:?}");
        assert_eq!(got.omega < omega, omega > 1.0, "{got:?}");
        let error = 1.0 - cosine(&gradient, &truth);
        assert!(
            error < 1e-5,
            "truncated {is_truncated}, omega {omega}: {error:.1e}"
        );
    }
}

/// The phases of the fast presets end by tolerance where the reference ends them, with a loop inside the recording and without one; in the
/// second batch from the first one's free state.
#[test]
fn a_free_phase_and_its_response_end_where_the_reference_ends_them() {
    let network = network();
    let run = |backend: &mut dyn Backend| -> Vec<PhaseReport> {
        (backend.set_parameters(&random_parameters(&network, 5))).unwrap();
        let relaxation = |iterations, tolerance| Relaxation {
            mode: Mode::Coloured,
            iterations,
            omega: 1.6,
            tolerance: Some(tolerance),
        };
        let nudging = Recipe {
            form: NudgedPhase::Linear,
            ..Recipe::default()
        }
        .nudging();
        let mut step = |seed| {
            let batch = random_images(&network, 3, seed);
            (backend.load_batch(&batch.images, &batch.labels, Start::Kept)).unwrap();
            let free = backend.free_phase(&relaxation(60, 1e-3)).unwrap();
            let response = relaxation(20, 3e-2);
            let response = backend.nudged_phases(&nudging, CostFunction::Mse, &response);
            [free, response.unwrap()]
        };
        [5, 6].into_iter().flat_map(&mut step).collect()
    };
    let want = run(&mut *cpu::backend::<f64>(&network));
    let bounds = [60, 20, 60, 20];
    for (report, bound) in want.iter().zip(bounds) {
        assert!((3..bound).contains(&report.iterations), "{want:?}");
    }
    for loops in [true, false] {
        let device = machine_with(1, loops);
        let got = run(&mut CudaBackend::new(&network, device, cuda::Format::F32).unwrap());
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(
                (got.iterations, got.omega),
                (want.iterations, want.omega),
                "loops {loops}: {got:?} instead of {want:?}"
            );
            assert!(
                (got.change - want.change).abs() <= 1e-2 * want.change,
                "loops {loops}: {got:?} instead of {want:?}"
            );
        }
    }
}

/// What has no iterations has no gradient.
#[test]
fn a_trajectory_without_iterations_has_a_gradient_of_zero() {
    let network = network();
    let batch = random_images(&network, 2, 5);
    let mut backend = kernels(&network, Precision::Fp32).unwrap();
    let parameters = random_parameters(&network, 5);
    backend.set_parameters(&parameters).unwrap();
    (backend.load_batch(&batch.images, &batch.labels, Start::Zero)).unwrap();
    let relaxation = Recipe::default().relaxation(0);
    (backend.truncated_backpropagation(CostFunction::Mse, &relaxation)).unwrap();
    assert_eq!(backend.gradient_norm().unwrap(), 0.0);
    assert_eq!(
        backend.states(PhaseState::Second).unwrap(),
        backend.states(PhaseState::Free).unwrap()
    );
}

#[test]
fn runs_are_repeatable_bit_for_bit() {
    let network = network();
    let batches = [random_images(&network, 3, 1), random_images(&network, 3, 2)];
    for precision in [Precision::Fp32, Precision::Fp16] {
        let run = || {
            let mut backend = kernels(&network, precision).unwrap();
            backend
                .set_parameters(&random_parameters(&network, 1))
                .unwrap();
            let recipe = Recipe {
                form: NudgedPhase::SumDifference,
                ..Recipe::default()
            };
            train(&mut *backend, &network, &batches, &recipe)
                .unwrap()
                .values
        };
        assert!(run() == run(), "{precision:?}");
    }
}

#[test]
fn a_kept_state_survives_evaluation_and_a_checkpoint() {
    let network = network();
    let (train, eval) = (random_images(&network, 3, 1), random_images(&network, 2, 2));
    let mut backend = kernels(&network, Precision::Fp16).unwrap();
    backend
        .set_parameters(&random_parameters(&network, 1))
        .unwrap();
    let relaxation = Recipe::default().relaxation(3);
    let nudging = Recipe::default().nudging();
    backend
        .load_batch(&train.images, &train.labels, Start::Kept)
        .unwrap();
    backend.free_phase(&relaxation).unwrap();
    backend
        .nudged_phases(&nudging, CostFunction::Mse, &relaxation)
        .unwrap();
    let kept = backend.kept_state().unwrap();
    assert!(kept.is_some());
    backend
        .load_batch(&eval.images, &eval.labels, Start::Zero)
        .unwrap();
    backend.free_phase(&relaxation).unwrap();
    assert_eq!(backend.kept_state().unwrap(), kept);
    let mut other = kernels(&network, Precision::Fp16).unwrap();
    other.set_kept_state(kept.clone()).unwrap();
    assert_eq!(other.kept_state().unwrap(), kept);
}

/// Two training steps of so many images with phases of so many iterations at most: where each phase stopped, and every bit that came of it.
fn steps_on(
    gpu: Arc<dyn cuda::Device>,
    network: &Network,
    images: usize,
    iterations: usize,
    tolerances: [f64; 2],
) -> Vec<(String, Vec<u64>)> {
    let mut backend = CudaBackend::new(network, gpu, cuda::Format::F16).unwrap();
    (backend.set_optimizer(Recipe::default().optimizer)).unwrap();
    backend
        .set_parameters(&random_parameters(network, 3))
        .unwrap();
    let relaxation = |tolerance| Relaxation {
        mode: Mode::Coloured,
        iterations,
        omega: 1.3,
        tolerance: Some(tolerance),
    };
    let nudging = Recipe {
        form: NudgedPhase::SumDifference,
        ..Recipe::default()
    }
    .nudging();
    let rates = vec![0.01; network.parameter_count()];
    let mut values = Vec::new();
    for seed in [1, 2] {
        let batch = random_images(network, images, seed);
        (backend.load_batch(&batch.images, &batch.labels, Start::Kept)).unwrap();
        let [of_free, of_nudged] = tolerances.map(relaxation);
        let free = backend.free_phase(&of_free).unwrap();
        let nudged = (backend.nudged_phases(&nudging, CostFunction::Mse, &of_nudged)).unwrap();
        for (name, report) in [("free", free), ("nudged", nudged)] {
            values.push((
                format!("{name} phase"),
                vec![
                    report.iterations as u64,
                    report.change.to_bits(),
                    report.omega.to_bits(),
                ],
            ));
        }
        backend.estimate_gradient().unwrap();
        backend.step(&rates, Some(MAX_NORM)).unwrap();
        let bits = |tensor: &ndarray::ArrayD<f64>| tensor.iter().map(|v| v.to_bits()).collect();
        for state in backend.states(PhaseState::Second).unwrap() {
            values.push(("state".into(), bits(&state)));
        }
        for tensor in backend.parameters().unwrap().tensors() {
            values.push(("parameter".into(), bits(tensor)));
        }
    }
    values
}

#[test]
fn training_has_the_same_bits_on_gpus_of_20_132_and_188_multiprocessors() {
    // 17 images of 16 x 16 by 264 channels: in the free phase 102 tiles of 128 x 128, 170 of 128 x 64 or 306 of 128 x 32, and each
    // of the three GPUs takes another kind. The output's product of 256 steps is split in all of them.
    let image = |channels| Shape::new(channels, 16, 16);
    let layers = [
        ("input", image(1), Activation::LINEAR),
        ("wide", image(264), Activation::HARD_SIGMOID),
        ("thin", image(8), Activation::HARD_SIGMOID),
        ("output", Shape::flat(10), Activation::LINEAR),
    ];
    let point = LinearMap::Conv(Convolution::square(1, 1, 0));
    let network = chain("tiles", &layers, &[point, point, LinearMap::Dense], 0.7);
    // fp32 has one kind of tile.
    let steps =
        |multiprocessors| steps_on(machine(multiprocessors), &network, 17, 12, [3e-2, 1e-1]);
    let want = steps(20);
    let ends = (want.iter()).filter(|(name, _)| name.ends_with("phase"));
    assert!(ends.clone().count() == 4 && ends.clone().all(|(_, end)| (2..12).contains(&end[0])));
    for multiprocessors in [132, 188] {
        for (got, want) in steps(multiprocessors).iter().zip(&want) {
            assert!(
                got == want,
                "{multiprocessors} multiprocessors: {} differs",
                want.0
            );
        }
    }
}

/// Phases that end within a turn of the loop, at its end or at the last iteration that there may be; in the first batch after an iteration
/// before the loop, in the second without one.
#[test]
fn a_loop_inside_the_recording_ends_phases_where_the_host_does() {
    let network = network();
    let mut seen = Vec::new();
    for (iterations, tolerances) in [
        (9, [1e-9; 2]),
        (21, [1e-9; 2]),
        (21, [3e-2, 1e-1]),
        (21, [3e-3, 1e-2]),
    ] {
        let steps = |loops| steps_on(machine_with(1, loops), &network, 2, iterations, tolerances);
        let (with, without) = (steps(true), steps(false));
        for (with, without) in with.iter().zip(&without) {
            assert!(
                with == without,
                "{} of {iterations} iterations at most, to {tolerances:?}: {with:?} with a loop, {without:?} without",
                with.0
            );
        }
        let ends = with.iter().filter(|(name, _)| name.ends_with("phase"));
        seen.extend(ends.map(|(_, end)| (end[0], iterations as u64)));
    }
    let early = seen.iter().filter(|(end, most)| end < most).count();
    let in_later_turns = seen
        .iter()
        .filter(|(end, most)| *end > 9 && end < most)
        .count();
    assert!(early >= 6 && in_later_turns >= 1, "{seen:?}");
}
