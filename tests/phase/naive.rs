//! The energy of random graphs against its definition, written out unit by unit: every kind of edge.

use crate::support::naive::product;
use crate::support::networks::{
    load_at, random_batch, random_state, ready_backend, rng, small_varied_network,
};
use eqprop_cuda::network::{Network, ParameterSet, Shape};
use eqprop_cuda::phase::CostFunction;
use ndarray::{ArrayD, Axis, Ix3, IxDyn};
use proptest::prelude::*;

/// `E(s) = - sum_l <b_l, s_l> - sum_edges <post, Op_e(pre; W_e)>` of each example; `states` begins with the images.
fn energies(network: &Network, parameters: &ParameterSet<f64>, states: &[ArrayD<f64>]) -> Vec<f64> {
    let image = |l: usize, n: usize| {
        let Shape {
            channels,
            height,
            width,
        } = network.layers()[l].shape;
        let one = states[l].index_axis(Axis(0), n);
        let one = one
            .into_shape_with_order(IxDyn(&[channels, height, width]))
            .unwrap();
        one.into_dimensionality::<Ix3>().unwrap()
    };
    let energy = |n: usize| {
        let mut energy = 0.0;
        for l in network.free_layers() {
            for ((c, _, _), s) in image(l, n).indexed_iter() {
                energy -= parameters.bias(l)[c] * s;
            }
        }
        for (e, edge) in network.edges().iter().enumerate() {
            let product = product(network, e, parameters.weight(e), image(edge.pre, n));
            energy -= (&product * &image(edge.post, n)).sum();
        }
        energy
    };
    (0..states[0].shape()[0]).map(energy).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn the_energy_is_that_of_its_definition(seed in 0u64..1_000_000) {
        let mut rng = rng(seed);
        let network = small_varied_network(&mut rng);
        let mut backend = ready_backend::<f64>(&network, &mut rng);
        let (images, labels) = random_batch(&network, 2, &mut rng);
        let state = random_state(&network, 2, &mut rng);
        load_at(&mut *backend, &images, &labels, &state);
        let got = backend.outcome(CostFunction::Mse).unwrap().energy;
        let input = images.mapv(f64::from).into_dyn();
        let states: Vec<_> = std::iter::once(input).chain(state).collect();
        let expected = energies(&network, &backend.parameters().unwrap(), &states);
        for (got, expected) in got.iter().zip(&expected) {
            prop_assert!((got - expected).abs() < 1e-9 * (1.0 + expected.abs()), "{network}: {got} is not {expected}");
        }
    }
}
