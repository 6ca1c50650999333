//! Signals save the run, say so at once, and leave nothing behind.

use crate::support::program::{self, TINIEST, eqprop, fail, succeed};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn long() -> String {
    TINIEST.replace("--epochs 2", "--epochs 100000 --output run")
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn start(folder: &Path, arguments: &str) -> Child {
    let mut command = Command::new(program::path());
    spawn(
        command
            .current_dir(folder)
            .args(arguments.split_whitespace()),
    )
}

/// Waits for the end of an epoch.
fn wait_for_metrics(run: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !run.join("metrics.jsonl").exists() {
        assert!(Instant::now() < deadline, "no epoch is over");
        sleep(Duration::from_millis(5));
    }
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_signal_that_ends_a_run_saves_it() {
    for (signal, more, code) in [
        ("INT", "", 130),
        ("TERM", "", 143),
        ("HUP", "", 129),
        ("USR1", "--save-signal USR1", 138),
        ("USR2", "--save-signal usr2", 140),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let child = start(folder.path(), &format!("train {} {more}", long()));
        wait_for_metrics(&folder.path().join("run"));
        send(&child, &format!("-{signal}"));
        let output = child.wait_with_output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{signal}: {text}");
        let name = match signal {
            "INT" => "Ctrl-C".to_string(),
            _ => format!("SIG{signal}"),
        };
        assert!(
            text.contains(&format!("{name}: the batch is finished and the run saved")),
            "{text}"
        );
        assert!(text.contains("eqprop-cuda train --resume run"), "{text}");
        // Whole, and past what the last end of an epoch left.
        succeed(folder.path(), "eval run/last.safetensors");
    }
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "trap '' HUP; exec {} train {}",
        program::path().display(),
        long()
    );
    let mut child = spawn(
        Command::new("sh")
            .current_dir(folder.path())
            .args(["-c", &script]),
    );
    wait_for_metrics(&folder.path().join("run"));
    send(&child, "-HUP");
    sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    send(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// One batch that takes forever: what asks for the end is told that it was heard, and the second time obeyed.
#[test]
fn a_signal_is_acknowledged_within_a_phase_and_the_second_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let endless = long().replace("-inference 4", "-inference 1000000000");
    let mut child = start(folder.path(), &format!("train {endless}"));
    let deadline = Instant::now() + PATIENCE;
    while !folder.path().join("run/config.toml").exists() && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    send(&child, "-INT");
    let line = lines.next().unwrap().unwrap();
    assert!(line.starts_with("Ctrl-C: the batch is finished"), "{line}");
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    send(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// A server that sends a byte now and then.
#[test]
fn an_interrupted_download_leaves_nothing() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = format!("http://{}", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
            while stream.write_all(b"x").is_ok() {
                sleep(Duration::from_millis(20));
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for command in ["train --output run", "check-gradients"] {
        let arguments = format!(
            "{command} --dataset CIFAR10 --channels 1,1,1,1 --data-dir data --mirror {mirror}"
        );
        let child = start(folder.path(), &arguments);
        let begun = || {
            let mut names = fs::read_dir(&data).into_iter().flatten().flatten();
            names.any(|entry| entry.file_name().to_string_lossy().ends_with(".part"))
        };
        let deadline = Instant::now() + PATIENCE;
        while !begun() {
            assert!(Instant::now() < deadline, "no download begins");
            sleep(Duration::from_millis(5));
        }
        send(&child, "-TERM");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(143), "{}", said(&output));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "{command}");
    }
    assert!(!folder.path().join("run").exists());
}

/// What is read before the folder is locked may be another process's past.
#[test]
fn a_folder_in_use_is_not_even_read() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &format!("train {TINIEST} --output run"));
    let last = folder.path().join("run/last.safetensors");
    fs::write(&last, "in the writing").unwrap();
    let other = File::open(folder.path().join("run")).unwrap();
    other.try_lock().unwrap();
    let resume = "train --resume run --epochs 3";
    fail(folder.path(), resume, &["another process", "run"]);
    drop(other);
    fail(folder.path(), resume, &["last.safetensors", "corrupt"]);
}

#[test]
fn hints_are_words_for_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let train = |arguments: &[&str]| {
        let mut command = eqprop(folder.path(), "train");
        let output = command.args(arguments).output().unwrap();
        said(&output)
    };
    let name = "my run\u{1b}[2J";
    let mut arguments: Vec<&str> = TINIEST.split_whitespace().collect();
    arguments.extend(["--output", name]);
    let text = train(&arguments);
    assert!(!text.contains('\u{1b}'), "{text}");
    let again = train(&arguments);
    assert!(again.contains("--resume 'my run\\u{1b}[2J'"), "{again}");
    let text = succeed(folder.path(), "list .");
    assert!(
        text.contains("my run") && !text.contains('\u{1b}'),
        "{text}"
    );
}
