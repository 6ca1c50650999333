//! `sweep`: many runs from one file.

use crate::support::program::{self, config, eqprop, fail, succeed};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// As `program::TINIEST`.
const TINIEST: &str = r#"
dataset = "FashionMNIST-mini"
offline = true
channels = [1, 1, 1, 1]
limit-train = 48
limit_test = 16
batch-size = 16
num-iterations-inference = 4
num-iterations-training = 2
threads = 1
"#;
const PATIENCE: Duration = Duration::from_secs(60);

fn write(folder: &Path, more: &str) {
    fs::write(folder.join("s.toml"), format!("{TINIEST}{more}")).unwrap();
}

fn metrics(run: &Path) -> Vec<f64> {
    let records = program::records(run);
    records
        .iter()
        .map(|r| r["train"]["cost"].as_f64().unwrap())
        .collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(5));
    }
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new(program::path());
    let command = command
        .current_dir(folder)
        .args(["sweep", "s.toml", "--jobs", "2"]);
    // A group of its own, as a shell gives it.
    let command = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn send(signal: &str, process: &str) {
    let status = Command::new("kill").args([signal, "--", process]).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_grid_is_trained_once_and_compared_by_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "epochs = 1\n[grid]\nbeta = [0.1, 0.2]\nseed = [0, 1]");
    let dry = succeed(path, "sweep s.toml --dry-run");
    assert_eq!(dry.lines().count(), 4, "{dry}");
    assert!(!path.join("runs").exists());
    let text = succeed(path, "sweep s.toml --jobs 2");
    assert!(
        text.contains("4 of 4 finished") && text.contains("compare runs/s/*"),
        "{text}"
    );
    let runs = [
        "beta=0.1,seed=0",
        "beta=0.1,seed=1",
        "beta=0.2,seed=0",
        "beta=0.2,seed=1",
    ]
    .map(|name| format!("runs/s/{name}"));
    assert_eq!(config(&path.join(&runs[3]))["beta"].as_float(), Some(0.2));

    // What a line of the dry run does by itself is the same.
    let line = dry.lines().find(|line| line.contains(&runs[3])).unwrap();
    let alone = line
        .strip_prefix("eqprop-cuda ")
        .unwrap()
        .replace("runs/s/", "alone/");
    succeed(path, &alone);
    assert_eq!(
        metrics(&path.join("alone/beta=0.2,seed=1")),
        metrics(&path.join(&runs[3]))
    );

    let compared = succeed(
        path,
        &format!("compare --json runs/s/sweep.toml {}", runs.join(" ")),
    );
    let lines: Value = serde_json::from_str(&compared).unwrap();
    assert_eq!(lines.as_array().unwrap().len(), 2);
    assert_eq!(lines[1]["runs"].as_array().unwrap().len(), 2);

    // Again: nothing but what is new.
    let before = fs::metadata(path.join(&runs[0]).join("metrics.jsonl"))
        .unwrap()
        .modified()
        .unwrap();
    write(
        path,
        "epochs = 1\n[grid]\nbeta = [0.1, 0.2]\nseed = [0, 1, 2]",
    );
    let text = succeed(path, "sweep s.toml");
    assert_eq!(
        (
            text.matches("is finished").count(),
            text.matches("begins").count()
        ),
        (4, 2),
        "{text}"
    );
    let after = fs::metadata(path.join(&runs[0]).join("metrics.jsonl"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(before, after);
    // More epochs go on with what is there.
    write(
        path,
        "epochs = 2\n[grid]\nbeta = [0.1, 0.2]\nseed = [0, 1, 2]",
    );
    let text = succeed(path, "sweep s.toml");
    assert_eq!(text.matches("goes on").count(), 6, "{text}");
    assert_eq!(metrics(&path.join(&runs[0])).len(), 2);
    // Another setting is another run, and no reason to call it finished.
    write(
        path,
        "epochs = 2\nomega = 0.9\n[grid]\nbeta = [0.1, 0.2]\nseed = [0]",
    );
    let output = eqprop(path, "sweep s.toml").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (
            output.status.code(),
            said.matches("holds another run").count()
        ),
        (Some(1), 2),
        "{said}"
    );
    assert!(
        said.contains("--omega 0.9: the run was started with 1"),
        "{said}"
    );
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let more = "epochs = 1\n[case.missing]\ndata-dir = \"none\"\ndataset = \"MNIST\"\n[case.there]";
    write(path, more);
    let command = |more: &str| {
        let mut command = eqprop(path, &format!("sweep s.toml --output out {more}"));
        let output = command
            .env("EQPROP_DATA", path.join("cache"))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said, complaints) = command("");
    assert_eq!(code, Some(1));
    assert!(said.contains("1 of 2 finished, 1 failed"), "{said}");
    assert!(
        complaints.starts_with("failed: missing: MNIST was not found"),
        "{complaints}"
    );
    assert_eq!(complaints.lines().count(), 1, "{complaints}");
    assert!(path.join("out/there/best.safetensors").exists());
    assert!(succeed(path, "list out").contains("out/there"));
    // It is tried again; what is finished is not.
    let (code, said, complaints) = command("--quiet");
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(complaints.contains("failed: missing"), "{complaints}");
}

#[test]
fn a_signal_saves_what_runs_and_the_next_time_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let grid = "[grid]\nseed = [0, 1, 2]";
    write(path, &format!("epochs = 100000\n{grid}"));
    // Ctrl-C on a terminal goes to the whole group.
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let child = spawn(path);
        let runs = [0, 1].map(|seed| path.join(format!("runs/s/seed={seed}")));
        let epochs = |run: &Path| {
            fs::read_to_string(run.join("metrics.jsonl"))
                .unwrap_or_default()
                .lines()
                .count()
        };
        let before = runs.each_ref().map(|run| epochs(run));
        wait_until("no epoch is over", || {
            runs.iter()
                .zip(&before)
                .all(|(run, before)| epochs(run) > *before)
        });
        send(signal, &format!("-{}", child.id()));
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(said.matches("saved and stopped").count(), 2, "{said}");
        assert!(!path.join("runs/s/seed=2").exists());
    }
    let done = metrics(&path.join("runs/s/seed=1")).len();
    write(path, &format!("epochs = {}\n{grid}", done + 2));
    succeed(path, "sweep s.toml --jobs 2");
    // As if nothing had happened: epochs that were interrupted differ in the states that they start from, but not in number.
    assert_eq!(metrics(&path.join("runs/s/seed=1")).len(), done + 2);
    assert_eq!(metrics(&path.join("runs/s/seed=2")).len(), done + 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_sweep_leaves_no_processes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "epochs = 100000\n[grid]\nseed = [0, 1]");
    let mut child = spawn(path);
    let runs = [0, 1].map(|seed| path.join(format!("runs/s/seed={seed}")));
    wait_until("no epoch is over", || {
        runs.iter().all(|run| run.join("metrics.jsonl").exists())
    });
    // A second one keeps away.
    fail(path, "sweep s.toml", &["another process", "runs/s"]);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("they run on", || {
        !runs
            .iter()
            .any(|run| eqprop_cuda::run::RunFolder::is_in_use(run))
    });
    // A run's last words come after it has let go of its folder.
    for run in runs {
        wait_until("no run said that it was interrupted and saved", || {
            let log = fs::read_to_string(run.join("log.txt")).unwrap();
            log.contains("interrupted and saved")
        });
    }
}

#[test]
fn a_file_with_a_mistake_begins_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fail(path, "sweep s.toml", &["cannot read the sweep s.toml"]);
    for (more, words) in [
        (
            "[grid]\nspeed = [1]",
            ["s.toml: [grid] speed", "no such option of train"],
        ),
        ("epochs = [", ["s.toml: line 11", "unclosed array"]),
        ("[grid]\nbeta = [0.1, -1.0]", ["s.toml: beta=-1", "--beta"]),
        (
            "algorithm = \"backprop\"\n[grid]\nbeta = [0.1]",
            ["s.toml: beta=0.1: --beta 0.1", "leave it out"],
        ),
        ("draws = 2", ["s.toml: draws = 2", "nothing in [random]"]),
    ] {
        write(path, more);
        let (code, _) = fail(path, "sweep s.toml", &words);
        assert_eq!(code, Some(2), "{more}");
    }
    assert!(!path.join("runs").exists());
    write(path, "epochs = 1");
    fail(path, "sweep s.toml --jobs 0", &["--jobs", "at least 1"]);
    fail(
        path,
        "sweep s.toml --devices gpu",
        &["--devices", "expected auto"],
    );
    succeed(path, "sweep s.toml --output run");
    fail(
        path,
        "sweep s.toml --output run/run",
        &["is the folder of a run"],
    );
}
