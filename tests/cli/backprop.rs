//! `train --algorithm backprop`, and what moves its networks in and out.

use crate::support::program::{config, fail, records, succeed};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::fs;

/// A run of a second or less.
const TINY: &str = "--algorithm backprop --dataset FashionMNIST-mini --channels 4,4,8,8 --limit-train 64 --limit-test 32 \
                    --batch-size 16 --epochs 2";

#[test]
fn both_networks_learn() {
    let folder = tempfile::tempdir().unwrap();
    for (network, options) in [
        ("resnet13", "--learning-rate 3e-3"),
        ("vgg5", "--learning-rate 0.05"),
    ] {
        let output = succeed(
            folder.path(),
            &format!(
                "train --algorithm backprop --network {network} --dataset FashionMNIST-mini --channels 8,8,16,16 --limit-train 1000 \
                 --limit-test 300 --batch-size 25 --epochs 3 {options} --output {network}"
            ),
        );
        let records = records(&folder.path().join(network));
        let error = |i: usize| records[i]["test"]["top1_error"].as_f64().unwrap();
        // Ten classes: guessing is wrong nine times of ten.
        assert!(error(2) < 0.5, "{output}");
        assert!(
            records[0]["train"]["energy"].is_null(),
            "there is no energy"
        );
        assert!(records[0]["peak_memory_mib"].as_f64().unwrap() > 1.0);
        let evaluated = succeed(folder.path(), &format!("eval {network}"));
        let best = records
            .iter()
            .map(|r| r["test"]["top1_error"].as_f64().unwrap());
        let best = best.fold(1.0, f64::min);
        assert!(
            evaluated.contains(&format!("top-1 error {:>6.2} %", 100.0 * best)),
            "{evaluated}"
        );
    }
}

#[test]
fn recipes_are_the_published_ones() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "--dataset FashionMNIST-mini --channels 4,4,4,4 --limit-train 16 --limit-test 8 --batch-size 8 --epochs 2";
    for (network, optimizer, rate, decay, rates) in [
        ("resnet13", "adam", 1e-3, 2.5e-4, [1e-3, 1e-3]),
        // Annealed to zero: half-way after one of two epochs.
        ("vgg5", "sgd", 0.1, 5e-4, [0.1, 0.05]),
    ] {
        let run = folder.path().join(network);
        succeed(
            folder.path(),
            &format!("train --preset backprop-{network} {limits} --output {network}"),
        );
        let config = config(&run);
        assert_eq!(config["optimizer"].as_str(), Some(optimizer));
        assert_eq!(config["learning-rate"].as_float(), Some(rate));
        assert_eq!(config["weight-decay"].as_float(), Some(decay));
        assert_eq!(config["lossfn"].as_str(), Some("CE"));
        assert!(!config.contains_key("beta"), "{config:?}");
        for (record, expected) in records(&run).iter().zip(rates) {
            let rate = record["learning_rates"][0].as_f64().unwrap();
            assert!((rate - expected).abs() < 1e-12, "{rate} {expected}");
        }
        // The configuration that a run leaves is a configuration to start from.
        succeed(
            folder.path(),
            &format!("train --config {network}/config.toml --output {network}-again"),
        );
        let again = records(&folder.path().join(format!("{network}-again")));
        assert_eq!(again[1]["test"]["cost"], records(&run)[1]["test"]["cost"]);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    for threads in [1, 2, 5] {
        succeed(
            folder.path(),
            &format!("train {TINY} --threads {threads} --output run{threads}"),
        );
    }
    let [one, two, five] = [1, 2, 5].map(|threads| {
        let file = format!("weights{threads}.safetensors");
        succeed(folder.path(), &format!("export run{threads} {file}"));
        fs::read(folder.path().join(file)).unwrap()
    });
    assert!(one == two && one == five);
}

#[test]
fn exported_tensors_have_the_names_of_the_published_state_dict() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &format!("train {TINY} --output run"));
    succeed(folder.path(), "export run weights.safetensors");
    let bytes = fs::read(folder.path().join("weights.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let golden = format!(
        "{}/tests/golden/backprop_resnet13.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let golden = fs::read(golden).unwrap();
    let golden = SafeTensors::deserialize(&golden).unwrap();
    let mut expected: Vec<&str> = (golden.names().into_iter())
        .filter_map(|name| name.strip_prefix("init."))
        .collect();
    expected.sort_unstable();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(file.tensor("layers.8_9.weight").unwrap().shape(), [10, 32]);
    let batches = file.tensor("layers.0_1.1.num_batches_tracked").unwrap();
    assert_eq!((batches.dtype(), batches.shape().len()), (Dtype::I64, 0));
    let best = records(&folder.path().join("run"));
    let error = |r: &Value| r["test"]["top1_error"].as_f64().unwrap();
    let epochs = 1 + usize::from(error(&best[1]) < error(&best[0]));
    assert_eq!(batches.data(), (4 * epochs as i64).to_le_bytes());
}

#[test]
fn norms_of_gradients_are_recorded_and_event_files_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(
        folder.path(),
        &format!("train {TINY} --tensorboard --output run"),
    );
    let record = &records(&run)[0];
    let norms = record["train"]["gradient_norms"].as_array().unwrap();
    // Twelve convolutions with four tensors each, and the head with two.
    assert_eq!(norms.len(), 12 * 4 + 2);
    assert!(record["train"]["state_norms"].is_null());
    let mut files = fs::read_dir(&run).unwrap().map(|file| file.unwrap().path());
    let events = files.find(|path| path.to_string_lossy().contains("events.out.tfevents"));
    let events = fs::read(events.unwrap()).unwrap();
    let holds = |name: &str| events.windows(name.len()).any(|w| w == name.as_bytes());
    for name in [
        "cost/train",
        "learning_rate",
        "gradient_norm/layers.8_9.weight/train",
    ] {
        assert!(holds(name), "{name}");
    }
    for name in ["energy", "state_norm", "free_iterations"] {
        assert!(!holds(name), "{name}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (options, words) in [
        ("--beta 0.1", ["--beta 0.1", "equilibrium propagation"]),
        ("--mode coloured", ["--mode", "equilibrium propagation"]),
        ("--lossfn MSE", ["--lossfn MSE", "CE"]),
        (
            "--network hopfieldresnet13",
            ["--network hopfieldresnet13", "resnet13, vgg5"],
        ),
    ] {
        fail(path, &format!("train {TINY} {options}"), &words);
    }
    fail(
        path,
        "train --network resnet13",
        &["--network resnet13", "--algorithm ep"],
    );
    fail(path, "train --algorithm hebb", &["hebb", "backprop"]);
    succeed(path, &format!("train {TINY} --output run"));
    fail(
        path,
        "train --resume run --epochs 3 --beta 0.2",
        &["--beta 0.2"],
    );
    fail(
        path,
        "train --resume run --epochs 3 --algorithm ep",
        &["--algorithm", "backprop"],
    );
    fail(path, "check-gradients run", &["backpropagation"]);
    fail(path, "plot run --only relaxation", &["backpropagation"]);
    succeed(path, "train --resume run --epochs 3 --algorithm backprop");
}

#[test]
fn runs_of_both_algorithms_are_compared_and_plotted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(path, &format!("train {TINY} --output backprop"));
    succeed(
        path,
        "train --dataset FashionMNIST-mini --channels 4,4,8,8 --limit-train 32 --limit-test 32 --batch-size 16 --epochs 1 \
         --num-iterations-inference 3 --num-iterations-training 2 --output ep",
    );
    succeed(
        path,
        "train --config ep/config.toml --tolerance 1e-2 --output tolerant",
    );
    let table = succeed(path, "compare ep backprop tolerant");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    for (line, words) in [
        (lines[0], ["test accuracy", "per epoch", "peak memory"]),
        (lines[1], ["EP, 3+2 iterations", "hopfieldresnet13", "MiB"]),
        (lines[2], ["backpropagation", "resnet13", "MiB"]),
        (lines[3], ["EP, up to 3+2 iterations", "tolerant", "MiB"]),
    ] {
        for word in words {
            assert!(line.contains(word), "{word:?} is not in {line:?}");
        }
    }
    let best = records(&path.join("backprop"));
    let best = best
        .iter()
        .map(|r| r["test"]["top1_error"].as_f64().unwrap());
    let accuracy = format!("{:.2} %", 100.0 * (1.0 - best.fold(1.0, f64::min)));
    assert!(lines[2].contains(&accuracy), "{accuracy} {table}");
    succeed(path, "plot ep backprop --only curves,weights");
    assert!(path.join("plots/weights-backprop.png").exists());
    fail(path, "compare nowhere", &["nowhere", "no such run"]);
}

/// A layer may have several convolutions from below; its state is the rectified sum.
const NETWORK: &str = r#"
name = "two-paths"
activation = "relu6"

[[layer]]
name = "input"
shape = [1, 32, 32]

[[layer]]
name = "wide"
shape = [4, 16, 16]

[[layer]]
name = "deep"
shape = [6, 8, 8]

[[layer]]
name = "output"
shape = [10]

[[edge]]
from = "input"
to = "wide"
kind = "conv"
kernel = 3
stride = 2
padding = 1

[[edge]]
from = "input"
to = "deep"
kind = "conv"
kernel = 5
stride = 4
padding = 1

[[edge]]
from = "wide"
to = "deep"
kind = "conv"
kernel = 3
stride = 2
padding = 1

[[edge]]
from = "deep"
to = "output"
kind = "dense"
"#;

#[test]
fn a_network_from_a_file_has_a_feed_forward_equivalent() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("two.toml"), NETWORK).unwrap();
    let tiny =
        "--dataset FashionMNIST-mini --limit-train 16 --limit-test 8 --batch-size 8 --epochs 1";
    succeed(
        folder.path(),
        &format!("train --algorithm backprop --network two.toml {tiny} --output run"),
    );
    succeed(folder.path(), "eval run");
    // Edges side by side and dense hidden layers, too.
    let branches = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/networks/branches.toml"
    );
    succeed(
        folder.path(),
        &format!("train --algorithm backprop --network {branches} {tiny} --output branches"),
    );
    succeed(folder.path(), "eval branches");
}
