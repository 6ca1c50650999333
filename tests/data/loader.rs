//! Batches depend on the seed alone: not on threads, nor on where an epoch is entered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eqprop_cuda::data::augment::{PadMode, Step, crop_edge, flip};
use eqprop_cuda::data::{
    Augmentation, Batch, Dataset, DatasetName, Loader, LoaderOptions, Normalization, Shard,
    normalize,
};

/// 103 colour images without structure, each different from the others.
fn dataset(n: usize) -> Arc<Dataset> {
    let images = (0..n * 3 * 32 * 32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    Arc::new(Dataset {
        images,
        labels: (0..n).map(|i| (i % 10) as u8).collect(),
        channels: 3,
        height: 32,
        width: 32,
        classes: 10,
    })
}

fn options(threads: usize) -> LoaderOptions {
    LoaderOptions {
        batch_size: 10,
        shuffle: true,
        augment: Some(DatasetName::Cifar10.augmentation()),
        normalization: DatasetName::Cifar10.normalization(),
        seed: 7,
        threads,
        prefetch: 2,
        shard: Shard::WHOLE,
    }
}

fn epoch(options: LoaderOptions, epoch: u64, first: usize) -> Vec<Batch> {
    Loader::new(dataset(103), options)
        .epoch(epoch, first)
        .collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_threads() {
    let reference = epoch(options(1), 3, 0);
    assert_eq!(reference.len(), 11);
    for threads in [0, 2, 5, 64] {
        for prefetch in [0, 1, 7] {
            let options = LoaderOptions {
                prefetch,
                ..options(threads)
            };
            assert!(epoch(options, 3, 0) == reference, "{threads} threads");
        }
    }
}

#[test]
fn an_epoch_can_be_entered_anywhere() {
    let whole = epoch(options(2), 3, 0);
    for first in [1, 4, 10, 11, 50] {
        for threads in [1, 3] {
            let rest = epoch(options(threads), 3, first);
            assert!(rest[..] == whole[first.min(11)..], "from batch {first}");
        }
    }
}

#[test]
fn every_example_comes_once_and_the_last_batch_is_smaller() {
    let loader = Loader::new(
        dataset(103),
        LoaderOptions {
            augment: None,
            ..options(2)
        },
    );
    assert_eq!((loader.batches(), loader.examples()), (11, 103));
    let data = dataset(103);
    let norm = DatasetName::Cifar10.normalization();
    let mut left: BTreeMap<Vec<u32>, usize> = (0..103)
        .map(|i| {
            let values = normalize(&data.image(i), &norm);
            (
                values.into_iter().map(f32::to_bits).collect(),
                usize::from(data.labels[i]),
            )
        })
        .collect();
    for (index, batch) in loader.epoch(0, 0).enumerate() {
        assert_eq!(batch.index, index);
        let n = if index == 10 { 3 } else { 10 };
        assert_eq!(batch.images.dim(), (n, 3, 32, 32));
        assert_eq!((batch.len(), batch.is_empty()), (n, false));
        for (image, label) in batch.images.outer_iter().zip(batch.labels) {
            let key: Vec<u32> = image.iter().map(|v| v.to_bits()).collect();
            assert_eq!(left.remove(&key), Some(label));
        }
    }
    assert!(left.is_empty());
}

#[test]
fn without_shuffling_the_order_is_that_of_the_dataset() {
    let options = LoaderOptions {
        shuffle: false,
        augment: None,
        ..options(3)
    };
    let labels: Vec<usize> = epoch(options, 5, 0)
        .into_iter()
        .flat_map(|b| b.labels)
        .collect();
    assert!(labels.iter().enumerate().all(|(i, &label)| label == i % 10));
}

/// Order and augmentation each, with the other switched off.
#[test]
fn epochs_and_seeds_change_order_and_augmentation() {
    let shuffled = LoaderOptions {
        augment: None,
        ..options(2)
    };
    let augmented = LoaderOptions {
        shuffle: false,
        ..options(2)
    };
    for options in [shuffled, augmented] {
        let first = epoch(options.clone(), 0, 0);
        assert!(first == epoch(options.clone(), 0, 0));
        assert!(first != epoch(options.clone(), 1, 0), "{options:?}");
        let other = LoaderOptions { seed: 8, ..options };
        assert!(first != epoch(other.clone(), 0, 0), "{other:?}");
    }
}

/// Guards against an accidental change of the meaning of a seed: old runs could not be repeated any more.
#[test]
fn the_meaning_of_a_seed_does_not_change() {
    let labels: Vec<usize> = epoch(options(1), 0, 0)
        .into_iter()
        .flat_map(|b| b.labels)
        .take(12)
        .collect();
    assert_eq!(labels, [2, 1, 9, 3, 5, 4, 4, 8, 4, 3, 9, 5]);
}

/// Batches that take long to make: 8 of 1,000 colour images each.
fn slow(threads: usize) -> Loader {
    let options = LoaderOptions {
        batch_size: 1_000,
        prefetch: 1,
        ..options(threads)
    };
    Loader::new(dataset(8_000), options)
}

#[test]
fn dropping_an_epoch_midway_stops_its_threads() {
    let loader = slow(4);
    let start = Instant::now();
    assert_eq!(loader.epoch(0, 0).count(), 8);
    let whole = start.elapsed();
    // All threads at work, or all waiting for room: either way they end at once.
    for taken in [0, 1, 7] {
        let mut epoch = loader.epoch(0, 0);
        assert_eq!(epoch.by_ref().take(taken).count(), taken);
        let start = Instant::now();
        drop(epoch);
        let stopping = start.elapsed();
        assert!(stopping < whole / 2, "{stopping:?} of {whole:?}");
    }
}

#[test]
fn loading_runs_ahead_of_the_consumer() {
    let loader = slow(1);
    let mut epoch = loader.epoch(0, 0);
    let start = Instant::now();
    epoch.next();
    let making = start.elapsed();
    std::thread::sleep(3 * making + Duration::from_millis(100));
    let start = Instant::now();
    epoch.next();
    let waiting = start.elapsed();
    assert!(waiting < making / 2, "{waiting:?} of {making:?}");
}

/// Each augmented image is one of those that the recipe can produce, and all of them occur.
#[test]
fn the_fashion_recipe_produces_crops_and_flips() {
    let name = DatasetName::FashionMnist;
    let images = (0..32 * 32).map(|i| (i * 7 % 251) as u8).collect();
    let one = Dataset {
        images,
        labels: vec![0],
        channels: 1,
        height: 32,
        width: 32,
        classes: 10,
    };
    let mut possible = BTreeMap::new();
    let bits = |values: Vec<f32>| -> Vec<u32> { values.into_iter().map(f32::to_bits).collect() };
    for (top, left) in (0..5).flat_map(|top| (0..5).map(move |left| (top, left))) {
        let image = crop_edge(&one.image(0), 2, top, left, 32);
        for image in [flip(&image), image] {
            possible.insert(bits(normalize(&image, &name.normalization())), 0);
        }
    }
    assert_eq!(possible.len(), 50);
    let loader = Loader::new(
        Arc::new(one),
        LoaderOptions {
            augment: Some(name.augmentation()),
            normalization: name.normalization(),
            ..options(1)
        },
    );
    for epoch in 0..1_500 {
        for batch in loader.epoch(epoch, 0) {
            let image = bits(batch.images.iter().copied().collect());
            *possible.get_mut(&image).expect("a crop and perhaps a flip") += 1;
        }
    }
    // 30 expected of each; fewer than 5 or more than 70 is less likely than 1e-6.
    assert!(
        possible.values().all(|n| (5..=70).contains(n)),
        "{:?}",
        possible.values()
    );
}

#[test]
fn published_recipes_are_values_in_the_published_order() {
    let crop = |pad| Step::Crop {
        pad,
        mode: PadMode::Edge,
    };
    let rand_augment = |ops| Step::RandAugment { ops, magnitude: 9 };
    for (name, steps) in [
        (DatasetName::FashionMnist, vec![crop(2), Step::Flip]),
        (
            DatasetName::Cifar10,
            vec![Step::Flip, rand_augment(3), crop(4)],
        ),
        (
            DatasetName::Cifar100,
            vec![Step::Flip, rand_augment(4), crop(4)],
        ),
    ] {
        let recipe = Augmentation { steps };
        assert_eq!(name.augmentation(), recipe);
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Augmentation>(&json).unwrap(), recipe);
    }
}

/// Batches of 10 of 103 examples: neither the batch nor the last one, of 3, divides among the ranks, and with 16 ranks some
/// have no rows.
#[test]
fn the_ranks_rows_together_are_the_batch_bit_for_bit() {
    let whole = epoch(options(2), 3, 0);
    for world in [1, 2, 3, 4, 7, 16] {
        let ranks: Vec<Vec<Batch>> = (0..world)
            .map(|rank| {
                let shard = Shard { rank, world };
                epoch(
                    LoaderOptions {
                        shard,
                        ..options(2)
                    },
                    3,
                    0,
                )
            })
            .collect();
        for (index, batch) in whole.iter().enumerate() {
            let sizes: Vec<usize> = ranks.iter().map(|rank| rank[index].len()).collect();
            let (most, least) = (sizes.iter().max().unwrap(), sizes.iter().min().unwrap());
            assert!(most - least <= 1, "{sizes:?}");
            let rows = ranks.iter().flat_map(|rank| rank[index].images.iter());
            let bits = |v: &f32| v.to_bits();
            assert!(
                rows.map(bits).eq(batch.images.iter().map(bits)),
                "{world} ranks"
            );
            let labels = ranks.iter().flat_map(|rank| &rank[index].labels);
            assert!(labels.eq(&batch.labels));
        }
        assert!(ranks.iter().all(|rank| rank.len() == whole.len()));
    }
}

#[test]
fn images_of_any_size_and_number_of_channels_are_loaded() {
    let images: Vec<u8> = (0..5 * 2 * 7 * 3).map(|i| i as u8).collect();
    let data = Dataset {
        images: images.clone(),
        labels: vec![0, 1, 2, 0, 1],
        channels: 2,
        height: 7,
        width: 3,
        classes: 3,
    };
    let normalization = Normalization {
        mean: vec![0.0; 2],
        std: vec![1.0; 2],
    };
    let steps = vec![
        Step::Flip,
        Step::Crop {
            pad: 1,
            mode: PadMode::Zero,
        },
    ];
    for augment in [None, Some(Augmentation { steps })] {
        let augmented = augment.is_some();
        let options = LoaderOptions {
            shuffle: false,
            augment,
            normalization: normalization.clone(),
            ..options(1)
        };
        let batch = Loader::new(Arc::new(data.clone()), options)
            .epoch(0, 0)
            .next()
            .unwrap();
        assert_eq!(batch.images.dim(), (5, 2, 7, 3));
        let bytes: Vec<u8> = batch
            .images
            .iter()
            .map(|v| (v * 255.0).round() as u8)
            .collect();
        assert_eq!(bytes == images, !augmented);
    }
}
