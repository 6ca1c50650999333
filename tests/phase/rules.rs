//! The estimates of the learning rules, against what they are by definition: in every mode, over-relaxed or not, through clips, skip
//! edges and max pooling.

use crate::support::networks::{
    load_at, random_batch, random_state, ready_backend, rng, small_network,
};
use eqprop_cuda::network::{Network, ParameterSet};
use eqprop_cuda::phase::{
    Backend, CostFunction, Mode, NudgedPhase, Nudging, OutputCondition, PhaseState, Relaxation,
    Start, Variant,
};
use ndarray::{Array4, ArrayD};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

const MODES: [Mode; 5] = [
    Mode::Asynchronous,
    Mode::Synchronous,
    Mode::Forward,
    Mode::Backward,
    Mode::Coloured,
];
const COSTS: [CostFunction; 2] = [CostFunction::Mse, CostFunction::Ce];
const RESPONSE: Nudging = Nudging {
    beta: 0.0,
    variant: Variant::Centered,
    form: NudgedPhase::Linear,
    output: OutputCondition::Nudged,
};

struct Case {
    network: Network,
    backend: Box<dyn Backend>,
    images: Array4<f32>,
    labels: Vec<usize>,
    cost: CostFunction,
    rng: ChaCha8Rng,
}

/// A random network with a batch that is cut into chunks of different sizes.
fn case(seed: u64) -> Case {
    let mut rng = rng(seed);
    let network = small_network(&mut rng);
    let backend = ready_backend::<f64>(&network, &mut rng);
    let (images, labels) = random_batch(&network, 3, &mut rng);
    Case {
        network,
        backend,
        images,
        labels,
        cost: COSTS[seed as usize % 2],
        rng,
    }
}

impl Case {
    fn load(&mut self, state: &[ArrayD<f64>]) {
        load_at(&mut *self.backend, &self.images, &self.labels, state);
    }

    /// Relaxes to the fixed point; whether it got there.
    fn converge(&mut self) -> bool {
        let relaxation = Relaxation {
            mode: Mode::Coloured,
            iterations: 4000,
            omega: 1.0,
            tolerance: Some(1e-15),
        };
        self.backend
            .load_batch(&self.images, &self.labels, Start::Zero)
            .unwrap();
        self.backend.free_phase(&relaxation).unwrap().change < 1e-14
    }

    fn gradient(&self) -> ParameterSet<f64> {
        self.backend.gradient().unwrap()
    }

    fn response(&mut self, relaxation: &Relaxation) -> ParameterSet<f64> {
        (self.backend)
            .nudged_phases(&RESPONSE, self.cost, relaxation)
            .unwrap();
        self.backend.estimate_gradient().unwrap();
        self.gradient()
    }

    fn truncated(&mut self, relaxation: &Relaxation) -> ParameterSet<f64> {
        (self.backend)
            .truncated_backpropagation(self.cost, relaxation)
            .unwrap();
        self.gradient()
    }
}

/// Five iterations in each mode; over-relaxed where the order bears it.
fn relaxations() -> Vec<Relaxation> {
    let of = |mode, omega| Relaxation {
        mode,
        iterations: 5,
        omega,
        tolerance: None,
    };
    let plain = MODES.map(|mode| of(mode, 1.0));
    let other = [
        of(Mode::Coloured, 1.3),
        of(Mode::Asynchronous, 0.7),
        of(Mode::Synchronous, 0.5),
    ];
    plain.into_iter().chain(other).collect()
}

fn distance(a: &ParameterSet<f64>, b: &ParameterSet<f64>) -> f64 {
    let pairs = a.tensors().iter().zip(b.tensors());
    let squares: f64 = pairs.map(|(a, b)| (a - b).mapv(|v| v * v).sum()).sum();
    squares.sqrt() / b.norm()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The slope of `f` at 0, to fourth order.
fn slope(step: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    (8.0 * (f(step) - f(-step)) - (f(2.0 * step) - f(-2.0 * step))) / (12.0 * step)
}

/// A direction in the space of all parameters, of norm 1.
fn direction(network: &Network, rng: &mut ChaCha8Rng) -> ParameterSet<f64> {
    let mut direction = ParameterSet::zeros(network);
    for tensor in direction.tensors_mut() {
        tensor.mapv_inplace(|_| rng.random_range(-1.0..1.0));
    }
    let norm = direction.norm();
    for tensor in direction.tensors_mut() {
        tensor.mapv_inplace(|v| v / norm);
    }
    direction
}

fn moved(from: &ParameterSet<f64>, by: f64, along: &ParameterSet<f64>) -> ParameterSet<f64> {
    let mut moved = from.clone();
    for (to, along) in moved.tensors_mut().iter_mut().zip(along.tensors()) {
        to.scaled_add(by, along);
    }
    moved
}

fn product(a: &ParameterSet<f64>, b: &ParameterSet<f64>) -> f64 {
    let pairs = a.tensors().iter().zip(b.tensors());
    pairs.map(|(a, b)| (a * b).sum()).sum()
}

#[test]
fn truncated_backpropagation_is_the_slope_of_the_cost_after_its_iterations() {
    for seed in 0..24 {
        let mut case = case(seed);
        let parameters = case.backend.parameters().unwrap();
        let state = random_state(&case.network, 3, &mut case.rng);
        for relaxation in relaxations() {
            case.load(&state);
            let gradient = case.truncated(&relaxation);
            let end = case.backend.states(PhaseState::Second).unwrap();
            // Several directions: a bug in one tensor must show.
            for _ in 0..4 {
                let direction = direction(&case.network, &mut case.rng);
                let cost_at = |offset: f64| {
                    let at = moved(&parameters, offset, &direction);
                    case.backend.set_parameters(&at).unwrap();
                    load_at(&mut *case.backend, &case.images, &case.labels, &state);
                    case.backend.free_phase(&relaxation).unwrap();
                    mean(&case.backend.outcome(case.cost).unwrap().cost)
                };
                let slope = slope(1e-6, cost_at);
                let ours = product(&gradient, &direction);
                let error = (slope - ours).abs() / gradient.norm();
                assert!(
                    error < 1e-7,
                    "seed {seed} {relaxation:?}: {slope} against {ours}: {error:.1e}"
                );
            }
            case.backend.set_parameters(&parameters).unwrap();
            case.load(&state);
            case.backend.free_phase(&relaxation).unwrap();
            assert_eq!(
                case.backend.states(PhaseState::Free).unwrap(),
                end,
                "seed {seed}"
            );
        }
    }
}

/// Iteration by iteration, not only in the end.
#[test]
fn the_linear_response_is_that_of_a_pair_with_hardly_any_nudging() {
    let mut checked = 0;
    for seed in 0..24 {
        let mut case = case(seed);
        if !case.converge() {
            continue;
        }
        checked += 1;
        for relaxation in relaxations() {
            let response = case.response(&relaxation);
            let nudging = Nudging {
                beta: 1e-7,
                form: NudgedPhase::SumDifference,
                ..RESPONSE
            };
            (case.backend)
                .nudged_phases(&nudging, case.cost, &relaxation)
                .unwrap();
            case.backend.estimate_gradient().unwrap();
            let error = distance(&response, &case.gradient());
            assert!(error < 1e-6, "seed {seed} {relaxation:?}: {error:.1e}");
        }
    }
    assert!(
        checked > 12,
        "only {checked} networks reached their fixed point"
    );
}

/// At a fixed point a trajectory stands still, so that the two expansions have the same terms.
#[test]
fn at_a_fixed_point_recurrent_and_truncated_backpropagation_are_the_same_series() {
    let mut checked = 0;
    for seed in 0..24 {
        let mut case = case(seed);
        if !case.converge() {
            continue;
        }
        checked += 1;
        let of = |mode, iterations, omega| Relaxation {
            mode,
            iterations,
            omega,
            tolerance: None,
        };
        // The way back visits the groups in reverse.
        for (response, truncated) in [
            (Mode::Synchronous, Mode::Synchronous),
            (Mode::Forward, Mode::Backward),
            (Mode::Backward, Mode::Forward),
        ] {
            for omega in [1.0, 0.6] {
                let a = case.response(&of(response, 7, omega));
                let b = case.truncated(&of(truncated, 7, omega));
                let error = distance(&a, &b);
                assert!(
                    error < 1e-10,
                    "seed {seed} {response:?} {omega}: {error:.1e}"
                );
            }
        }
    }
    assert!(
        checked > 12,
        "only {checked} networks reached their fixed point"
    );
}

#[test]
fn converged_responses_are_the_same_in_every_order() {
    let mut checked = 0;
    for seed in 0..24 {
        let mut case = case(seed);
        if !case.converge() {
            continue;
        }
        let converged = |relaxation: Relaxation| Relaxation {
            iterations: 4000,
            tolerance: Some(1e-15),
            ..relaxation
        };
        let mut responses = Vec::new();
        for relaxation in relaxations() {
            let relaxation = converged(relaxation);
            let report = (case.backend)
                .nudged_phases(&RESPONSE, case.cost, &relaxation)
                .unwrap();
            // Not every order converges on every network.
            if report.change < 1e-14 {
                case.backend.estimate_gradient().unwrap();
                responses.push(case.gradient());
            }
        }
        for other in responses.iter().skip(1) {
            checked += 1;
            let error = distance(other, &responses[0]);
            assert!(error < 1e-9, "seed {seed}: {error:.1e}");
        }
    }
    assert!(checked > 60, "only {checked} pairs");
}

/// `d/de dE/dtheta (s + e v)` from the energy itself, which is quadratic in the states and linear in the parameters.
#[test]
fn the_alternative_formula_is_the_mixed_derivative_of_the_energy_at_the_free_state() {
    let mut checked = 0;
    for seed in 0..24 {
        let mut case = case(seed);
        let state = random_state(&case.network, 3, &mut case.rng);
        let parameters = case.backend.parameters().unwrap();
        for variant in [Variant::Centered, Variant::Positive, Variant::Negative] {
            for form in [NudgedPhase::Direct, NudgedPhase::SumDifference] {
                let mode = MODES[case.rng.random_range(0..MODES.len())];
                let relaxation = Relaxation {
                    mode,
                    ..relaxations()[0]
                };
                let nudging = Nudging {
                    beta: 0.4,
                    variant,
                    form,
                    output: OutputCondition::Nudged,
                };
                case.load(&state);
                (case.backend)
                    .nudged_phases(&nudging, case.cost, &relaxation)
                    .unwrap();
                case.backend.estimate_gradient_at_free_state().unwrap();
                let gradient = case.gradient();
                let first = case.backend.states(PhaseState::First).unwrap();
                let second = case.backend.states(PhaseState::Second).unwrap();
                let (low, high) = nudging.strengths();
                let along: Vec<_> = second
                    .iter()
                    .zip(&first)
                    .map(|(b, a)| (b - a) / (high - low))
                    .collect();
                let direction = direction(&case.network, &mut case.rng);
                let mut energy = |by_parameters: f64, by_state: f64| {
                    let at = moved(&parameters, by_parameters, &direction);
                    case.backend.set_parameters(&at).unwrap();
                    let at: Vec<_> = state
                        .iter()
                        .zip(&along)
                        .map(|(s, v)| s + &(v * by_state))
                        .collect();
                    load_at(&mut *case.backend, &case.images, &case.labels, &at);
                    mean(&case.backend.outcome(case.cost).unwrap().energy)
                };
                let mut mixed = |h: f64, e: f64| {
                    let corners = energy(h, e) - energy(h, -e) - energy(-h, e) + energy(-h, -e);
                    corners / (4.0 * h * e)
                };
                // Exact for any step, unless a maximum of max pooling moves within it.
                let (mixed, other) = (mixed(1e-4, 1e-4), mixed(5e-5, 1e-4));
                if (mixed - other).abs() > 1e-6 * gradient.norm() {
                    case.backend.set_parameters(&parameters).unwrap();
                    continue;
                }
                checked += 1;
                case.backend.set_parameters(&parameters).unwrap();
                let ours = product(&gradient, &direction);
                let error = (mixed - ours).abs() / gradient.norm();
                assert!(
                    error < 1e-6,
                    "seed {seed} {variant:?}: {mixed} against {ours}: {error:.1e}"
                );
            }
        }
    }
    assert!(checked > 100, "only {checked} of 144");
}

#[test]
fn a_clamped_output_stands_where_it_is_held_and_the_others_relax_around_it() {
    for seed in 0..24 {
        let mut case = case(seed);
        let state = random_state(&case.network, 3, &mut case.rng);
        for variant in [Variant::Centered, Variant::Positive, Variant::Negative] {
            for relaxation in relaxations() {
                let nudging = |form| Nudging {
                    beta: 0.3,
                    variant,
                    form,
                    output: OutputCondition::Clamped,
                };
                case.load(&state);
                let mut both = Vec::new();
                for form in [NudgedPhase::Direct, NudgedPhase::SumDifference] {
                    (case.backend)
                        .nudged_phases(&nudging(form), case.cost, &relaxation)
                        .unwrap();
                    case.backend.estimate_gradient().unwrap();
                    both.push(case.gradient());
                }
                let error = distance(&both[0], &both[1]);
                assert!(
                    error < 1e-9,
                    "seed {seed} {variant:?} {relaxation:?}: {error:.1e}"
                );
                let strengths = nudging(NudgedPhase::Direct).strengths();
                for (which, strength) in [
                    (PhaseState::First, strengths.0),
                    (PhaseState::Second, strengths.1),
                ] {
                    let ours = case.backend.states(which).unwrap();
                    let expected = held_by_hand(&mut case, &state, strength, &relaxation);
                    for (l, (a, b)) in (1..).zip(ours.iter().zip(&expected)) {
                        let error = (a - b).iter().fold(0.0f64, |m, v| m.max(v.abs()));
                        assert!(
                            error < 1e-12,
                            "seed {seed} layer {l} {which:?}: {error:.1e}"
                        );
                    }
                    case.load(&state);
                    (case.backend)
                        .nudged_phases(&nudging(NudgedPhase::SumDifference), case.cost, &relaxation)
                        .unwrap();
                }
            }
        }
    }
}

/// One phase with the output held: a free update at a time, after each of which the output is put back.
fn held_by_hand(
    case: &mut Case,
    state: &[ArrayD<f64>],
    strength: f64,
    relaxation: &Relaxation,
) -> Vec<ArrayD<f64>> {
    let classes = case.network.classes();
    let output = state.len() - 1;
    let mut held = state.to_vec();
    let mut slope = vec![0.0; classes];
    for (n, &label) in case.labels.iter().enumerate() {
        let row: Vec<f64> = (0..classes).map(|c| state[output][[n, c]]).collect();
        case.cost.gradient(&row, label, &mut slope);
        for c in 0..classes {
            held[output][[n, c]] -= strength * slope[c];
        }
    }
    let clamp = held[output].clone();
    // Synchronous iterations give every layer's update from one state: groups are made of them, layer by layer.
    let together = Relaxation {
        mode: Mode::Synchronous,
        iterations: 1,
        ..*relaxation
    };
    for _ in 0..relaxation.iterations {
        for group in case.network.update_groups(relaxation.mode) {
            case.load(&held);
            case.backend.free_phase(&together).unwrap();
            let updated = case.backend.states(PhaseState::Free).unwrap();
            for l in group {
                held[l - 1] = updated[l - 1].clone();
            }
            held[output] = clamp.clone();
        }
    }
    held
}

#[test]
fn each_rule_leaves_its_state_to_the_next_batch() {
    let mut case = case(5);
    let relaxation = relaxations()[0];
    case.backend
        .load_batch(&case.images, &case.labels, Start::Zero)
        .unwrap();
    case.backend.free_phase(&relaxation).unwrap();
    let free = case.backend.states(PhaseState::Free).unwrap();
    case.response(&relaxation);
    assert_eq!(case.backend.kept_state().unwrap().unwrap(), free);
    assert!(
        case.backend.states(PhaseState::Second).is_err(),
        "a response is no state"
    );
    case.truncated(&relaxation);
    let end = case.backend.states(PhaseState::Second).unwrap();
    assert_eq!(case.backend.kept_state().unwrap().unwrap(), end);
    assert_ne!(end, free);
    let error = case.backend.estimate_gradient().unwrap_err().to_string();
    assert!(error.contains("the nudged phases have not run"), "{error}");
}
