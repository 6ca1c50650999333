//! What a run says while it goes on, when nobody watches, and before it begins.

use crate::support::program::{self, TINIEST, TINY, eqprop, fail, records, succeed};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// What it said on stdout and on stderr.
fn said(folder: &Path, arguments: &str) -> (String, String) {
    let output = eqprop(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn off_a_terminal_a_line_now_and_then_says_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let train = |more: &str| said(folder.path(), &format!("train {TINY} {more}")).1;
    let lines = train("--progress-every 0.000001");
    let first = lines.lines().next().unwrap();
    for word in [
        "epoch 1/2",
        "16/64 images",
        "images/s",
        "error",
        "epoch ends in",
        "run in",
    ] {
        assert!(first.contains(word), "no {word:?} in {first:?}");
    }
    // Four batches and two of the test, in each of two epochs.
    assert_eq!(lines.lines().count(), 12, "{lines}");
    assert!(
        lines.lines().nth(4).unwrap().starts_with("test "),
        "{lines}"
    );
    assert!(lines.lines().last().unwrap().contains("ends in"), "{lines}");
    assert_eq!(train("--progress-every 0"), "");
    assert_eq!(train(""), "", "it takes less than a minute");
    let (_, lines) = said(
        folder.path(),
        "eval runs/fashionmnist-mini-hopfieldresnet13-1 --progress-every 0.000001",
    );
    assert!(
        lines.starts_with("test ") && lines.contains("images/s"),
        "{lines}"
    );
    for bad in ["-1", "nan", "x"] {
        let (status, _) = fail(
            folder.path(),
            &format!("train --progress-every {bad}"),
            &["--progress-every", "seconds"],
        );
        assert_eq!(status, Some(2));
    }
}

#[test]
fn a_quiet_run_says_nothing_but_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let quiet = format!("train {TINIEST} --output run -q");
    assert_eq!(said(folder.path(), &quiet), (String::new(), String::new()));
    assert_eq!(records(&folder.path().join("run")).len(), 2);
    fail(folder.path(), &quiet, &["holds a run already"]);
}

#[test]
fn a_dry_run_prints_the_configuration_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (text, _) = said(
        folder.path(),
        &format!("train {TINIEST} --beta 0.2 --dry-run --output run"),
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(folder.path().join("dry.toml"), &text).unwrap();
    succeed(folder.path(), "train --config dry.toml --output run");
    assert_eq!(
        fs::read_to_string(folder.path().join("run/config.toml")).unwrap(),
        text
    );
    // Of a resumed run: what it would go on with.
    let (text, _) = said(folder.path(), "train --resume run --epochs 9 --dry-run");
    assert!(
        text.contains("epochs = 9") && text.contains("beta = 0.2"),
        "{text}"
    );
    assert_eq!(records(&folder.path().join("run")).len(), 2);
}

#[test]
fn colours_are_a_choice() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, coloured) in [
        ("--help", false),
        ("--color always --help", true),
        ("train --help --color=always", true),
        ("train --color never --help", false),
    ] {
        let (text, _) = said(folder.path(), arguments);
        assert_eq!(text.contains('\u{1b}'), coloured, "{arguments}");
    }
    fail(folder.path(), "list --color blue", &["blue", "--color"]);
}

/// The first epoch of a long run, and what was said of it before.
#[test]
fn a_long_run_is_announced() {
    for options in [
        "--num-iterations-inference 60 --num-iterations-training 30",
        "--algorithm backprop",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = "train --dataset FashionMNIST-mini --offline --channels 8,8,16,16 --limit-train 512 --limit-test 128 \
                         --batch-size 64 --epochs 100000 --output run";
        let mut child = Command::new(program::path())
            .current_dir(folder.path())
            .args(arguments.split_whitespace())
            .args(options.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until =
            |word: &str| lines.find_map(|line| line.ok().filter(|line| line.contains(word)));
        let announced = until("this will take about").expect("it is long");
        until("test ");
        child.kill().unwrap();
        child.wait().unwrap();
        let first = &records(&folder.path().join("run"))[0];
        let taken: f64 = ["train", "test"]
            .map(|pass| first[pass]["seconds"].as_f64().unwrap())
            .iter()
            .sum();
        let words: Vec<&str> = announced.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "about").unwrap() + 1;
        assert_eq!(words[at + 1], "s", "{announced}");
        let estimate: f64 = words[at].parse().unwrap();
        // Others use this machine too.
        assert!(
            (0.1..10.0).contains(&(estimate / taken)),
            "{announced}, and an epoch took {taken} s"
        );
        let peak = first["peak_memory_mib"].as_f64();
        if let Some(peak) = peak {
            assert!(words.ends_with(&[
                "of", "memory,", "as", "far", "as", "a", "first", "try", "tells"
            ]));
            let at = words.iter().position(|word| *word == "MiB").unwrap();
            let estimate: f64 = words[at - 1].parse().unwrap();
            assert!(
                (0.5..2.0).contains(&(estimate / peak)),
                "{announced}, and it took {peak} MiB"
            );
        }
        println!("{announced}; an epoch took {taken:.2} s, and the run {peak:?} MiB");
    }
}

#[test]
fn keys_of_a_file_may_have_underscores() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    fs::write(
        &file,
        "preset = \"quickstart\"\n# as published\nbatch_size = 32\n  weight_decay=1e-3\n",
    )
    .unwrap();
    let text = succeed(folder.path(), "train --config mine.toml --dry-run");
    for line in [
        "batch-size = 32",
        "weight-decay = 0.001",
        "dataset = \"FashionMNIST-mini\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
    fs::write(&file, "batch-size = 32\nbatch_size = 16\n").unwrap();
    fail(
        folder.path(),
        "train --config mine.toml --dry-run",
        &["line 2", "duplicate key"],
    );
    fs::write(&file, "batch_size = 32\nbatch_syze = 16\n").unwrap();
    fail(
        folder.path(),
        "train --config mine.toml --dry-run",
        &["line 2", "batch-syze"],
    );
}

#[test]
fn lists_may_have_spaces() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = eqprop(folder.path(), "train --dry-run");
    let output = command
        .args(["--channels", "8, 8, 16,16 "])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("channels = [8, 8, 16, 16]"), "{text}");
}

#[test]
fn a_mistyped_option_is_answered_with_the_one_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    for (mistyped, meant) in [
        ("--lr", "'--learning-rate'"),
        ("--wd", "'--weight-decay'"),
        ("--bs", "'--batch-size'"),
        (
            "--iterations",
            "'--num-iterations-inference', '--num-iterations-training'",
        ),
        ("--decay", "'--weight-decay'"),
        ("--batch-sise", "'--batch-size'"),
        ("--momentun", "'--momentum'"),
        ("--epoch", "'--epochs'"),
    ] {
        fail(
            folder.path(),
            &format!("train {mistyped} 1"),
            &["unexpected argument", meant],
        );
    }
}

/// What a linear response has no use for is not taken for granted silently; what a preset says of it is.
#[test]
fn options_that_a_linear_response_ignores_get_a_note() {
    let folder = tempfile::tempdir().unwrap();
    for (options, noted) in [
        ("--preset fast-fashionmnist", None),
        (
            "--preset fast-fashionmnist --beta 0.2",
            Some("--beta 0.2 changes"),
        ),
        (
            "--nudged-phase linear --beta 0.2 --variant positive",
            Some("--beta 0.2 or --variant positive changes"),
        ),
        (
            "--preset fast-fashionmnist --algorithm NEP",
            Some("the variant of --algorithm NEP changes"),
        ),
        (
            "--preset fast-fashionmnist --nudged-phase direct --beta 0.2",
            None,
        ),
    ] {
        let (_, stderr) = said(
            folder.path(),
            &format!("train {options} {TINIEST} --epochs 1"),
        );
        match noted {
            None => assert!(!stderr.contains("nothing"), "{options}: {stderr}"),
            Some(words) => assert!(stderr.contains(words), "{options}: {stderr}"),
        }
    }
}

#[test]
fn a_beta_below_the_rounding_errors_gets_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    for (options, warned) in [
        ("--beta 1e-9", true),
        ("--beta 1e-9 --nudged-phase sum-difference", false),
        ("--beta 1e-9 --precision fp64", false),
        ("--beta 1e-3", false),
    ] {
        let (_, stderr) = said(
            folder.path(),
            &format!("train {TINIEST} --epochs 1 {options}"),
        );
        assert_eq!(
            stderr.contains("rounding errors"),
            warned,
            "{options}: {stderr}"
        );
    }
}
