//! One's own images: a folder per class, numpy's arrays, idx files.

use std::fs;
use std::path::Path;

use crate::support::data::*;
use eqprop_cuda::data::{DataError, DatasetName, Normalize, Plan, Profile, Splits};
use image::{GrayImage, RgbImage};
use tempfile::{TempDir, tempdir};

fn plan(folder: &Path) -> Plan {
    only(DatasetName::Folder, folder)
}

fn grey(path: &Path, width: u32, height: u32, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = GrayImage::from_fn(width, height, |x, y| {
        [value.wrapping_add((7 * y + x) as u8)].into()
    });
    image.save(path).unwrap();
}

fn colour(path: &Path, width: u32, height: u32, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = RgbImage::from_fn(width, height, |x, y| [value, x as u8, y as u8].into());
    image.save(path).unwrap();
}

/// Cats and dogs of 6x4 pixels (height x width).
fn pets() -> TempDir {
    let folder = tempdir().unwrap();
    for (name, value) in [
        ("train/dog/1.png", 10),
        ("train/cat/b.png", 20),
        ("train/cat/a.png", 30),
        ("train/cat/more/c.PNG", 40),
        ("test/dog/x.png", 50),
    ] {
        colour(&folder.path().join(name), 4, 6, value);
    }
    fs::write(folder.path().join("train/cat/.hidden.png"), "no image").unwrap();
    fs::write(folder.path().join("train/cat/notes.txt"), "no image").unwrap();
    folder
}

#[test]
fn a_folder_per_class_is_read_as_image_folder_does() {
    let folder = pets();
    let profile = plan(folder.path()).profile().unwrap();
    let expected = Profile {
        channels: 3,
        size: (6, 4),
        pad: 0,
        classes: vec!["cat".into(), "dog".into()],
    };
    assert_eq!(profile, expected);
    let Splits { train, test } = plan(folder.path()).load().unwrap();
    // By class, then by path.
    assert_eq!(train.labels, [0, 0, 0, 1]);
    let reds: Vec<u8> = (0..4).map(|i| train.bytes(i)[0]).collect();
    assert_eq!(reds, [30, 20, 40, 10]);
    // Planes: red, then what x and y were.
    assert_eq!(train.bytes(0)[24..28], [0, 1, 2, 3]);
    assert_eq!(train.bytes(0)[48..56], [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!((test.labels, test.images[0]), (vec![1], 50));
}

/// A limit takes some of each class.
#[test]
fn a_part_of_a_folder_is_spread_over_its_classes() {
    let train = plan(pets().path()).load().unwrap().train;
    let mut more = train.clone();
    more.labels = vec![0, 0, 1, 1];
    let two = more.clone().spread(2);
    assert_eq!(
        (two.labels.clone(), two.bytes(1)),
        (vec![0, 1], train.bytes(2))
    );
    assert_eq!(more.clone().spread(9), more);
}

#[test]
fn val_is_another_word_for_test_and_jpegs_are_images() {
    let folder = tempdir().unwrap();
    for name in ["train/a/1.jpg", "train/b/1.jpeg", "val/b/1.png"] {
        grey(&folder.path().join(name), 28, 28, 0);
    }
    let profile = plan(folder.path()).profile().unwrap();
    assert_eq!((profile.channels, profile.pad), (1, 2));
    let padded = plan(folder.path()).load().unwrap();
    assert_eq!(padded.train.size(), (32, 32));
    let plain = plan(folder.path()).load_at((28, 28)).unwrap();
    assert_eq!(plain.test.size(), (28, 28));
    let error = plan(folder.path()).load_at((64, 64));
    message(error, &["folder", "28 x 28", "32 x 32", "64 x 64"]);
    // JPEG loses a little.
    let (jpeg, png) = (plain.train.bytes(0), plain.test.bytes(0));
    let off = jpeg.iter().zip(png).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off < Some(24), "{off:?}");
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    type Spoil = fn(&Path);
    for (spoil, parts) in [
        (
            (|f| colour(&f.join("train/dog/2.png"), 5, 6, 0)) as Spoil,
            &["dog/2.png", "6x5", "6x4", "resize"][..],
        ),
        (
            |f| colour(&f.join("test/dog/2.png"), 4, 7, 0),
            &["test/dog/2.png", "7x4", "resize"],
        ),
        (
            |f| colour(&f.join("test/bird/2.png"), 4, 6, 0),
            &["test/bird", "no such class"],
        ),
        (
            |f| fs::create_dir(f.join("train/bird")).unwrap(),
            &["train/bird", "no PNG or JPEG"],
        ),
        (
            |f| fs::write(f.join("train/dog/3.png"), "no image").unwrap(),
            &["dog/3.png", "cannot be read"],
        ),
        (
            |f| fs::write(f.join("train/dog/3.bmp"), "no image").unwrap(),
            &["dog/3.bmp", "convert"],
        ),
        (
            |f| fs::remove_dir_all(f.join("train/dog")).unwrap(),
            &["train", "1 classes"],
        ),
        (
            |f| fs::remove_dir_all(f.join("test")).unwrap(),
            &["no test/ or val/"],
        ),
        (
            |f| fs::remove_dir_all(f.join("train")).unwrap(),
            &["known layout", "train_images.npy"],
        ),
        (
            |f| colour(&f.join("train/dog/1.png"), 2000, 6, 0),
            &["dog/1.png", "1024"],
        ),
    ] {
        let folder = pets();
        spoil(folder.path());
        message(plan(folder.path()).load(), parts);
    }
    let grey_pets = pets();
    for name in ["train/cat/a.png", "train/dog/1.png"] {
        grey(&grey_pets.path().join(name), 4, 6, 0);
    }
    message(
        plan(grey_pets.path()).load(),
        &["cat/b.png", "colour", "grey"],
    );
    let nowhere = Plan {
        data_dir: None,
        ..plan(Path::new(""))
    };
    message(nowhere.load(), &["--dataset folder", "--data-dir"]);
}

/// Four arrays; three training images of 4x5 pixels and two test images.
fn arrays(names: [&str; 4], shape: &str, dtype: &str, labels: &[u8]) -> TempDir {
    let folder = tempdir().unwrap();
    let pixels: Vec<u8> = (0..60).collect();
    let files = [
        (names[0], npy("|u1", &format!("(3, {shape})"), &pixels)),
        (names[1], npy(dtype, "(3,)", labels)),
        (
            names[2],
            npy("|u1", &format!("(2, {shape})"), &pixels[..40]),
        ),
        (names[3], npy("|u1", "(2, 1)", &[0, 1])),
    ];
    write_files(folder.path(), &files);
    folder
}

const NAMES: [&str; 4] = [
    "train_images.npy",
    "train_labels.npy",
    "test_images.npy",
    "test_labels.npy",
];

#[test]
fn arrays_of_any_integer_labels_are_read() {
    let le = |n: i64| n.to_le_bytes();
    let words = [le(1), le(0), le(1)].concat();
    let big: Vec<u8> = [1u32, 0, 1]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect();
    for (names, dtype, labels) in [
        (NAMES, "<i8", &words[..]),
        (
            ["x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"],
            "|u1",
            &[1, 0, 1],
        ),
        (NAMES, ">u4", &big),
    ] {
        let folder = arrays(names, "4, 5", dtype, labels);
        let splits = plan(folder.path()).load().unwrap();
        assert_eq!(splits.train.labels, [1, 0, 1], "{dtype}");
        assert_eq!((splits.train.channels, splits.train.size()), (1, (4, 5)));
        assert_eq!(splits.train.bytes(1)[..3], [20, 21, 22]);
        assert_eq!(splits.test.labels, [0, 1]);
    }
}

#[test]
fn channels_of_arrays_may_be_last_or_first() {
    let pixels: Vec<u8> = (0..48).collect();
    for (shape, first) in [
        ("(2, 2, 4, 3)", [0, 3, 6, 9]),
        ("(2, 3, 2, 4)", [0, 1, 2, 3]),
    ] {
        let folder = tempdir().unwrap();
        let files = [
            (NAMES[0], npy("|u1", shape, &pixels)),
            (NAMES[1], npy("|u1", "(2,)", &[0, 1])),
            (NAMES[2], npy("|u1", shape, &pixels)),
            (NAMES[3], npy("|u1", "(2,)", &[0, 1])),
        ];
        write_files(folder.path(), &files);
        let splits = plan(folder.path()).load().unwrap();
        assert_eq!((splits.train.channels, splits.train.size()), (3, (2, 4)));
        assert_eq!(splits.train.bytes(0)[..4], first, "{shape}");
    }
}

#[test]
fn what_is_wrong_with_arrays_is_said() {
    for (name, data, parts) in [
        (
            NAMES[0],
            npy("<f4", "(3, 4, 5)", &[0; 240]),
            &["train_images.npy", "<f4", "uint8"][..],
        ),
        (
            NAMES[0],
            npy("|u1", "(3, 4, 5)", &[0; 59]),
            &["train_images.npy", "truncated"],
        ),
        (
            NAMES[0],
            npy("|u1", "(2, 4, 5)", &[0; 40]),
            &["2 images", "3 labels"],
        ),
        (
            NAMES[1],
            npy("<i2", "(3,)", &[1, 0, 0, 1, 0, 0]),
            &["label 1", "0 to 255"],
        ),
        (
            NAMES[1],
            npy("<f8", "(3,)", &[0; 24]),
            &["train_labels.npy", "integers"],
        ),
        (
            NAMES[2],
            npy("|u1", "(2, 4, 4)", &[0; 32]),
            &["test_images.npy", "1x4x4", "1x4x5"],
        ),
        (
            NAMES[3],
            npy("|u1", "(2,)", &[0, 2]),
            &["test_labels.npy", "label 2", "0 to 1"],
        ),
        (NAMES[1], b"PK".to_vec(), &["train_labels.npy", "truncated"]),
    ] {
        let folder = arrays(NAMES, "4, 5", "|u1", &[1, 0, 1]);
        fs::write(folder.path().join(name), data).unwrap();
        message(plan(folder.path()).load(), parts);
    }
    let folder = arrays(NAMES, "4, 5", "|u1", &[1, 0, 1]);
    fs::remove_file(folder.path().join(NAMES[2])).unwrap();
    message(plan(folder.path()).load(), &["test_images.npy is missing"]);
}

#[test]
fn idx_files_may_have_any_size() {
    let folder = tempdir().unwrap();
    let idx = |n: u32| -> Vec<u8> {
        let header = [0x803, n, 3, 5].map(u32::to_be_bytes).concat();
        [header, (0..15 * n as u8).collect()].concat()
    };
    let files = [
        ("train-images-idx3-ubyte", idx(4)),
        (TRAIN_LABELS, gzip(&idx_labels(4))),
        ("t10k-images-idx3-ubyte", idx(2)),
        (TEST_LABELS, gzip(&idx_labels(2))),
    ];
    write_files(folder.path(), &files);
    let profile = plan(folder.path()).profile().unwrap();
    assert_eq!((profile.size, profile.classes.len()), ((3, 5), 4));
    let splits = plan(folder.path()).load().unwrap();
    assert_eq!(splits.train.bytes(1), (15..30).collect::<Vec<u8>>());
}

/// The constants are those of the training images, plane by plane.
#[test]
fn images_without_published_constants_have_their_own() {
    let splits: Result<Splits, DataError> = plan(pets().path()).load();
    let train = splits.unwrap().train;
    let Normalize::Given(constants) = Normalize::of(&train) else {
        panic!("they are numbers");
    };
    let reds = [10.0, 20.0, 30.0, 40.0].map(|v| v / 255.0);
    let mean = reds.iter().sum::<f64>() / 4.0;
    let variance = reds.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
    assert!((constants[0] - mean).abs() < 1e-6);
    assert!((constants[3] - variance.sqrt()).abs() < 1e-6);
    // x runs from 0 to 3.
    assert!((constants[1] - 1.5 / 255.0).abs() < 1e-6);
}
