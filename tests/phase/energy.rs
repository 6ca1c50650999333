//! The CPU backend against the energy alone: pre-activations and gradients are its derivatives, found by finite
//! differences of `Backend::outcome`'s energy, on random graphs.

use crate::support::networks::{
    load_at, random_batch, random_state, ready_backend, relaxation, rng, small_varied_network,
    unclipped,
};
use eqprop_cuda::network::ParameterSet;
use eqprop_cuda::phase::{
    Backend, CostFunction, Mode, NudgedPhase, Nudging, OutputCondition, PhaseState, Start, Variant,
};
use ndarray::{Array4, ArrayD, Dimension};
use proptest::prelude::*;
use rand::RngExt;

/// The energy is piecewise linear in one unit or weight at a time, so a difference quotient is exact but for rounding
/// and for kinks of the max pooling, which a small step rarely crosses.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

fn energy_at(
    backend: &mut dyn Backend,
    images: &Array4<f32>,
    labels: &[usize],
    state: &[ArrayD<f64>],
) -> f64 {
    load_at(backend, images, labels, state);
    let outcome = backend.outcome(CostFunction::Mse).unwrap();
    outcome.energy.iter().sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// One synchronous iteration sets each layer to `clip(-dE/ds_l)`.
    #[test]
    fn an_update_is_the_clipped_negative_energy_gradient(seed in 0u64..1_000_000) {
        let mut rng = rng(seed);
        let mut network = small_varied_network(&mut rng);
        if seed % 2 == 0 {
            network = unclipped(&network);
        }
        let mut backend = ready_backend::<f64>(&network, &mut rng);
        let (images, labels) = random_batch(&network, 3, &mut rng);
        let state = random_state(&network, 3, &mut rng);

        load_at(&mut *backend, &images, &labels, &state);
        backend.free_phase(&relaxation(Mode::Synchronous, 1)).unwrap();
        let updated = backend.states(PhaseState::Free).unwrap();

        for l in network.free_layers() {
            for _ in 0..4 {
                let unit = rng.random_range(0..state[l - 1].len());
                let index = state[l - 1].indexed_iter().nth(unit).unwrap().0;
                let mut at = |offset: f64| {
                    let mut moved = state.clone();
                    moved[l - 1][&index] += offset;
                    energy_at(&mut *backend, &images, &labels, &moved)
                };
                let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                let (low, high) = network.layers()[l].activation.bounds()
                    .unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
                let expected = (-slope).clamp(low, high);
                let got = updated[l - 1][&index];
                prop_assert!((got - expected).abs() < TOLERANCE * (1.0 + expected.abs()),
                    "layer {l} unit {:?}: {got} but the energy says {expected}", index.slice());
            }
        }
    }

    /// The estimate is `(dE/dtheta(second) - dE/dtheta(first)) / (second - first)` over the batch mean.
    #[test]
    fn the_gradient_estimate_is_the_difference_of_energy_gradients(
        seed in 0u64..1_000_000,
        variant in prop::sample::select(vec![Variant::Centered, Variant::Positive, Variant::Negative]),
        form in prop::sample::select(vec![NudgedPhase::Direct, NudgedPhase::SumDifference]),
        cost in prop::sample::select(vec![CostFunction::Mse, CostFunction::Ce]),
    ) {
        let mut rng = rng(seed);
        let network = small_varied_network(&mut rng);
        let mut backend = ready_backend::<f64>(&network, &mut rng);
        let n = rng.random_range(1..=6);
        let (images, labels) = random_batch(&network, n, &mut rng);
        let nudging = Nudging { beta: 0.4, variant, form, output: OutputCondition::Nudged  };

        backend.load_batch(&images, &labels, Start::Zero).unwrap();
        backend.free_phase(&relaxation(Mode::Asynchronous, 8)).unwrap();
        backend.nudged_phases(&nudging, cost, &relaxation(Mode::Asynchronous, 4)).unwrap();
        backend.estimate_gradient().unwrap();
        let norm = backend.gradient_norm().unwrap();
        let gradient = backend.gradient().unwrap();
        prop_assert!((norm - gradient.norm()).abs() <= 1e-12 * norm);
        let first = backend.states(PhaseState::First).unwrap();
        let second = backend.states(PhaseState::Second).unwrap();
        let (low, high) = nudging.strengths();

        let parameters = backend.parameters().unwrap();
        for (t, name) in network.parameter_names().iter().enumerate() {
            for _ in 0..3 {
                let entry = rng.random_range(0..parameters.tensors()[t].len());
                let mut slope = |state: &[ArrayD<f64>]| {
                    let mut at = |offset: f64| {
                        let mut moved: ParameterSet<f64> = parameters.clone();
                        *moved.tensors_mut()[t].iter_mut().nth(entry).unwrap() += offset;
                        backend.set_parameters(&moved).unwrap();
                        energy_at(&mut *backend, &images, &labels, state)
                    };
                    (at(STEP) - at(-STEP)) / (2.0 * STEP)
                };
                let expected = (slope(&second) - slope(&first)) / (high - low) / n as f64;
                let got = *gradient.tensors()[t].iter().nth(entry).unwrap();
                prop_assert!((got - expected).abs() < 1e-4 * (1.0 + expected.abs()),
                    "{name}[{entry}]: {got} but the energy says {expected}");
            }
        }
    }
}
