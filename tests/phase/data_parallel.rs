//! Any number of ranks trains the network that one machine trains.

use crate::support::kernels::random_feed_forward;
use crate::support::networks::{random_batch, rng, small_network};
use crate::support::ranks::on_ranks;
use eqprop_cuda::cpu::backend;
use eqprop_cuda::device::{self, Device};
use eqprop_cuda::feedforward::{self, FeedForward};
use eqprop_cuda::network::{ModelState, Network, ParameterSet, parameters::initialise};
use eqprop_cuda::optim::OptimizerConfig;
use eqprop_cuda::parallel::{Alone, DataParallel, DataParallelFeedForward, Ranks};
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

/// Trains a feed-forward network by backpropagation on this rank's rows of `batches`; what it ends with, and the last gradient's norm.
fn backpropagate(
    model: &FeedForward,
    (device, precision): (Device, device::Precision),
    batches: &Batches,
    ranks: Option<Rc<dyn Ranks>>,
) -> (ModelState, f64) {
    let shard = ranks.as_ref().map(|ranks| ranks.shard());
    let mut rank = device.feed_forward(model, precision).unwrap();
    if let Some(ranks) = ranks {
        rank = Box::new(DataParallelFeedForward::new(rank, model.network(), ranks));
    }
    rank.set_state(&model.initialise(3)).unwrap();
    let optimizer = OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 1e-3,
    };
    rank.set_optimizer(optimizer).unwrap();
    let rates = vec![0.02; model.parameter_names().len()];
    let mut norm = 0.0;
    for (images, labels) in batches {
        let rows = shard.map_or(0..labels.len(), |shard| shard.rows(labels.len()));
        let images = images
            .slice_axis(Axis(0), Slice::from(rows.clone()))
            .to_owned();
        let outcome = rank
            .forward(&images, &labels[rows.clone()], feedforward::NormMode::Train)
            .unwrap();
        assert_eq!(outcome.prediction.len(), rows.len());
        rank.backward().unwrap();
        norm = rank.gradient_norm().unwrap();
        rank.step(&rates).unwrap();
    }
    (rank.state().unwrap(), norm)
}

/// Also what normalises: the statistics of a batch are those of all its rows.
fn ranks_backpropagate_as_one_machine_does(
    kind: (Device, device::Precision),
    seeds: u64,
    most: f64,
) {
    for seed in 0..seeds {
        let model = random_feed_forward(seed);
        let mut rng = rng(seed);
        // Batches that do not divide; the third has fewer rows than some have ranks.
        let batches: Batches = [7, 6, 3, 5]
            .map(|n| random_batch(model.network(), n, &mut rng))
            .into();
        let (one, norm) = backpropagate(&model, kind, &batches, None);
        for world in [2, 3, 4] {
            let ranks = on_ranks(world, |ranks| {
                backpropagate(&model, kind, &batches, Some(ranks))
            });
            for (state, norm_of_rank) in &ranks {
                let close = |ours: &[ArrayD<f64>], expected: &[ArrayD<f64>], names: &[String]| {
                    for ((ours, expected), name) in ours.iter().zip(expected).zip(names) {
                        let scale = expected.iter().fold(1e-2, |m: f64, v| m.max(v.abs()));
                        for (a, b) in ours.iter().zip(expected) {
                            let is_close = (a - b).abs() <= most * scale;
                            assert!(is_close, "seed {seed}, {world} ranks, {name}: {a} for {b}");
                        }
                    }
                };
                let names = (model.parameter_names(), model.statistic_names());
                close(
                    state.parameters.tensors(),
                    one.parameters.tensors(),
                    names.0,
                );
                close(&state.statistics, &one.statistics, names.1);
                assert!(
                    (norm_of_rank - norm).abs() <= most * norm,
                    "{norm_of_rank} {norm}"
                );
                assert!(state == &ranks[0].0, "ranks drift apart");
            }
        }
    }
}

#[test]
fn ranks_backpropagate_as_one_processor_does() {
    ranks_backpropagate_as_one_machine_does((Device::Cpu, device::Precision::Fp64), 5, 1e-9);
}

#[cfg(feature = "emulation")]
#[test]
fn ranks_backpropagate_as_one_gpu_does() {
    ranks_backpropagate_as_one_machine_does((Device::Emulated, device::Precision::Fp32), 2, 2e-3);
}
