//! Any number of ranks trains the network that one machine trains.

use crate::support::networks::{random_batch, rng, small_network};
use crate::support::ranks::on_ranks;
use eqprop_cuda::cpu::backend;
use eqprop_cuda::network::{Network, ParameterSet, parameters::initialise};
use eqprop_cuda::optim::OptimizerConfig;
use eqprop_cuda::parallel::{Alone, DataParallel, Ranks};
use eqprop_cuda::phase::{
    Backend, CostFunction, Mode, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use ndarray::{Array4, ArrayD, Axis, Slice};
use std::rc::Rc;

type Batches = Vec<(Array4<f32>, Vec<usize>)>;

/// What a rank ends with.
struct End {
    parameters: ParameterSet<f64>,
    norm: f64,
    kept: Option<Vec<ArrayD<f64>>>,
    predictions: Vec<Vec<usize>>,
}

/// Trains on this rank's rows of `batches`, from `kept` if it is given.
fn train(
    network: &Network,
    batches: &Batches,
    kept: Option<Vec<ArrayD<f64>>>,
    ranks: Rc<dyn Ranks>,
) -> End {
    let relaxation = |iterations| Relaxation {
        mode: Mode::Coloured,
        iterations,
        omega: 1.0,
        tolerance: None,
    };
    let nudging = Nudging {
        beta: 0.5,
        variant: Variant::Centered,
        form: NudgedPhase::SumDifference,
        output: OutputCondition::Nudged,
    };
    let shard = ranks.shard();
    let mut rank = DataParallel::new(backend::<f64>(network), network, ranks);
    rank.set_parameters(&initialise(network, 5)).unwrap();
    let optimizer = OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 1e-3,
    };
    rank.set_optimizer(optimizer).unwrap();
    rank.set_kept_state(kept).unwrap();
    let rates = vec![0.05; network.parameter_count()];
    let mut norm = 0.0;
    let mut predictions = Vec::new();
    for (images, labels) in batches {
        let rows = shard.rows(labels.len());
        let images = images
            .slice_axis(Axis(0), Slice::from(rows.clone()))
            .to_owned();
        rank.load_batch(&images, &labels[rows], Start::Kept)
            .unwrap();
        rank.free_phase(&relaxation(30)).unwrap();
        predictions.push(rank.outcome(CostFunction::Mse).unwrap().prediction);
        rank.nudged_phases(&nudging, CostFunction::Mse, &relaxation(10))
            .unwrap();
        rank.estimate_gradient().unwrap();
        norm = rank.gradient_norm().unwrap();
        rank.step(&rates, Some(0.5)).unwrap();
    }
    End {
        parameters: rank.parameters().unwrap(),
        norm,
        kept: rank.kept_state().unwrap(),
        predictions,
    }
}

fn largest_difference(a: &ParameterSet<f64>, b: &ParameterSet<f64>) -> f64 {
    let pairs = a
        .tensors()
        .iter()
        .flatten()
        .zip(b.tensors().iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn ranks_train_as_one_machine_does() {
    for seed in 0..6 {
        let mut rng = rng(seed);
        let network = small_network(&mut rng);
        // Batches that do not divide; the third has fewer rows than some have ranks, the last two begin from a kept state again.
        let batches: Batches = [7, 7, 3, 3, 5]
            .map(|n| random_batch(&network, n, &mut rng))
            .into();
        let one = train(&network, &batches, None, Rc::new(Alone));
        for world in [2, 3, 4] {
            let ranks = on_ranks(world, |ranks| train(&network, &batches, None, ranks));
            for rank in &ranks {
                let difference = largest_difference(&rank.parameters, &one.parameters);
                assert!(
                    difference < 1e-12,
                    "seed {seed}, {world} ranks: {difference:e}"
                );
                assert!(
                    largest_difference(&rank.parameters, &ranks[0].parameters) == 0.0,
                    "ranks drift apart"
                );
                assert!((rank.norm - one.norm).abs() < 1e-10 * one.norm);
            }
            // The rows of all ranks, one after the other, are the batch.
            for (b, expected) in one.predictions.iter().enumerate() {
                let joined: Vec<usize> = ranks
                    .iter()
                    .flat_map(|rank| rank.predictions[b].clone())
                    .collect();
                assert_eq!(&joined, expected);
            }
            let kept = ranks[0].kept.as_ref().unwrap();
            for (layer, expected) in kept.iter().zip(one.kept.as_ref().unwrap()) {
                assert_eq!(layer.shape(), expected.shape());
                let difference = (layer - expected)
                    .mapv(f64::abs)
                    .fold(0.0, |a: f64, &b| a.max(b));
                assert!(
                    difference < 1e-11,
                    "seed {seed}, {world} ranks: {difference:e}"
                );
            }
        }
    }
}

#[test]
fn a_kept_state_goes_on_on_another_number_of_ranks() {
    let mut rng = rng(77);
    let network = small_network(&mut rng);
    let batches: Batches = [6, 6].map(|n| random_batch(&network, n, &mut rng)).into();
    let first = on_ranks(3, |ranks| train(&network, &batches, None, ranks));
    let kept = first[0].kept.clone();
    assert!(kept.is_some());
    let one = train(&network, &batches, kept.clone(), Rc::new(Alone));
    let fresh = train(&network, &batches, None, Rc::new(Alone));
    let two = on_ranks(2, |ranks| train(&network, &batches, kept.clone(), ranks));
    assert!(largest_difference(&two[1].parameters, &one.parameters) < 1e-12);
    assert!(
        largest_difference(&fresh.parameters, &one.parameters) > 1e-9,
        "the kept state changes nothing"
    );
}

/// A run that was resumed saves before its first batch.
#[test]
fn a_kept_state_is_there_before_a_batch_is() {
    let mut rng = rng(78);
    let network = small_network(&mut rng);
    let batches: Batches = [random_batch(&network, 5, &mut rng)].into();
    let kept = train(&network, &batches, None, Rc::new(Alone)).kept;
    let states = on_ranks(2, |ranks| {
        let mut rank = DataParallel::new(backend::<f64>(&network), &network, ranks);
        rank.set_kept_state(kept.clone()).unwrap();
        rank.kept_state().unwrap()
    });
    assert_eq!(states[0], kept);
}
