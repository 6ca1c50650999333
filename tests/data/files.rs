//! Datasets are found in the usual places, read correctly, and bad files get an error that names them.

use std::fs;
use std::io::Write;

use crate::support::data::*;
use eqprop_cuda::data::{DataError, DatasetName, Plan, Source, Splits, load};
use tempfile::{TempDir, tempdir};

use DatasetName::{Cifar10, Cifar100, FashionMnist, FashionMnistMini, Kmnist, Mnist};

/// A folder with the synthetic Fashion-MNIST, in which one file is replaced.
fn fashion_with(name: &str, data: Vec<u8>) -> (TempDir, Result<Splits, DataError>) {
    let folder = tempdir().unwrap();
    write_files(folder.path(), &fashion_files());
    fs::write(folder.path().join(name), data).unwrap();
    let result = only(FashionMnist, folder.path()).load();
    (folder, result)
}

fn cifar_with(
    name: DatasetName,
    file: &str,
    data: Vec<u8>,
) -> (TempDir, Result<Splits, DataError>) {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join(file), data).unwrap();
    let result = only(name, folder.path()).load();
    (folder, result)
}

fn check_fashion(splits: &Splits) {
    assert_eq!((splits.train.len(), splits.test.len()), (7, 3));
    assert_eq!(splits.train.labels, [0, 1, 2, 3, 4, 5, 6]);
    let image = splits.train.image(5);
    assert_eq!((image.channels, image.height, image.width), (1, 32, 32));
    // A frame of two black pixels around the 28 x 28 image.
    assert!(image.data[..64].iter().all(|&v| v == 0));
    assert_eq!(image.data[2 * 32..][..4], [0, 0, 5, 6]);
    assert_eq!(image.data[3 * 32 + 2], 5 + 28);
    assert_eq!(image.data[2 * 32 + 30], 0);
}

#[test]
fn fashion_mnist_is_found_in_each_usual_place() {
    for place in ["", "FashionMNIST/raw", "fashion-mnist"] {
        let folder = tempdir().unwrap();
        write_files(&folder.path().join(place), &fashion_files());
        let plan = only(FashionMnist, folder.path());
        check_fashion(&plan.load().unwrap());
        let cached = Plan {
            data_dir: Some("/nonexistent".into()),
            cache: Some(folder.path().into()),
            ..plan.clone()
        };
        check_fashion(&cached.load().unwrap());
        let system = Plan {
            data_dir: None,
            system: vec![folder.path().into()],
            ..plan
        };
        check_fashion(&system.load().unwrap());
    }
}

#[test]
fn the_named_folder_comes_before_cache_and_system() {
    let (mine, other) = (tempdir().unwrap(), tempdir().unwrap());
    write_files(mine.path(), &fashion_files());
    write_files(
        other.path(),
        &[
            (TRAIN_IMAGES, gzip(&idx_images(1))),
            (TRAIN_LABELS, gzip(&idx_labels(1))),
            (TEST_IMAGES, gzip(&idx_images(1))),
            (TEST_LABELS, gzip(&idx_labels(1))),
        ],
    );
    let plan = Plan {
        cache: Some(other.path().into()),
        system: vec![other.path().into()],
        ..only(FashionMnist, mine.path())
    };
    check_fashion(&plan.load().unwrap());
}

#[test]
fn idx_files_may_be_unzipped() {
    let folder = tempdir().unwrap();
    write_files(
        folder.path(),
        &[
            ("train-images-idx3-ubyte", idx_images(7)),
            ("train-labels-idx1-ubyte", idx_labels(7)),
            ("t10k-images-idx3-ubyte", idx_images(3)),
            (TEST_LABELS, gzip(&idx_labels(3))),
        ],
    );
    check_fashion(&only(FashionMnist, folder.path()).load().unwrap());
}

fn check_cifar10(splits: &Splits) {
    assert_eq!((splits.train.len(), splits.test.len()), (10, 1));
    assert_eq!(splits.train.labels, [1, 0, 2, 1, 3, 2, 4, 3, 5, 4]);
    assert_eq!(splits.train.image(3).data[1024], 26);
    assert_eq!(splits.test.labels, [9]);
    assert_eq!(splits.test.image(0).data[3071], 202);
}

#[test]
fn cifar10_is_read_from_its_archive_in_any_order_of_members() {
    let mut members = cifar10_members();
    for _ in 0..2 {
        let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&tar(&members)));
        check_cifar10(&result.unwrap());
        members.reverse();
    }
}

#[test]
fn cifar10_is_read_unpacked() {
    let folder = tempdir().unwrap();
    for (name, data) in cifar10_members() {
        write_files(folder.path(), &[(&name, data)]);
    }
    check_cifar10(&only(Cifar10, folder.path()).load().unwrap());
    let inner = folder.path().join("cifar-10-batches-bin");
    check_cifar10(&only(Cifar10, &inner).load().unwrap());
    fs::remove_file(inner.join("data_batch_4.bin")).unwrap();
    message(
        only(Cifar10, folder.path()).load(),
        &["cifar-10-batches-bin", "data_batch_4.bin is missing"],
    );
}

#[test]
fn cifar100_uses_the_fine_labels() {
    let (_folder, result) = cifar_with(Cifar100, CIFAR100_ARCHIVE, gzip(&tar(&cifar100_members())));
    let splits = result.unwrap();
    assert_eq!(splits.train.labels, [42, 99, 0]);
    assert_eq!(splits.test.labels, [7]);
    assert_eq!(splits.train.image(1).data[0], 50);
    assert_eq!(splits.train.classes, 100);
}

#[test]
fn fashion_mnist_mini_is_balanced_and_needs_no_files() {
    let source = Source {
        data_dir: Some("/nonexistent".into()),
        offline: true,
        mirror: None,
    };
    let splits = load(FashionMnistMini, &source).unwrap();
    for (dataset, per_class) in [(&splits.train, 500), (&splits.test, 100)] {
        let mut counts = [0; 10];
        for &label in &dataset.labels {
            counts[usize::from(label)] += 1;
        }
        assert_eq!(counts, [per_class; 10]);
    }
    // The mean and deviation of real pictures, within sampling error of the published constants.
    let norm = FashionMnistMini.normalization();
    let small = splits.train.images.len() as f64 * (28.0 * 28.0) / (32.0 * 32.0);
    let mean = splits
        .train
        .images
        .iter()
        .map(|&v| f64::from(v))
        .sum::<f64>()
        / 255.0
        / small;
    assert!((mean - f64::from(norm.mean[0])).abs() < 0.01, "{mean}");
}

#[test]
fn the_first_examples_can_be_taken() {
    let splits = load(FashionMnistMini, &Source::default()).unwrap();
    let all = splits.test.clone();
    let few = splits.test.truncated(7);
    assert_eq!(few.len(), 7);
    assert_eq!(few.labels, all.labels[..7]);
    assert_eq!(few.image(6), all.image(6));
    assert_eq!(all.clone().truncated(1 << 40), all);
}

#[test]
fn a_truncated_gzip_file_is_named() {
    let whole = gzip(&idx_images(7));
    for keep in [0, 1, 5, whole.len() / 2, whole.len() - 1] {
        let (_folder, result) = fashion_with(TRAIN_IMAGES, whole[..keep].to_vec());
        message(result, &[TRAIN_IMAGES, "truncated"]);
    }
}

#[test]
fn content_shorter_than_its_header_says_is_named() {
    for (name, data) in [
        (TRAIN_IMAGES, idx_images(7)),
        (TRAIN_LABELS, idx_labels(7)),
        (TEST_LABELS, idx_labels(3)),
    ] {
        for cut in [1, data.len() - 7, data.len() - 3] {
            let (_folder, result) = fashion_with(name, gzip(&data[..data.len() - cut]));
            message(result, &[name, "truncated"]);
        }
    }
}

#[test]
fn content_longer_than_its_header_says_is_named() {
    let mut data = idx_labels(7);
    data.push(0);
    let (_folder, result) = fashion_with(TRAIN_LABELS, gzip(&data));
    message(result, &[TRAIN_LABELS, "corrupt"]);
}

#[test]
fn a_wrong_checksum_inside_gzip_is_named() {
    let mut data = gzip(&idx_images(7));
    let crc = data.len() - 8;
    data[crc] ^= 1;
    let (_folder, result) = fashion_with(TRAIN_IMAGES, data);
    message(result, &[TRAIN_IMAGES, "corrupt"]);
}

#[test]
fn swapped_files_are_recognised() {
    let (_folder, result) = fashion_with(TRAIN_IMAGES, gzip(&idx_labels(7)));
    message(
        result,
        &[
            TRAIN_IMAGES,
            "expected an idx images file",
            "found an idx labels file",
        ],
    );
    let (_folder, result) = fashion_with(TEST_LABELS, gzip(&idx_images(3)));
    message(result, &[TEST_LABELS, "expected an idx labels file"]);
}

#[test]
fn something_else_under_the_name_is_recognised() {
    let (_folder, result) = fashion_with(TRAIN_IMAGES, b"<html>404</html>".to_vec());
    message(result, &[TRAIN_IMAGES, "expected gzip data"]);
    let (_folder, result) = fashion_with(TRAIN_IMAGES, gzip(b"<html>404 and more</html>"));
    message(result, &[TRAIN_IMAGES, "magic number"]);
    let mut large = idx_images(7);
    large[11] = 32;
    let (_folder, result) = fashion_with(TRAIN_IMAGES, gzip(&large));
    message(result, &[TRAIN_IMAGES, "28 x 28", "32 x 28"]);
}

/// Both headers claim it, and zeros compress so well that the file could even hold it.
#[test]
fn an_absurd_count_does_not_fill_the_memory() {
    let mut images = idx_images(7);
    images[4..8].copy_from_slice(&[0xff; 4]);
    let (_folder, result) = fashion_with(TRAIN_IMAGES, gzip(&images));
    message(result, &[TRAIN_IMAGES, "corrupt", "4294967295"]);
    let mut labels = idx_labels(7);
    labels[4..8].copy_from_slice(&[0xff; 4]);
    let (_folder, result) = fashion_with(TRAIN_LABELS, gzip(&labels));
    message(result, &[TRAIN_LABELS, "corrupt", "4294967295"]);
}

/// A header of a tar entry: `kind` is its type, `size` what it claims.
fn tar_header(name: &[u8], kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// The reader keeps no long name and no extended header: 64 MB of them take no memory, and have no effect.
#[cfg(target_os = "linux")]
#[test]
fn long_names_and_extended_headers_of_an_archive_take_no_memory() {
    fn peak() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    const SIZE: usize = 256 << 20;
    for kind in [b'L', b'K', b'x', b'g'] {
        let folder = tempdir().unwrap();
        let path = folder.path().join(CIFAR10_ARCHIVE);
        let file = fs::File::create(&path).unwrap();
        let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        out.write_all(&tar_header(b"long", kind, SIZE as u64))
            .unwrap();
        let block = vec![b'a'; 1 << 20];
        for _ in 0..SIZE >> 20 {
            out.write_all(&block).unwrap();
        }
        out.write_all(&tar(&cifar10_members())).unwrap();
        out.finish().unwrap();
        let before = peak();
        check_cifar10(&only(Cifar10, folder.path()).load().unwrap());
        let grown = peak() - before;
        assert!(
            grown < SIZE >> 11,
            "{grown} kB for entries of kind {}",
            kind as char
        );
    }
}

#[test]
fn what_an_archive_says_is_cut_and_escaped() {
    let archive = [tar_header(b"evil\x1b[31m\x07name", b'0', 0), vec![0; 1024]].concat();
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&archive));
    let text = message(result, &["\\u{1b}[31m\\u{7}name"]);
    assert!(!text.contains('\x1b'));
    let name = "x".repeat(200_000) + "\u{202e}";
    let error = name.parse::<DatasetName>().unwrap_err().to_string();
    assert!(
        error.len() < 600 && error.contains("200003 bytes"),
        "{}",
        error.len()
    );
}

#[test]
fn empty_datasets_are_refused() {
    let (_folder, result) = fashion_with(TRAIN_IMAGES, gzip(&idx_images(0)));
    message(result, &[TRAIN_IMAGES, "no examples"]);
}

#[test]
fn images_and_labels_must_be_as_many() {
    let (_folder, result) = fashion_with(TRAIN_LABELS, gzip(&idx_labels(8)));
    message(
        result,
        &[TRAIN_IMAGES, "7 images", TRAIN_LABELS, "8 labels"],
    );
}

#[test]
fn labels_out_of_range_are_named() {
    let mut data = idx_labels(7);
    data[8 + 4] = 10;
    let (_folder, result) = fashion_with(TRAIN_LABELS, gzip(&data));
    message(result, &[TRAIN_LABELS, "example 4 has label 10", "0 to 9"]);

    let mut members = cifar10_members();
    members[2].1[3073] = 77;
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&tar(&members)));
    message(result, &["data_batch_3.bin", "example 1 has label 77"]);

    let mut members = cifar100_members();
    members[0].1[1] = 100;
    let (_folder, result) = cifar_with(Cifar100, CIFAR100_ARCHIVE, gzip(&tar(&members)));
    message(result, &["train.bin", "example 0 has label 100", "0 to 99"]);
}

#[test]
fn a_truncated_archive_is_named() {
    let archive = tar(&cifar10_members());
    let whole = gzip(&archive);
    for keep in [0, 1, 9, whole.len() / 3, whole.len() - 1] {
        let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, whole[..keep].to_vec());
        message(result, &[CIFAR10_ARCHIVE, "truncated"]);
    }
    for keep in [0, 700, 1000, 3 * archive.len() / 4] {
        let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&archive[..keep]));
        message(result, &[CIFAR10_ARCHIVE]);
    }
}

#[test]
fn a_damaged_archive_is_named() {
    let mut data = gzip(&tar(&cifar10_members()));
    let crc = data.len() - 8;
    data[crc] ^= 1;
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, data);
    message(result, &[CIFAR10_ARCHIVE, "corrupt"]);

    let mut archive = tar(&cifar10_members());
    archive[3] ^= 1; // a name; the header's own checksum notices
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&archive));
    message(result, &[CIFAR10_ARCHIVE, "corrupt"]);
}

#[test]
fn an_archive_holds_exactly_the_expected_members() {
    let mut missing = cifar10_members();
    missing.remove(1);
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&tar(&missing)));
    message(result, &[CIFAR10_ARCHIVE, "data_batch_2.bin"]);

    let mut more = cifar10_members();
    more.push((
        "cifar-10-batches-bin/data_batch_6.bin".into(),
        record(&[0], 0),
    ));
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&tar(&more)));
    message(result, &[CIFAR10_ARCHIVE, "data_batch_6.bin"]);

    let mut twice = cifar10_members();
    twice.push(twice[0].clone());
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&tar(&twice)));
    message(result, &[CIFAR10_ARCHIVE, "data_batch_1.bin", "twice"]);

    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&tar(&cifar100_members())));
    message(
        result,
        &[
            CIFAR10_ARCHIVE,
            "cifar-10-batches-bin",
            "cifar-100-binary/train.bin",
        ],
    );
}

#[test]
fn a_record_cut_short_is_named() {
    let mut members = cifar10_members();
    members[4].1.pop();
    let (_folder, result) = cifar_with(Cifar10, CIFAR10_ARCHIVE, gzip(&tar(&members)));
    message(result, &["data_batch_5.bin", "multiple of 3073"]);
}

#[test]
fn a_missing_dataset_says_which_file_to_put_where() {
    let folder = tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    message(
        only(Cifar100, folder.path()).load(),
        &["CIFAR100", CIFAR100_ARCHIVE, here, "offline", "--data-dir"],
    );
    message(
        only(FashionMnist, folder.path()).load(),
        &[TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS, here],
    );
    let nowhere = Plan {
        data_dir: None,
        ..only(Cifar10, folder.path())
    };
    message(nowhere.load(), &["CIFAR10", "--data-dir"]);
}

#[test]
fn a_part_of_someones_own_files_is_not_mixed_with_others() {
    let folder = tempdir().unwrap();
    write_files(folder.path(), &fashion_files()[..3]);
    message(
        only(FashionMnist, folder.path()).load(),
        &[folder.path().to_str().unwrap(), TEST_LABELS, "missing"],
    );
}

#[test]
fn dataset_names_round_trip() {
    for name in DatasetName::ALL {
        assert_eq!(name.to_string().parse::<DatasetName>().unwrap(), name);
        assert_eq!(name.class_names().len(), name.classes());
        assert_eq!(name.normalization().channels(), name.channels());
        // Of a folder nothing is known before it is looked into.
        assert_eq!(name.channels() > 0, name != DatasetName::Folder);
    }
    let error = "ImageNet".parse::<DatasetName>().unwrap_err().to_string();
    assert!(error.contains("ImageNet") && error.contains("FashionMNIST-mini"));
    assert_eq!("cifar-10".parse::<DatasetName>().unwrap(), Cifar10);
}

#[test]
fn torchvisions_layout_of_each_idx_dataset_is_read() {
    for (name, folder) in [
        (FashionMnist, "FashionMNIST/raw"),
        (Mnist, "MNIST/raw"),
        (Kmnist, "KMNIST/raw"),
    ] {
        let root = tempdir().unwrap();
        write_files(&root.path().join(folder), &fashion_files());
        check_fashion(&only(name, root.path()).load().unwrap());
        for other in [FashionMnist, Mnist, Kmnist] {
            let found = only(other, root.path()).load().is_ok();
            assert_eq!(found, other == name, "{other} in {folder}");
        }
    }
}

#[test]
fn images_keep_their_size_for_a_network_that_takes_it() {
    let root = tempdir().unwrap();
    write_files(&root.path().join("MNIST/raw"), &fashion_files());
    let plan = only(Mnist, root.path());
    let small = plan.load_at((28, 28)).unwrap();
    let image = small.train.image(5);
    assert_eq!((image.height, image.width), (28, 28));
    assert_eq!(image.data[..2], [5, 6]);
    assert_eq!(plan.load_at((32, 32)).unwrap(), plan.load().unwrap());
    message(
        plan.load_at((30, 30)),
        &["MNIST", "28 x 28", "32 x 32", "30 x 30"],
    );
    assert!(Mnist.augmentation_at((28, 28)).steps.is_empty());
    assert_eq!(Mnist.augmentation_at((32, 32)), Mnist.augmentation());
}
