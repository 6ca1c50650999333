//! The program as a user runs it.

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A run of a second or less, on the images inside the program; an option given again replaces its value.
pub const TINY: &str = "--dataset FashionMNIST-mini --offline --channels 4,4,8,8 --limit-train 64 --limit-test 32 --batch-size 16 \
                        --num-iterations-inference 4 --num-iterations-training 2 --epochs 2";

/// The smallest run that has epochs and batches.
pub const TINIEST: &str = "--dataset FashionMNIST-mini --offline --channels 1,1,1,1 --limit-train 48 --limit-test 16 \
                           --batch-size 16 --num-iterations-inference 4 --num-iterations-training 2 --epochs 2 --threads 1";

/// Where the program is.
pub fn path() -> PathBuf {
    cargo_bin("eqprop-cuda")
}

/// The program in `folder`, with arguments that hold no spaces.
pub fn eqprop(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(path());
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    command
}

/// Runs what must succeed; returns what it printed.
#[track_caller]
pub fn succeed(folder: &Path, arguments: &str) -> String {
    let output = eqprop(folder, arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must fail; returns its status and its one line, which must have all of `words`, in whatever case.
#[track_caller]
pub fn fail(folder: &Path, arguments: &str, words: &[&str]) -> (Option<i32>, String) {
    let output = eqprop(folder, arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments} succeeded");
    assert!(stderr.starts_with("error: "), "{arguments}: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr:?}");
    let said = stderr.to_lowercase();
    for word in words {
        let word = word.to_lowercase();
        assert!(
            said.contains(&word),
            "{arguments}: no {word:?} in {stderr:?}"
        );
    }
    (output.status.code(), stderr)
}

/// The resolved settings that a run keeps.
pub fn config(run: &Path) -> toml::Table {
    let text = fs::read_to_string(run.join("config.toml")).unwrap();
    text.parse().unwrap()
}

/// The lines of a run's metrics, one an epoch.
pub fn records(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
