//! Whatever is wrong with the input, the program says so in one line, with exit status 2 for usage and 1 for the
//! rest, and leaves nothing half written.

use crate::support::program::{self, eqprop, fail};
use eqprop_cuda::config::Config;
use eqprop_cuda::run::Checkpoint;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const USAGE: i32 = 2;
const FAILURE: i32 = 1;

/// A run of a second or less.
const TINY: &str = "--dataset FashionMNIST-mini --channels 4,4,8,8 --limit-train 32 --limit-test 16 --batch-size 16 \
                    --num-iterations-inference 3 --num-iterations-training 2 --epochs 1";

/// Runs the program and expects one line on stderr that contains all of `words`.
#[track_caller]
fn assert_fails(folder: &Path, arguments: &str, status: i32, words: &[&str]) {
    let (code, line) = fail(folder, arguments, words);
    assert_eq!(code, Some(status), "{arguments}: {line}");
}

fn trained(folder: &Path) -> PathBuf {
    eqprop(folder, &format!("train {TINY} --output run"))
        .assert()
        .success();
    folder.join("run")
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

#[test]
fn options_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    for (option, values, expected) in [
        ("epochs", "0 -1 1.5 x 99999999999999999999", "whole number"),
        ("batch-size", "0 -128", "whole number"),
        ("num-iterations-inference", "0 -3", "whole number"),
        ("num_iterations_training", "0 -3", "whole number"),
        ("limit-train", "0 -1", "whole number"),
        ("limit-test", "0 -1", "whole number"),
        ("threads", "0 -2 2000", ""),
        ("save-every", "0", "whole number"),
        ("seed", "-1 x 18446744073709551615", ""),
        ("beta", "0 -0.1 nan inf x", ""),
        ("momentum", "-0.1 1 1.5 nan", "from 0 to below 1"),
        (
            "weight-decay",
            "-0.0001 -1 inf nan",
            "0 or a positive number",
        ),
        ("omega", "0 2 -1 2.5 nan", "between 0 and 2"),
        (
            "tolerance",
            "0 1 -0.001 nan of",
            "between 0 and 1, such as 1e-3, or off",
        ),
        (
            "tolerance-nudged",
            "0 1 -0.001 nan of",
            "between 0 and 1, such as 1e-3, or off",
        ),
        ("learning-rate", "-1 nan inf", "0 or a positive number"),
        (
            "channels",
            "4,4,8 4,4,8,8,8 0,4,8,8 4,4,8,-8 4,4,8,x 4,4,8,99999",
            "",
        ),
        ("dataset", "ImageNet", "FashionMNIST-mini"),
        ("activation", "tanh", "hard-sigmoid"),
        ("lossfn", "MAE", "CE"),
        ("optimizer", "adamw", "sgd"),
        ("network", "resnet18 none.toml", ""),
        ("variant", "both", "centered"),
        ("mode", "random", "coloured"),
        ("nudged-phase", "sum", "sum-difference"),
        (
            "device",
            "gpu cuda: cuda:x",
            "expected auto, cpu, cuda, cuda:N, emulated or interpreted",
        ),
        ("precision", "fp8", "fp32"),
        ("preset", "fast", "quickstart"),
        ("use-warm-restarts=maybe", "", "invalid value"),
    ] {
        let values: Vec<&str> = match values {
            "" => vec![""],
            _ => values.split(' ').collect(),
        };
        for value in values {
            let status = if value == "none.toml" { FAILURE } else { USAGE };
            let name = option.replace('_', "-");
            let name = name.split('=').next().unwrap();
            // Of a list only the wrong element is repeated.
            let wrong = if value.contains(',') { "" } else { value };
            let words = [name, wrong, expected];
            assert_fails(
                folder.path(),
                &format!("train --output run --{option} {value}"),
                status,
                &words,
            );
        }
    }
    assert_eq!(files(folder.path()), []);
}

#[test]
fn lists_of_the_wrong_length() {
    let folder = tempfile::tempdir().unwrap();
    for network in ["hopfieldresnet13", "vgg5"] {
        for option in [
            "weight-gains",
            "learning_rates_weights",
            "learning-rates-biases",
        ] {
            for list in [
                "0.1",
                "0.1,0.2",
                &["0.1"; 12].join(","),
                &["0.1"; 14].join(","),
            ] {
                assert_fails(
                    folder.path(),
                    &format!("train --output run --network {network} --{option} {list}"),
                    USAGE,
                    &[&option.replace('_', "-"), "values", network],
                );
            }
            for list in ["-0.1,0.1", "0.1,,0.1", "0.1,x", "nan"] {
                assert_fails(
                    folder.path(),
                    &format!("train --output run --network {network} --{option} {list}"),
                    USAGE,
                    &[&option.replace('_', "-")],
                );
            }
        }
    }
    let unequal = "0.1,".repeat(12) + "0.2";
    assert_fails(
        folder.path(),
        &format!("train --output run --learning_rates_biases {unequal}"),
        USAGE,
        &["learning-rates-biases", "13 unequal values", "9 biases"],
    );
    assert_eq!(files(folder.path()), []);
}

#[test]
fn options_that_contradict_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let rates = ["0.1"; 13].join(",");
    for (options, words) in [
        (
            format!("--learning-rate 0.1 --learning-rates-weights {rates}"),
            ["--learning-rate", "not both"],
        ),
        ("--omega 1.6".into(), ["--omega 1.6", "--mode coloured"]),
        (
            "--network net.toml --channels 1,1,1,1".into(),
            ["--channels", "net.toml"],
        ),
        ("--resume".into(), ["--resume", "--output"]),
        ("--resume one --output two".into(), ["--output two", "one"]),
        ("--epochs".into(), ["--epochs", "value"]),
        ("--unheard-of".into(), ["--unheard-of", "unexpected"]),
        ("--bta 1".into(), ["--bta", "--beta"]),
    ] {
        assert_fails(folder.path(), &format!("train {options}"), USAGE, &words);
    }
    assert_fails(folder.path(), "tran", USAGE, &["tran", "train"]);
    assert_eq!(files(folder.path()), []);
}

#[test]
fn configuration_files() {
    let folder = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("epochs = 3\nbtea = 0.1\n", ["line 2", "btea"]),
        ("batch-sise = 3\n", ["line 1", "batch-sise"]),
        ("epochs = \"three\"\n", ["line 1", "three"]),
        ("epochs = 0\n", ["--epochs 0", "at least 1"]),
        ("epochs = -1\n", ["line 1", "-1"]),
        ("epochs = \n", ["line 1", "a.toml"]),
        ("dataset = \"ImageNet\"\n", ["line 1", "ImageNet"]),
        ("tolerance = \"of\"\n", ["line 1", "or off"]),
        ("tolerance = [1e-3]\n", ["line 1", "or \"off\""]),
        ("device = \"gpu\"\n", ["gpu", "expected auto"]),
        ("preset = \"none\"\n", ["none", "quickstart"]),
        ("preset = 3\n", ["preset", "3"]),
        ("preset = \"quickstart\"\nbtea = 0.1\n", ["btea", "a.toml"]),
    ] {
        fs::write(folder.path().join("a.toml"), text).unwrap();
        assert_fails(
            folder.path(),
            "train --config a.toml --output run",
            USAGE,
            &words,
        );
    }
    assert_fails(
        folder.path(),
        "train --config b.toml",
        FAILURE,
        &["b.toml", "No such file"],
    );
    fs::write(folder.path().join("a.toml"), [0xff, 0xfe, 0x00]).unwrap();
    assert_fails(folder.path(), "train --config a.toml", FAILURE, &["a.toml"]);
    assert!(!folder.path().join("run").exists());
}

#[test]
fn network_files() {
    let folder = tempfile::tempdir().unwrap();
    let network = |input: &str, classes: usize, stride: usize| {
        format!(
            "name = \"n\"\nlayer = [{{ name = \"in\", shape = [{input}] }}, {{ name = \"h\", shape = [2, 8, 8] }}, \
             {{ name = \"out\", shape = [{classes}] }}]\n\
             edge = [{{ from = \"in\", to = \"h\", kind = \"conv\", kernel = 4, stride = {stride} }}, \
             {{ from = \"h\", to = \"out\", kind = \"dense\" }}]\n"
        )
    };
    let dataset = "--dataset FashionMNIST-mini";
    for (text, status, words) in [
        (
            network("3, 32, 32", 10, 4),
            USAGE,
            ["3x32x32", "FashionMNIST-mini"],
        ),
        (
            network("1, 32, 32", 7, 4),
            USAGE,
            ["7 classes", "10 classes"],
        ),
        (network("1, 32, 32", 10, 2), FAILURE, ["in -> h", "8x8"]),
        (
            network("1, 32, 32", 10, 4).replace("stride", "strid"),
            FAILURE,
            ["line 3", "strid"],
        ),
        ("name = 3".into(), FAILURE, ["net.toml", "line 1"]),
    ] {
        fs::write(folder.path().join("net.toml"), text).unwrap();
        assert_fails(
            folder.path(),
            &format!("train --network net.toml {dataset} --output run"),
            status,
            &words,
        );
    }
    assert!(!folder.path().join("run").exists());
}

#[test]
fn folders_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    let train = |output: &str| format!("train {TINY} --output {output}");
    assert_fails(
        folder.path(),
        &train("file"),
        FAILURE,
        &["file", "--output"],
    );
    // A folder below a file cannot be made even by root.
    assert_fails(
        folder.path(),
        &train("file/run"),
        FAILURE,
        &["file/run", "--output"],
    );
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"mine");
    #[cfg(target_os = "linux")]
    assert_fails(
        folder.path(),
        &train("/proc/run"),
        FAILURE,
        &["/proc/run", "--output"],
    );

    let run = trained(folder.path());
    let before = files(&run);
    assert_fails(
        folder.path(),
        &train("run"),
        FAILURE,
        &["run", "holds a run already", "--resume"],
    );
    assert!(before == files(&run), "the run that was there is untouched");
    assert_fails(
        folder.path(),
        "train --resume nothing",
        FAILURE,
        &["nothing", "no such run"],
    );
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_fails(
        folder.path(),
        "train --resume empty",
        FAILURE,
        &["empty", "no checkpoint"],
    );
    assert_fails(folder.path(), "eval empty", FAILURE, &["empty"]);
}

/// Nothing is there to resume: the advice is another one than later.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_for_the_first_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let stderr = limited(folder.path(), 1, &format!("train {TINY} --output run"));
    assert!(
        stderr.contains("File too large") && stderr.contains("--output"),
        "{stderr}"
    );
    assert!(!stderr.contains("--resume"), "{stderr}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_file_that_cannot_be_replaced_stays() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let before = files(&run);
    // Files are written under this name and then renamed.
    let partial = run.join("metrics.jsonl.partial");
    fs::create_dir(&partial).unwrap();
    let more = "train --resume run --epochs 2";
    assert_fails(folder.path(), more, FAILURE, &["metrics.jsonl"]);
    let same_metrics = |(path, bytes): &(PathBuf, Vec<u8>)| {
        !path.ends_with("metrics.jsonl") || fs::read(path).unwrap() == *bytes
    };
    assert!(before.iter().all(same_metrics), "the old file stays");
    fs::remove_dir(partial).unwrap();
    eqprop(folder.path(), more).assert().success();
}

/// Runs what fails when no file may have more than `kibibytes`; its one line.
#[cfg(target_os = "linux")]
fn limited(folder: &Path, kibibytes: usize, arguments: &str) -> String {
    let script = format!(
        "ulimit -f {kibibytes}; exec {} {arguments}",
        program::path().display()
    );
    let mut shell = std::process::Command::new("bash");
    let output = shell
        .current_dir(folder)
        .args(["-c", &script])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(FAILURE), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_the_size_of_files() {
    let folder = tempfile::tempdir().unwrap();
    // Enough for the first checkpoint, which has no moments of the optimizer yet, not for the next.
    let stderr = limited(folder.path(), 20, &format!("train {TINY} --output run"));
    assert!(
        stderr.contains("File too large") && stderr.contains("train --resume run"),
        "{stderr}"
    );
    eqprop(folder.path(), "train --resume run")
        .assert()
        .success();
}

#[test]
fn corrupt_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let good = fs::read(run.join("best.safetensors")).unwrap();
    let bad = folder.path().join("bad.safetensors");
    let check = |bytes: &[u8], words: &[&str]| {
        fs::write(&bad, bytes).unwrap();
        for command in ["eval", "train --resume"] {
            assert_fails(
                folder.path(),
                &format!("{command} bad.safetensors"),
                FAILURE,
                words,
            );
        }
    };
    for length in [0, 4, 100, good.len() / 2, good.len() - 1] {
        check(
            &good[..length],
            &["bad.safetensors", "truncated or corrupt"],
        );
    }
    // Flipped bits in the header's length, its text, and all over the tensors.
    let step = good.len() / 12;
    for byte in [0, 3, 7, 9]
        .into_iter()
        .chain((step..good.len()).step_by(step))
    {
        let mut flipped = good.clone();
        flipped[byte] ^= 0x10;
        check(&flipped, &["bad.safetensors"]);
    }
    // A number in the metadata that still makes sense when it is another one.
    let place = |text: &[u8]| good.windows(text.len()).position(|w| w == text);
    let batch = place(br#"\"batch-size\":16"#).expect("the configuration is in the file") + 16;
    let mut changed = good.clone();
    changed[batch] = b'7';
    check(&changed, &["bad.safetensors", "checksum"]);

    check(b"not a checkpoint at all", &["bad.safetensors"]);
    let values = [0u8; 8];
    let tensor =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &values).unwrap();
    let foreign = safetensors::serialize([("w", tensor)], None).unwrap();
    check(
        &foreign,
        &["bad.safetensors", "no checkpoint of eqprop-cuda"],
    );
}

/// TOML counts to 2^63 - 1. A checkpoint of somebody's making says more, with the right checksum.
#[test]
fn a_setting_beyond_what_toml_counts() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let last = run.join("last.safetensors");
    let whole = Checkpoint::load(&last).unwrap();
    const BEYOND: usize = 1 << 63;
    type Change = fn(&mut Config);
    let settings: [(&str, Change); 11] = [
        ("--seed", |config| config.seed = BEYOND as u64),
        ("--epochs", |config| config.epochs = BEYOND),
        ("--batch-size", |config| config.batch_size = BEYOND),
        ("--limit-train", |config| config.limit_train = Some(BEYOND)),
        ("--limit-test", |config| config.limit_test = Some(BEYOND)),
        ("--threads", |config| config.threads = Some(BEYOND)),
        ("--save-every", |config| config.save_every = Some(BEYOND)),
        ("--restart-every", |config| {
            config.restart_every = Some(BEYOND)
        }),
        ("--channels", |config| {
            config.channels = Some(vec![BEYOND; 4])
        }),
        ("--num-iterations-inference", |config| {
            config.num_iterations_inference = BEYOND
        }),
        ("--num-iterations-training", |config| {
            config.num_iterations_training = BEYOND
        }),
    ];
    for (name, set) in settings {
        let mut changed = whole.clone();
        set(&mut changed.config);
        for file in ["last.safetensors", "best.safetensors"] {
            changed.save(&run.join(file)).unwrap();
        }
        let words = [name, &BEYOND.to_string()];
        for command in [
            "train --resume run",
            "train --resume run --dry-run",
            "eval run",
        ] {
            assert_fails(folder.path(), command, USAGE, &words);
        }
        for command in [
            "plot run --only weights",
            "check-gradients run",
            "train --init-from run --dry-run",
            "report run --output report.html",
            "export run weights.safetensors",
            "compare run",
            "list",
        ] {
            let mut command = eqprop(folder.path(), command);
            let output = command.timeout(Duration::from_secs(60)).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            assert!(
                matches!(code, Some(0 | FAILURE | USAGE)),
                "{name}, {command:?}: {said}"
            );
        }
    }
}

#[test]
fn a_checkpoint_of_another_network() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path());
    for options in [
        "--network vgg5",
        "--channels 8,8,8,8",
        "--dataset CIFAR10",
        "--beta 0.5",
        "--precision fp64",
        "--seed 3",
        "--preset quickstart",
    ] {
        let option = options.split(' ').next().unwrap();
        let words = [
            "a resumed run may change only",
            if option == "--preset" { "--" } else { option },
        ];
        assert_fails(
            folder.path(),
            &format!("train --resume run --epochs 2 {options}"),
            USAGE,
            &words,
        );
    }
    for dataset in ["CIFAR10", "CIFAR100"] {
        assert_fails(
            folder.path(),
            &format!("eval run --dataset {dataset}"),
            USAGE,
            &[dataset, "classes"],
        );
    }
}

#[test]
fn a_dataset_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = eqprop(
        folder.path(),
        "train --dataset CIFAR10 --offline --data-dir data --output run",
    );
    let output = command
        .env("HOME", folder.path())
        .env_remove("EQPROP_DATA")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(FAILURE), "{stderr}");
    assert!(
        stderr.contains("cifar-10-binary.tar.gz") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(!folder.path().join("run").exists());
}

#[test]
fn cuda_without_cuda() {
    let folder = tempfile::tempdir().unwrap();
    assert_fails(
        folder.path(),
        &format!("train {TINY} --device cuda:999 --output run"),
        FAILURE,
        &["cuda:999", "--device cpu"],
    );
    assert!(!folder.path().join("run").exists());
}

#[test]
fn divergence_stops_the_run_and_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let rate = format!("train {TINY} --learning-rate 1e30 --epochs 3 --output wild");
    assert_fails(
        folder.path(),
        &rate,
        FAILURE,
        &["diverged", "epoch 1", "wild/last.safetensors"],
    );
    // What is there can be evaluated: the network before the step that ruined it.
    eqprop(folder.path(), "eval wild").assert().success();
    // However often it is saved, and though no number overflows. Its settings, which stay, are where to go on from.
    for rate in ["1e6", "1e3"] {
        let run = format!("wild-{rate}");
        assert_fails(
            folder.path(),
            &format!(
                "train {TINY} --limit-train 128 --learning-rate {rate} --save-every 1 --epochs 3 --output {run}"
            ),
            FAILURE,
            &[
                "diverged",
                &format!("train --config {run}/config.toml --learning-rate"),
            ],
        );
        let last = format!("eval {run}/last.safetensors");
        eqprop(folder.path(), &last).assert().success();
    }
    eqprop(folder.path(), "eval run").assert().success();
    assert!(run.exists());
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path());
    for arguments in ["--help", "train --help", "eval run"] {
        let mut command = std::process::Command::new(program::path());
        command
            .current_dir(folder.path())
            .args(arguments.split(' '));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), stderr.as_str()),
            (Some(0), ""),
            "{arguments}"
        );
    }
}
