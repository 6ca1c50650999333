//! Norm and saturation of layers as the kernels measure them, against the states that they were measured of.

use crate::support::kernels::*;
use eqprop_cuda::device::Precision;
use eqprop_cuda::phase::{PhaseState, Start};
use half::f16;

#[test]
fn norms_and_saturations_are_those_of_the_states() {
    let mut partly_saturated = 0;
    for seed in 0..12 {
        // Widths that are no multiple of the padding: its zeros must not count as units at the lower bound.
        let network = random_network(seed);
        let batch = random_images(&network, 1 + seed as usize % 4, seed);
        let mut parameters = random_parameters(&network, seed);
        // Large enough to reach the upper bounds, too.
        for tensor in parameters.tensors_mut() {
            tensor.mapv_inplace(|v| 4.0 * v);
        }
        for precision in [Precision::Fp32, Precision::Fp16] {
            let mut backend = kernels(&network, precision).unwrap();
            backend.set_parameters(&parameters).unwrap();
            (backend.load_batch(&batch.images, &batch.labels, Start::Zero)).unwrap();
            let relaxation = Recipe::default().relaxation(5);
            backend.free_phase(&relaxation).unwrap();
            let statistics = backend.statistics().unwrap();
            let states = backend.states(PhaseState::Free).unwrap();
            assert_eq!(statistics.len(), states.len());
            for ((l, state), found) in network.free_layers().zip(&states).zip(&statistics) {
                let images = state.outer_iter();
                let norms = images.map(|image| image.iter().map(|v| v * v).sum::<f64>().sqrt());
                let norm = norms.sum::<f64>() / batch.labels.len() as f64;
                assert!(
                    (found.norm - norm).abs() <= 1e-9 * norm,
                    "seed {seed} layer {l}: {} instead of {norm}",
                    found.norm
                );
                let bounds = network.layers()[l].activation.bounds();
                let expected = bounds.map(|(low, high)| {
                    let high = match precision {
                        Precision::Fp16 => f64::from(f16::from_f32(high as f32)),
                        _ => f64::from(high as f32),
                    };
                    let at_bound = state.iter().filter(|&&s| s <= low || s >= high).count();
                    at_bound as f64 / state.len() as f64
                });
                assert_eq!(
                    found.saturation, expected,
                    "seed {seed} layer {l} {precision:?}"
                );
                partly_saturated += usize::from(expected.is_some_and(|s| s > 0.0 && s < 1.0));
            }
        }
    }
    assert!(partly_saturated > 10, "the states say too little");
}
