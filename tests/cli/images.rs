//! Which images a run learns from, and what is done to them.

use crate::support::data::{npy, write_files};
use crate::support::program::{TINY, config, eqprop, fail, succeed};
use std::fs;
use std::path::Path;

/// Two classes of small images that differ in brightness, as arrays of 32x32 pixels.
fn own(folder: &Path) {
    let image = |class: usize, i: usize| -> Vec<u8> {
        (0..1024)
            .map(|p| (100 * class + (p * (i + 3)) % 40) as u8)
            .collect()
    };
    let images = |n: usize| (0..n).flat_map(|i| image(i % 2, i)).collect::<Vec<u8>>();
    let labels = |n: usize| (0..n).map(|i| (i % 2) as u8).collect::<Vec<u8>>();
    let files = [
        ("train_images.npy", npy("|u1", "(48, 32, 32)", &images(48))),
        ("train_labels.npy", npy("|u1", "(48,)", &labels(48))),
        ("test_images.npy", npy("|u1", "(16, 32, 32)", &images(16))),
        ("test_labels.npy", npy("|u1", "(16,)", &labels(16))),
    ];
    write_files(folder, &files);
}

#[test]
fn ones_own_images_are_trained_on_evaluated_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    own(&folder.join("mine"));
    let tiny = TINY.replace("FashionMNIST-mini", "folder --data-dir mine");
    let said = succeed(
        folder,
        &format!("train {tiny} --augment flip-crop --output run"),
    );
    assert!(said.contains("48 training and 16 test images"), "{said}");
    let settings = config(&folder.join("run"));
    let constants = settings["normalize"].as_str().unwrap();
    assert_eq!(constants.split(',').count(), 2, "{constants}");
    let said = succeed(folder, "eval run --data-dir mine");
    // Classes of arrays are called by their numbers.
    assert!(said.lines().any(|line| line.starts_with("1 ")), "{said}");
    // The same command line again goes on.
    succeed(
        folder,
        &format!(
            "train {tiny} --augment flip-crop --normalize auto --epochs 3 --output run --resume"
        ),
    );
    let words = ["--dataset folder", "--data-dir"];
    fail(
        folder,
        &tiny
            .replace("--data-dir mine", "")
            .replacen("", "train ", 1),
        &words,
    );
    // Where images come from is not for a checkpoint to say.
    let eval = eqprop(folder, "eval run").output().unwrap();
    let said = String::from_utf8(eval.stderr).unwrap();
    assert!(
        !eval.status.success() && said.contains("error: --dataset folder"),
        "{said}"
    );
}

/// The README's command, on photographs of another size.
#[test]
fn an_open_network_takes_images_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (i, name) in [
        "train/a/1",
        "train/a/2",
        "train/b/1",
        "train/b/2",
        "test/a/1",
    ]
    .iter()
    .enumerate()
    {
        let path = folder.join(format!("mine/{name}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image =
            image::RgbImage::from_fn(20, 23, |x, y| [(40 * i) as u8, x as u8, y as u8].into());
        image.save(path).unwrap();
    }
    let network = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/networks/open.toml");
    let given = format!(
        "train --dataset folder --data-dir mine --network {} --batch-size 2 --epochs 1 --num-iterations-inference 4 \
         --num-iterations-training 2",
        network.display()
    );
    let said = succeed(folder, &given);
    assert!(said.contains("4 training and 1 test images"), "{said}");
    // A network of a fixed size says what it takes.
    let words = ["hopfieldresnet13", "32x32", "folder have 23x20"];
    fail(folder, "train --dataset folder --data-dir mine", &words);
}

/// Which images come out is tested with the loader; here, that a run asks for it.
#[test]
fn augmentation_and_normalisation_are_choices_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let weights = |run: &str| {
        let bytes = fs::read(folder.join(run).join("last.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        // The signal of so few iterations does not reach the first one.
        file.tensor("weight.12").unwrap().data().to_vec()
    };
    let one = TINY.replace("--epochs 2", "--epochs 1");
    let mut seen = Vec::new();
    for (run, arguments) in [
        ("usual", ""),
        ("none", "--augment none"),
        ("off", "--normalize off"),
        ("given", "--normalize 0.5,0.25"),
    ] {
        succeed(folder, &format!("train {one} {arguments} --output {run}"));
        assert!(!seen.contains(&weights(run)), "{run} is like another");
        seen.push(weights(run));
    }
    // What is published has no RandAugment here, and these constants.
    for (run, arguments) in [
        ("same", "--augment flip-crop"),
        ("same-constants", "--normalize 0.2860,0.3530"),
    ] {
        succeed(folder, &format!("train {one} {arguments} --output {run}"));
        assert_eq!(weights(run), weights("usual"), "{run}");
    }
    let settings = config(&folder.join("usual"));
    assert!(!settings.contains_key("augment") && !settings.contains_key("normalize"));
    let settings = config(&folder.join("given"));
    assert_eq!(settings["normalize"].as_str(), Some("0.5,0.25"));
    for value in ["x", "0.5", "0.5,0", "0.5,-1", "1,2,3"] {
        fail(
            folder,
            &format!("train --normalize {value}"),
            &["normalize", value, "MEAN,STD"],
        );
    }
    let words = ["--normalize 1,2,3,4", "4 numbers", "1 channels"];
    fail(folder, &format!("train {one} --normalize 1,2,3,4"), &words);
}

#[test]
fn presets_of_the_framework_do_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        ("--preset dhn-2h", "normalize = \"off\""),
        ("--preset sota-dchn-cifar100", "augment = \"flip-crop\""),
        (
            "--preset comparative-study --dataset SVHN",
            "augment = \"flip-crop\"",
        ),
    ] {
        let said = succeed(folder.path(), &format!("train {arguments} --dry-run"));
        assert!(said.contains(expected), "{arguments}: {said}");
    }
}

#[test]
fn gains_have_the_names_of_their_edges() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let network = r#"
        name = "two"
        layer = [{name = "in"}, {name = "hidden", shape = [3]}, {name = "out"}]
        edge = [{from = "in", to = "hidden", kind = "dense"}, {from = "hidden", to = "out", kind = "dense", gain = 0.9}]
    "#;
    fs::write(folder.join("two.toml"), network).unwrap();
    let usual = "train --dataset FashionMNIST-mini --network two.toml";
    let said = succeed(folder, &format!("{usual} --gains in-hidden=0.25 --dry-run"));
    assert!(said.contains("weight-gains = [0.25, 0.9]"), "{said}");
    let words = ["--gains hidden-in=0.25", "in-hidden, hidden-out"];
    fail(folder, &format!("{usual} --gains hidden-in=0.25"), &words);
    fail(
        folder,
        &format!("{usual} --gains in-hidden"),
        &["gains", "FROM-TO=GAIN"],
    );
}
