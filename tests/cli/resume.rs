//! A run that was interrupted and resumed ends exactly as one that was not.

use crate::support::program;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Three epochs of eight batches; with 15 + 5 iterations long enough to be interrupted.
const RUN: &str = "--dataset FashionMNIST-mini --channels 4,4,8,8 --limit-train 124 --limit-test 40 --batch-size 16 \
                   --num-iterations-inference 15 --num-iterations-training 5 --epochs 3 --save-every 1";

/// The same three epochs by backpropagation, wide enough to be interrupted.
const BACKPROP: &str = "--algorithm backprop --dataset FashionMNIST-mini --channels 16,32,64,64 --limit-train 124 --limit-test 40 \
                        --batch-size 16 --epochs 3 --save-every 1";

fn start(folder: &Path, arguments: &str) -> Child {
    Command::new(program::path())
        .current_dir(folder)
        .arg("train")
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is built")
}

fn finish(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let text =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

fn train(folder: &Path, arguments: &str) -> String {
    let (code, text) = finish(start(folder, arguments));
    assert_eq!(code, Some(0), "{text}");
    text
}

/// Waits until `run` has been saved with `batches` batches in all epochs together, or has ended.
fn wait_for_batches(child: &mut Child, run: &Path, batches: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        if batches_done(run).is_some_and(|done| done >= batches) {
            return;
        }
        sleep(Duration::from_millis(2));
    }
}

fn batches_done(run: &Path) -> Option<usize> {
    let bytes = fs::read(run.join("last.safetensors")).ok()?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).ok()?;
    let json = header.metadata().as_ref()?.get("eqprop-cuda")?;
    let state: serde_json::Value = serde_json::from_str(json).ok()?;
    let position = &state["position"];
    Some(8 * position["epoch"].as_u64()? as usize + position["batch"].as_u64()? as usize)
}

fn assert_same_end(folder: &Path, one: &str, two: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        let read = |run: &str| fs::read(folder.join(run).join(file)).unwrap();
        assert!(read(one) == read(two), "{file} differs");
    }
    let metrics = |run: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        let without_times = |line: &str| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            for part in ["train", "test"] {
                record[part]["seconds"].take();
                record[part]["images_per_second"].take();
            }
            record["peak_memory_mib"].take();
            record
        };
        text.lines().map(without_times).collect()
    };
    assert_eq!(metrics(one), metrics(two));
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_run_killed_anywhere_resumes_to_the_same_end() {
    assert_resumes(RUN);
}

/// Running statistics and Adam's moments come back too.
#[test]
fn a_killed_run_of_backpropagation_resumes_to_the_same_end() {
    assert_resumes(BACKPROP);
}

fn assert_resumes(arguments: &str) {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &format!("{arguments} --output whole"));
    let run = folder.path().join("killed");
    let mut child = start(folder.path(), &format!("{arguments} --output killed"));
    // In an epoch, at the end of one, at the start of the next, in the last.
    for batches in [3, 8, 9, 21] {
        wait_for_batches(&mut child, &run, batches);
        child.kill().unwrap();
        child.wait().unwrap();
        child = start(folder.path(), "--resume killed");
    }
    let (code, text) = finish(child);
    assert_eq!(code, Some(0), "{text}");
    assert_same_end(folder.path(), "whole", "killed");
    let left = fs::read_dir(&run).unwrap().count();
    assert_eq!(left, 5, "config, environment, metrics and two checkpoints");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    for (name, more) in [
        ("fp32", ""),
        (
            "fp64",
            "--precision fp64 --optimizer adam --preset fast-fashionmnist",
        ),
    ] {
        let (whole, stopped) = (format!("{name}-whole"), format!("{name}-stopped"));
        // Long enough that the signal comes before the end on any machine.
        let settings = format!("{RUN} {more}")
            .replace("--save-every 1", "--save-every 5")
            .replace(
                "--num-iterations-inference 15",
                "--num-iterations-inference 60",
            );
        train(folder.path(), &format!("{settings} --output {whole}"));
        let mut child = start(folder.path(), &format!("{settings} --output {stopped}"));
        wait_for_batches(&mut child, &folder.path().join(&stopped), 10);
        signal(&child, "-INT");
        let (code, text) = finish(child);
        assert_eq!(code, Some(130), "{text}");
        assert!(
            text.contains(&format!("eqprop-cuda train --resume {stopped}")),
            "{text}"
        );
        train(folder.path(), &format!("--resume {stopped}"));
        assert_same_end(folder.path(), &whole, &stopped);
    }
}

#[test]
fn a_finished_run_says_so_and_can_be_given_more_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let short = RUN.replace("--epochs 3", "--epochs 1");
    train(folder.path(), &format!("{short} --output run"));
    let before = fs::read(folder.path().join("run/last.safetensors")).unwrap();
    let text = train(folder.path(), "--resume run");
    assert!(text.contains("is finished"), "{text}");
    assert!(before == fs::read(folder.path().join("run/last.safetensors")).unwrap());
    // An editor took the last end of a line away.
    let file = folder.path().join("run/metrics.jsonl");
    let line = fs::read_to_string(&file).unwrap();
    fs::write(&file, line.trim_end()).unwrap();
    train(folder.path(), "--resume run --epochs 2");
    let metrics = fs::read_to_string(&file).unwrap();
    assert_eq!(metrics.lines().count(), 2);
}

#[test]
fn resume_without_a_value_begins_or_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let short = RUN.replace("--epochs 3", "--epochs 1");
    train(folder.path(), &format!("{short} --output run --resume"));
    let text = train(folder.path(), &format!("{short} --output run --resume"));
    assert!(text.contains("is finished"), "{text}");
}

#[test]
fn going_back_to_an_earlier_checkpoint_forgets_what_came_after() {
    let folder = tempfile::tempdir().unwrap();
    let short = RUN.replace("--epochs 3", "--epochs 2");
    train(folder.path(), &format!("{short} --output run"));
    let metrics = || fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics().lines().count(), 2);
    let last = fs::read(folder.path().join("run/last.safetensors")).unwrap();
    let best = folder.path().join("run/best.safetensors");
    let text = train(folder.path(), &format!("--resume {}", best.display()));
    assert_eq!(metrics().lines().count(), 2, "{text}");
    assert!(last == fs::read(folder.path().join("run/last.safetensors")).unwrap());
}
