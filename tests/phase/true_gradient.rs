//! The true gradient of `diagnose` against finite differences of the cost, and estimates against the true gradient.

use crate::support::networks::{random_batch, rng};
use eqprop_cuda::cpu::backend;
use eqprop_cuda::data::Batch;
use eqprop_cuda::diagnose::{
    Estimate, GradientStudy, Iterations, agreement, compare_gradients, true_gradient,
};
use eqprop_cuda::network::{ActivationKind, Network, NetworkDescription, ParameterSet, parameters};
use eqprop_cuda::phase::{Backend, CostFunction, Mode, NudgedPhase, Relaxation, Start, Variant};
use ndarray::{ArrayD, IxDyn};

/// Every kind of edge, and a skip edge; a few hundred parameters.
const NETWORK: &str = r#"
    name = "small"
    [[layer]]
    name = "input"
    shape = [2, 6, 6]
    [[layer]]
    name = "a"
    shape = [3, 6, 6]
    [[layer]]
    name = "b"
    shape = [4, 3, 3]
    [[layer]]
    name = "c"
    shape = [4, 3, 3]
    [[layer]]
    name = "output"
    shape = [5]
    [[edge]]
    from = "input"
    to = "a"
    kind = "conv"
    kernel = 3
    padding = 1
    gain = 1.0
    [[edge]]
    from = "a"
    to = "b"
    kind = "conv-max-pool"
    kernel = 3
    padding = 1
    gain = 0.8
    [[edge]]
    from = "a"
    to = "c"
    kind = "conv"
    kernel = 1
    stride = 2
    gain = 0.8
    [[edge]]
    from = "b"
    to = "c"
    kind = "conv"
    kernel = 3
    padding = 1
    gain = 0.8
    [[edge]]
    from = "c"
    to = "output"
    kind = "dense"
    gain = 0.8
"#;
const ORDER: (Mode, f64) = (Mode::Coloured, 1.2);

fn setup(activation: ActivationKind) -> (Network, ParameterSet<f64>, Batch) {
    let mut rng = rng(5);
    let description = NetworkDescription::from_toml(NETWORK).unwrap();
    let network = description.build(activation, &mut rng).unwrap();
    let parameters = parameters::initialise(&network, 3);
    let (images, labels) = random_batch(&network, 4, &mut rng);
    let index = 0;
    (
        network,
        parameters,
        Batch {
            images,
            labels,
            index,
        },
    )
}

/// The mean cost at the fixed point that a free phase from zero reaches.
fn cost_at(
    backend: &mut dyn Backend,
    parameters: &ParameterSet<f64>,
    batch: &Batch,
    cost: CostFunction,
) -> f64 {
    let relaxation = Relaxation {
        mode: ORDER.0,
        omega: ORDER.1,
        iterations: 5_000,
        tolerance: Some(1e-15),
    };
    backend.set_parameters(parameters).unwrap();
    backend
        .load_batch(&batch.images, &batch.labels, Start::Zero)
        .unwrap();
    let report = backend.free_phase(&relaxation).unwrap();
    assert!(report.change < 1e-14, "{report:?}");
    let outcome = backend.outcome(cost).unwrap();
    outcome.cost.iter().sum::<f64>() / batch.len() as f64
}

#[test]
fn the_true_gradient_is_the_slope_of_the_cost_at_the_fixed_point() {
    // A unit that reaches the end of its clip within a step would make the slope another one; so a small step.
    const STEP: f64 = 1e-5;
    const MOST_ENTRIES: usize = 24;
    for (cost, activation) in [
        (CostFunction::Mse, ActivationKind::HardSigmoid),
        (CostFunction::Ce, ActivationKind::Relu6),
    ] {
        let (network, parameters, batch) = setup(activation);
        let truth = true_gradient(&network, &parameters, &batch, cost, ORDER).unwrap();
        assert!(truth.has_converged(), "{:?} {:?}", truth.free, truth.solve);
        let mut backend = backend::<f64>(&network);
        for (t, name) in network.parameter_names().iter().enumerate() {
            let gradient = &truth.gradient.tensors()[t];
            let stride = gradient.len().div_ceil(MOST_ENTRIES);
            let entries: Vec<usize> = (0..gradient.len()).step_by(stride).collect();
            let slope = |&entry: &usize| {
                let mut at = |offset: f64| {
                    let mut moved = parameters.clone();
                    *moved.tensors_mut()[t].iter_mut().nth(entry).unwrap() += offset;
                    cost_at(&mut *backend, &moved, &batch, cost)
                };
                // Of fourth order: what is left of the curvature is far below rounding.
                (8.0 * (at(STEP) - at(-STEP)) - (at(2.0 * STEP) - at(-2.0 * STEP))) / (12.0 * STEP)
            };
            let slopes: Vec<f64> = entries.iter().map(slope).collect();
            let values = entries.iter().map(|&e| *gradient.iter().nth(e).unwrap());
            let norm = slopes.iter().map(|v| v * v).sum::<f64>().sqrt();
            let error = slopes.iter().zip(values).map(|(s, v)| (s - v).powi(2));
            let error = error.sum::<f64>().sqrt() / norm;
            println!("{cost:?} {name}: slope {norm:.2e}, error {error:.1e}");
            assert!(norm > 1e-6, "{name} does not matter to the cost");
            assert!(
                error < 1e-6,
                "{cost:?} {name}: off by {error:.1e} of {norm:.1e}"
            );
        }
    }
}

fn estimates(form: NudgedPhase, iterations: &[Iterations], betas: &[f64]) -> Vec<Estimate> {
    let (network, parameters, batch) = setup(ActivationKind::HardSigmoid);
    let cost = CostFunction::Ce;
    let truth = true_gradient(&network, &parameters, &batch, cost, ORDER).unwrap();
    let mut backend = backend::<f64>(&network);
    backend.set_parameters(&parameters).unwrap();
    let study = GradientStudy {
        batch: &batch,
        cost,
        order: ORDER,
        form,
        iterations,
        betas,
        variants: &[Variant::Centered],
    };
    compare_gradients(&mut *backend, &study, &truth.gradient, |_| ()).unwrap()
}

/// The worst tensor of each estimate; no number (which no comparison holds for) where a tensor's estimate is zero.
fn worst(estimates: &[Estimate]) -> Vec<f64> {
    let larger = |a: f64, b: f64| if a > b { a } else { b };
    let of = |e: &Estimate| {
        e.tensors
            .iter()
            .map(|a| a.one_minus_cosine)
            .fold(0.0, larger)
    };
    estimates.iter().map(of).collect()
}

#[test]
fn estimates_tend_to_the_true_gradient_as_beta_falls() {
    for form in [NudgedPhase::Direct, NudgedPhase::SumDifference] {
        let errors = worst(&estimates(
            form,
            &[Iterations::Converged],
            &[1.0, 0.1, 0.01, 0.001],
        ));
        println!("{form:?} by beta: {errors:?}");
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        assert!(errors[0] > 1e-6 && errors[3] < 1e-9, "{errors:?}");
    }
}

#[test]
fn estimates_tend_to_the_true_gradient_as_iterations_grow() {
    let counts = [2, 4, 8].map(|n| Iterations::Count {
        free: 2 * n,
        nudged: n,
    });
    let estimates = estimates(NudgedPhase::SumDifference, &counts, &[0.001]);
    let errors = worst(&estimates);
    println!("by iterations: {errors:?}");
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
    assert!(errors[0] > 1e-2 && errors[2] < 1e-7, "{errors:?}");
    let ratio = estimates[2].all.norm_ratio;
    assert!((ratio - 1.0).abs() < 1e-4, "{ratio}");
}

#[test]
fn agreement_measures_angle_and_length() {
    let vector =
        |values: &[f64]| vec![ArrayD::from_shape_vec(IxDyn(&[2]), values.to_vec()).unwrap()];
    let diagonal = agreement(&vector(&[2.0, 2.0]), &vector(&[1.0, 0.0]));
    assert!((diagonal.one_minus_cosine - (1.0 - 0.5f64.sqrt())).abs() < 1e-15);
    assert!((diagonal.norm_ratio - 8f64.sqrt()).abs() < 1e-15);
    // An angle of 1e-9 keeps its digits: 1 - cos is half its square.
    let tiny = agreement(&vector(&[1.0, 1e-9]), &vector(&[1.0, 0.0]));
    assert!((tiny.one_minus_cosine / 0.5e-18 - 1.0).abs() < 1e-6);
    assert!(
        agreement(&vector(&[0.0, 0.0]), &vector(&[1.0, 0.0]))
            .norm_ratio
            .is_nan()
    );
}
