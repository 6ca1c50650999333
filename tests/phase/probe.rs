//! Norms and saturation of single layers, and norms of single gradients, against their definitions.

use crate::support::networks::{
    load_at, random_batch, random_state, ready_backend, relaxation, rng, small_network,
};
use eqprop_cuda::learn::Probe;
use eqprop_cuda::phase::{
    CostFunction, Mode, NudgedPhase, Nudging, OutputCondition, Start, Variant,
};
use rand::RngExt;

#[test]
fn norms_and_saturations_are_those_of_the_state() {
    for seed in 0..20 {
        let mut rng = rng(seed);
        let network = small_network(&mut rng);
        let n = 3;
        let (images, labels) = random_batch(&network, n, &mut rng);
        let mut state = random_state(&network, n, &mut rng);
        // A random share of every layer goes to each of its bounds.
        let mut saturations = Vec::new();
        for (l, layer) in network.free_layers().zip(&mut state) {
            let Some((low, high)) = network.layers()[l].activation.bounds() else {
                continue;
            };
            let mut at_bound = 0;
            for s in layer.iter_mut() {
                let bound = [None, None, Some(low), Some(high)][rng.random_range(0..4)];
                at_bound += usize::from(bound.is_some());
                *s = bound.unwrap_or(low + (high - low) * rng.random_range(0.01..0.99));
            }
            saturations.push(at_bound as f64 / layer.len() as f64);
        }
        let backends = [
            ready_backend::<f32>(&network, &mut rng),
            ready_backend::<f64>(&network, &mut rng),
        ];
        for mut backend in backends {
            load_at(&mut *backend, &images, &labels, &state);
            let probe = Probe::states(&*backend).unwrap();
            assert_eq!(probe.saturations, saturations, "seed {seed}");
            assert_eq!(probe.state_norms.len(), state.len());
            for (norm, layer) in probe.state_norms.iter().zip(&state) {
                let mut expected = 0.0;
                for image in layer.outer_iter() {
                    expected += image.iter().map(|s| s * s).sum::<f64>().sqrt();
                }
                expected /= n as f64;
                assert!(
                    (norm - expected).abs() < 1e-6 * expected,
                    "seed {seed}: {norm}, {expected}"
                );
            }
            assert!(probe.gradient_norms.is_empty());
        }
    }
}

/// All tensors together have the norm that the backend reports, and each has the norm of its own tensor.
#[test]
fn gradient_norms_make_up_the_global_one() {
    let mut rng = rng(7);
    let network = small_network(&mut rng);
    let (images, labels) = random_batch(&network, 4, &mut rng);
    let mut backend = ready_backend::<f64>(&network, &mut rng);
    backend.load_batch(&images, &labels, Start::Zero).unwrap();
    let relaxation = relaxation(Mode::Asynchronous, 20);
    backend.free_phase(&relaxation).unwrap();
    let nudging = Nudging {
        beta: 0.1,
        variant: Variant::Centered,
        form: NudgedPhase::SumDifference,
        output: OutputCondition::Nudged,
    };
    backend
        .nudged_phases(&nudging, CostFunction::Mse, &relaxation)
        .unwrap();
    backend.estimate_gradient().unwrap();
    let global = backend.gradient_norm().unwrap();
    let probe = Probe::states(&*backend)
        .unwrap()
        .with_gradient(&backend.gradient().unwrap());
    assert_eq!(probe.gradient_norms.len(), network.parameter_count());
    let total = probe
        .gradient_norms
        .iter()
        .map(|norm| norm * norm)
        .sum::<f64>()
        .sqrt();
    assert!((total - global).abs() < 1e-12 * global, "{total}, {global}");
    let last = backend.gradient().unwrap();
    let last = last
        .tensors()
        .last()
        .unwrap()
        .iter()
        .map(|g| g * g)
        .sum::<f64>()
        .sqrt();
    assert_eq!(probe.gradient_norms.last(), Some(&last));
    assert_eq!(probe.state_norms.len(), network.free_layers().len());
}
