//! `eqprop-cuda train` and `eval`: what a run leaves behind, and where its settings come from.

use crate::support::program::{TINY, config, eqprop, succeed};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn train(folder: &Path, arguments: &str) {
    succeed(folder, &format!("train {arguments}"));
}

#[test]
fn metrics_have_the_promised_form() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &format!("{TINY} --output run"));
    let text = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 2);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record["epoch"], i + 1);
        for part in ["train", "test"] {
            for key in ["energy", "cost", "top1_error", "top5_error", "seconds"] {
                let value = record[part][key]
                    .as_f64()
                    .unwrap_or_else(|| panic!("{part}.{key}"));
                assert!(value.is_finite(), "{part}.{key} is {value}");
                assert!(
                    !key.ends_with("error") || (0.0..=1.0).contains(&value),
                    "{part}.{key} is {value}"
                );
            }
        }
        assert_eq!(record["learning_rates"].as_array().unwrap().len(), 9 + 13);
    }
    // Cosine annealing: epoch 1 at the initial rate, epoch 2 of 2 halfway down.
    assert_eq!(records[0]["learning_rates"][0], 0.03);
    assert!((records[1]["learning_rates"][0].as_f64().unwrap() - 0.015001).abs() < 1e-9);
    for file in ["last.safetensors", "best.safetensors", "config.toml"] {
        assert!(folder.path().join("run").join(file).exists(), "{file}");
    }
}

#[test]
fn an_epoch_says_so_when_many_phases_end_before_they_reach_their_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let train = |tolerance: &str, output: &str| {
        let arguments = format!("train {TINY} --tolerance {tolerance} --output {output}");
        let said = succeed(folder.path(), &arguments);
        let lines = fs::read_to_string(folder.path().join(output).join("metrics.jsonl")).unwrap();
        let record: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        (said, record)
    };
    let (said, record) = train("1e-9", "never");
    assert!(
        said.contains("cut off: 100 % of free phases, 100 % of nudged phases"),
        "{said}"
    );
    assert_eq!(record["train"]["free_cut_off"], 1.0);
    assert_eq!(record["train"]["nudged_cut_off"], 1.0);
    assert_eq!(record["test"]["free_cut_off"], 1.0);
    assert!(record["test"].get("nudged_cut_off").is_none());
    // The first iteration from zero is a change of 1, any other of less.
    let (said, record) = train("0.999", "always");
    assert!(!said.contains("cut off"), "{said}");
    assert!(record["train"].get("free_cut_off").is_none());
}

#[test]
fn warm_restarts_restart_the_learning_rate_every_five_epochs() {
    let folder = tempfile::tempdir().unwrap();
    train(
        folder.path(),
        &format!("{TINY} --limit-train 16 --epochs 6 --use_warm_restarts --output run"),
    );
    let text = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let rates: Vec<f64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["learning_rates"][0]
                .as_f64()
                .unwrap()
        })
        .collect();
    assert_eq!(rates[0], 0.03);
    assert!(rates[4] < 0.004, "{rates:?}");
    assert_eq!(rates[5], 0.03);
}

#[test]
fn the_resolved_configuration_makes_the_same_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let more =
        "--preset fast-fashionmnist --activation reluclip --lossfn CE --optimizer adam --seed 7";
    train(folder.path(), &format!("{more} {TINY} --output one"));
    train(folder.path(), "--config one/config.toml --output two");
    for file in ["config.toml", "last.safetensors", "best.safetensors"] {
        let read = |run: &str| fs::read(folder.path().join(run).join(file)).unwrap();
        assert!(read("one") == read("two"), "{file} differs");
    }
}

#[test]
fn a_network_file_is_kept_in_the_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    let network = r#"
        name = "small"
        [[layer]]
        name = "input"
        shape = [1, 32, 32]
        [[layer]]
        name = "hidden"
        shape = [4, 8, 8]
        activation = "reluclip"
        [[layer]]
        name = "output"
        shape = [10]
        [[edge]]
        from = "input"
        to = "hidden"
        kind = "conv"
        kernel = 4
        stride = 4
        [[edge]]
        from = "hidden"
        to = "output"
        kind = "dense"
    "#;
    fs::write(folder.path().join("net.toml"), network).unwrap();
    let tiny = TINY.replace("--channels 4,4,8,8", "--network net.toml");
    train(folder.path(), &format!("{tiny} --output one"));
    fs::remove_file(folder.path().join("net.toml")).unwrap();
    train(folder.path(), "--config one/config.toml --output two");
    let parameters = |run: &str| {
        let bytes = fs::read(folder.path().join(run).join("last.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("weight.1").unwrap().data().to_vec()
    };
    assert_eq!(parameters("one"), parameters("two"));
}

#[test]
fn the_command_line_goes_before_the_file_before_the_preset_before_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.toml"),
        "beta = 0.3\nmomentum = 0.5\nepochs = 1\n",
    )
    .unwrap();
    let tiny = TINY.replace("--epochs 2", "");
    train(
        folder.path(),
        &format!("--config a.toml --preset fast-cifar10 --beta 0.4 {tiny} --output run"),
    );
    let config = config(&folder.path().join("run"));
    assert_eq!(config["beta"].as_float(), Some(0.4), "command line");
    assert_eq!(config["momentum"].as_float(), Some(0.5), "file");
    assert_eq!(config["omega"].as_float(), Some(1.6), "preset");
    assert_eq!(config["weight-decay"].as_float(), Some(2.5e-4), "preset");
    assert_eq!(config["optimizer"].as_str(), Some("sgd"), "default");
}

/// Tolerances are chosen for what they end: those of a fast preset for a linear response.
#[test]
fn the_tolerance_of_a_fast_preset_goes_where_its_linear_response_goes() {
    let folder = tempfile::tempdir().unwrap();
    let get = |table: &toml::Table, key: &str| match table.get(key) {
        Some(toml::Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
        None => "-".into(),
    };
    for (options, [form, tolerance, nudged]) in [
        ("", ["linear", "0.001", "0.03"]),
        ("--algorithm rbp", ["-", "0.001", "0.03"]),
        ("--tolerance 1e-4", ["linear", "0.0001", "-"]),
        ("--tolerance off", ["linear", "off", "-"]),
        ("--tolerance-nudged off", ["linear", "0.001", "off"]),
        ("--nudged-phase direct", ["direct", "0.001", "off"]),
        (
            "--nudged-phase sum-difference --tolerance off",
            ["sum-difference", "off", "-"],
        ),
        (
            "--nudged-phase direct --tolerance-nudged 1e-6",
            ["direct", "0.001", "0.000001"],
        ),
        ("--algorithm CL", ["sum-difference", "0.001", "off"]),
        (
            "--algorithm CCpL --nudged-phase direct",
            ["direct", "0.001", "off"],
        ),
        ("--algorithm tbp", ["-", "0.001", "off"]),
    ] {
        let line = format!("train --preset fast-cifar10 --offline --dry-run {options}");
        let text = succeed(folder.path(), &line);
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(
            ["nudged-phase", "tolerance", "tolerance-nudged"].map(|key| get(&config, key)),
            [form, tolerance, nudged],
            "{options}"
        );
        let iterations =
            ["inference", "training"].map(|phase| get(&config, &format!("num-iterations-{phase}")));
        assert_eq!(iterations, ["60", "20"], "{options}");
    }
}

/// What `off` says is kept, so that a file of a run can be put on top of a preset, and is what a run without the setting has.
#[test]
fn a_tolerance_that_is_off_is_off_in_what_comes_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(
        path,
        &format!("--preset fast-fashionmnist --tolerance off {TINY} --output off"),
    );
    let again =
        format!("--preset fast-fashionmnist --config off/config.toml {TINY} --output again");
    train(path, &again);
    assert_eq!(
        config(&path.join("again"))["tolerance"].as_str(),
        Some("off")
    );
    succeed(path, "eval off --tolerance 1e-2");
    train(path, &format!("{TINY} --output none"));
    train(
        path,
        "--resume none --tolerance off --tolerance-nudged off --epochs 3",
    );
    train(
        path,
        "--resume off --tolerance off --tolerance-nudged off --epochs 3",
    );
}

#[test]
fn a_file_may_name_the_preset_that_it_modifies() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.toml"),
        "preset = \"fast-cifar10\"\nomega = 1.5\nepochs = 1\n",
    )
    .unwrap();
    let tiny = TINY.replace("--epochs 2", "");
    train(
        folder.path(),
        &format!("--config a.toml {tiny} --output run"),
    );
    let config = config(&folder.path().join("run"));
    assert_eq!(config["omega"].as_float(), Some(1.5));
    assert_eq!(config["mode"].as_str(), Some("coloured"));
}

#[test]
fn another_optimizer_brings_its_own_learning_rate() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &format!("{TINY} --output one"));
    train(
        folder.path(),
        "--config one/config.toml --optimizer adam --output two",
    );
    let config = config(&folder.path().join("two"));
    assert_eq!(config["learning-rates-weights"][0].as_float(), Some(1e-4));
    assert_eq!(config["learning-rates-biases"][0].as_float(), Some(1e-4));
}

#[test]
fn the_last_of_repeated_options_counts() {
    let folder = tempfile::tempdir().unwrap();
    train(
        folder.path(),
        &format!("{TINY} --channels 2,2,2,2 --beta 0.3 --beta 0.2 --epochs 1 --output run"),
    );
    let config = config(&folder.path().join("run"));
    assert_eq!(config["channels"].as_array().unwrap().len(), 4);
    assert_eq!(config["beta"].as_float(), Some(0.2));
}

#[test]
fn published_command_lines_work() {
    let folder = tempfile::tempdir().unwrap();
    let thirteen = |value: &str| [value; 13].join(",");
    let published = format!(
        "--dataset FashionMNIST-mini --epochs 1 --activation hard-sigmoid --lossfn CE --optimizer adam --use_warm_restarts \
         --beta 0.15 --num_iterations_inference 4 --num_iterations_training 2 --weight_gains {} \
         --learning_rates_weights {} --learning_rates_biases {} --momentum 0.9 --weight_decay 3.5e-4 --batch_size 16 \
         --network hopfieldresnet13 --no_wandb",
        thirteen("0.5"),
        thirteen("0.0001"),
        thirteen("0.0002"),
    );
    let ours = "--channels 4,4,8,8 --limit_train 32 --limit_test 16 --output run";
    train(folder.path(), &format!("{published} {ours}"));
    let config = config(&folder.path().join("run"));
    assert_eq!(config["learning-rates-biases"].as_array().unwrap().len(), 9);
    assert_eq!(config["learning-rates-biases"][0].as_float(), Some(0.0002));
    assert_eq!(config["weight-gains"][12].as_float(), Some(0.5));
    assert_eq!(config["use-warm-restarts"].as_bool(), Some(true));
    train(
        folder.path(),
        "--network vgg5 --dataset FashionMNIST-mini --channels 4,4,4,4 --limit_train 16 --limit_test 16 --epochs 1 \
         --num_iterations_inference 2 --num_iterations_training 2 --batch_size 8 --weight_gains .4,.7,.6,.3,.6 --output vgg",
    );
}

#[test]
fn runs_without_a_name_are_numbered() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        train(folder.path(), &TINY.replace("--epochs 2", "--epochs 1"));
    }
    for n in 1..=2 {
        let name = format!("runs/fashionmnist-mini-hopfieldresnet13-{n}/last.safetensors");
        assert!(folder.path().join(&name).exists(), "{name}");
    }
}

#[test]
fn eval_reports_what_the_best_epoch_measured() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &format!("{TINY} --output run"));
    let text = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let errors = text.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap()["test"]["top1_error"]
            .as_f64()
            .unwrap()
    });
    let best = errors.fold(1.0, f64::min);
    let assert = eqprop(folder.path(), "eval run").assert().success();
    let output = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(
        output.contains(&format!("top-1 error {:>6.2} %", 100.0 * best)),
        "{best}: {output}"
    );
    assert!(output.contains("Ankle boot"), "{output}");
    eqprop(
        folder.path(),
        "eval run/last.safetensors --num_iterations_inference 8 --batch_size 5 --limit_test 12 --precision fp64",
    )
    .assert()
    .success();
}

#[test]
fn more_threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for threads in [1, 3] {
        train(
            folder.path(),
            &format!("{TINY} --threads {threads} --output {threads}"),
        );
    }
    let weights = |run: &str| {
        let bytes = fs::read(folder.path().join(run).join("last.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("weight.12").unwrap().data().to_vec()
    };
    assert_eq!(weights("1"), weights("3"));
}

#[test]
fn help_and_version_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let help = eqprop(folder.path(), "train --help").assert().success();
    let help = String::from_utf8(help.get_output().stdout.clone()).unwrap();
    for word in [
        "--num-iterations-inference",
        "quickstart",
        "fast-cifar100",
        "Relaxation:",
    ] {
        assert!(help.contains(word), "{word}");
    }
    let version = concat!("eqprop-cuda ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(succeed(folder.path(), "--version"), version);
}

/// Stacks that no memory holds: the system starts no thread.
#[test]
fn a_system_without_threads_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        format!("train {TINY}"),
        "info".to_string(),
        "parity none".to_string(),
    ] {
        let mut program = eqprop(folder.path(), &command);
        let output = program
            .env("RUST_MIN_STACK", (1u64 << 60).to_string())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{command}");
        assert!(
            said.contains("thread") && !said.contains("internal error"),
            "{command}: {said}"
        );
    }
}
