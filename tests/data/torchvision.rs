//! Datasets as torchvision leaves them on a disk.

use std::fs;

use crate::support::data::*;
use eqprop_cuda::data::DatasetName::{Cifar10, Cifar100, Svhn};
use tempfile::tempdir;

/// Five training files of two images and a test file of one, for Python; the numbers are those of `cifar10_members`.
fn batches() -> Vec<(String, Vec<u8>)> {
    let folder = "cifar-10-batches-py";
    let image = |fill: u8| record(&[], fill);
    let mut members: Vec<_> = (1..=5u8)
        .map(|b| {
            let images = [image(10 * b), image(10 * b + 5)].concat();
            let data = python_batch("labels", &[b, b - 1], &images);
            (format!("{folder}/data_batch_{b}"), data)
        })
        .collect();
    members.push((format!("{folder}/batches.meta"), b"a pickle".to_vec()));
    let test = python_batch("labels", &[9], &image(200));
    members.push((format!("{folder}/test_batch"), test));
    members
}

#[test]
fn cifar10_for_python_is_read_from_its_folder_and_its_archive() {
    let binary = tempdir().unwrap();
    fs::write(
        binary.path().join(CIFAR10_ARCHIVE),
        gzip(&tar(&cifar10_members())),
    )
    .unwrap();
    let expected = only(Cifar10, binary.path()).load().unwrap();

    let unpacked = tempdir().unwrap();
    for (name, data) in batches() {
        write_files(unpacked.path(), &[(&name, data)]);
    }
    assert_eq!(only(Cifar10, unpacked.path()).load().unwrap(), expected);

    let packed = tempdir().unwrap();
    let archive = gzip(&tar(&batches()));
    fs::write(packed.path().join("cifar-10-python.tar.gz"), archive).unwrap();
    assert_eq!(only(Cifar10, packed.path()).load().unwrap(), expected);
}

#[test]
fn cifar100_for_python_has_fine_labels() {
    let folder = tempdir().unwrap();
    let images = [record(&[], 0), record(&[], 50), record(&[], 9)].concat();
    let files = [
        (
            "cifar-100-python/train",
            python_batch("fine_labels", &[42, 99, 0], &images),
        ),
        (
            "cifar-100-python/test",
            python_batch("fine_labels", &[7], &record(&[], 1)),
        ),
        ("cifar-100-python/meta", b"a pickle".to_vec()),
    ];
    write_files(folder.path(), &files);
    let splits = only(Cifar100, folder.path()).load().unwrap();
    assert_eq!(splits.train.labels, [42, 99, 0]);
    assert_eq!(splits.train.image(1).data[1024], 51);
    assert_eq!(splits.test.labels, [7]);
}

#[test]
fn a_batch_that_is_none_is_named() {
    let good = python_batch("labels", &[1, 0], &record(&[], 1).repeat(2));
    let (at, _) = (good.iter().enumerate().rev())
        .find(|(_, byte)| **byte == b'T')
        .unwrap();
    for (data, parts) in [
        (
            python_batch("labels", &[1, 10], &record(&[], 1).repeat(2)),
            &["label 10", "0 to 9"][..],
        ),
        (python_batch("labels", &[1], &[7; 100]), &["(N, 3072)"]),
        (
            python_batch("coarse", &[1], &record(&[], 1)),
            &["labels", "none in it"],
        ),
        (good[..at].to_vec(), &["truncated"]),
        (b"cos\nsystem\n(U\x02lstR.".to_vec(), &["corrupt"]),
    ] {
        let folder = tempdir().unwrap();
        for (name, data) in batches() {
            write_files(folder.path(), &[(&name, data)]);
        }
        let name = "cifar-10-batches-py/data_batch_3";
        write_files(folder.path(), &[(name, data)]);
        let error = message(only(Cifar10, folder.path()).load(), parts);
        assert!(error.contains("data_batch_3"), "{error}");
    }
}

/// An image whose pixels are all different from their transposed ones.
fn digit(start: u8) -> Vec<u8> {
    (0..3072).map(|p| (p / 7) as u8 ^ start).collect()
}

#[test]
fn svhn_is_read_as_matlab_wrote_it() {
    for (folder, compressed) in [("", true), ("SVHN", true), ("svhn", false)] {
        let root = tempdir().unwrap();
        let images = [digit(1), digit(2), digit(3)];
        let files = [
            ("train_32x32.mat", svhn(&images, &[1, 0, 9], compressed)),
            ("test_32x32.mat", svhn(&images[..1], &[5], compressed)),
        ];
        write_files(&root.path().join(folder), &files);
        let splits = only(Svhn, root.path()).load().unwrap();
        assert_eq!(splits.train.labels, [1, 0, 9]);
        assert_eq!(splits.train.image(1).data, images[1]);
        assert_eq!(
            (splits.test.len(), splits.test.image(0).data),
            (1, digit(1))
        );
    }
}

#[test]
fn a_damaged_mat_file_is_named() {
    let good = svhn(&[digit(1), digit(2)], &[1, 2], false);
    let mut two_labels = svhn(&[digit(1), digit(2)], &[1, 2], false);
    let long = two_labels.len();
    // The last number of y.
    two_labels[long - 8..].copy_from_slice(&11f64.to_le_bytes());
    for (data, parts) in [
        (good[..5000].to_vec(), &["truncated"][..]),
        (good[..128].to_vec(), &["a variable X", "none in it"]),
        (b"MATLAB 7.3".repeat(20), &["level 5"]),
        (two_labels, &["label 1 of y"]),
        (
            svhn(&[digit(1), digit(2)], &[1], true),
            &["2 images", "1 labels"],
        ),
    ] {
        let root = tempdir().unwrap();
        write_files(
            root.path(),
            &[("train_32x32.mat", data), ("test_32x32.mat", good.clone())],
        );
        let error = message(only(Svhn, root.path()).load(), parts);
        assert!(error.contains("train_32x32.mat"), "{error}");
    }
}
