//! `--wandb`, with a module in the place of the real package that writes down what it is told.
//! `tests/track/read_wandb.py` reads a run of the real package.

use crate::support::program::{TINIEST as TINY, eqprop, records};
use assert_cmd::Command;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Takes calls down in `calls.jsonl`; dies at the step that `DIE_AT` names.
const FAKE: &str = r#"
import json, os, sys

__version__ = "0"

def note(name, value):
    with open(os.environ["CALLS"], "a") as file:
        print(json.dumps([name, value]), file=file)

class Run:
    id = "the-id"
    def log(self, values, step):
        if str(step) == os.environ.get("DIE_AT"):
            os._exit(3)
        note("log", {"step": step, "values": values})
    def finish(self, exit_code):
        note("finish", exit_code)

def init(**arguments):
    print("this goes to stderr")
    if os.environ.get("WANDB_MODE") != "offline":
        raise RuntimeError("No API key configured.\nUse `wandb login`.")
    note("init", arguments)
    return Run()
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("python")).unwrap();
        fs::write(folder.path().join("python/wandb.py"), FAKE).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn train(&self, arguments: &str) -> Command {
        let mut command = eqprop(self.path(), &format!("train {arguments}"));
        command
            .env("PYTHONPATH", self.path().join("python"))
            .env("CALLS", self.path().join("calls.jsonl"))
            .env("WANDB_MODE", "offline")
            .env_remove("WANDB_PROJECT")
            .env_remove("WANDB_NAME");
        command
    }

    fn calls(&self) -> Vec<(String, Value)> {
        let text = fs::read_to_string(self.path().join("calls.jsonl")).unwrap_or_default();
        let call = |line: &str| serde_json::from_str(line).unwrap();
        text.lines().map(call).collect()
    }

    /// A line may be in the writing.
    fn calls_so_far(&self) -> usize {
        let text = fs::read_to_string(self.path().join("calls.jsonl")).unwrap_or_default();
        text.matches('\n').count()
    }

    fn metrics(&self) -> Vec<Value> {
        records(&self.path().join("run"))
    }
}

fn error(command: &mut Command) -> String {
    let output = command.assert().code(1).get_output().clone();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = (text.lines())
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_string()
}

#[test]
fn every_epoch_is_logged_and_a_resumed_run_goes_on() {
    let place = Place::new();
    place
        .train(&format!("{TINY} --wandb --output run"))
        .assert()
        .success();
    let calls = place.calls();
    let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["init", "log", "log", "finish"]);
    let init = &calls[0].1;
    assert_eq!(init["project"], "eqprop-cuda");
    assert_eq!(init["name"], "run");
    assert_eq!(init["id"], Value::Null);
    assert_eq!(init["config"]["beta"], 0.1);
    assert_eq!(init["config"]["channels"], json!([1, 1, 1, 1]));
    assert!(Path::new(init["dir"].as_str().unwrap()).is_absolute());
    for (record, (_, call)) in place.metrics().iter().zip(&calls[1..3]) {
        assert_eq!(call["step"], record["epoch"]);
        let values = &call["values"];
        for part in ["train", "test"] {
            for name in [
                "energy",
                "cost",
                "top1_error",
                "top5_error",
                "images_per_second",
            ] {
                assert_eq!(values[format!("{name}/{part}")], record[part][name]);
            }
            let (norms, saturations) = (&record[part]["state_norms"], &record[part]["saturations"]);
            assert_eq!(values[format!("state_norm/h1b/{part}")], norms[1]);
            assert_eq!(values[format!("state_norm/output/{part}")], norms[8]);
            assert_eq!(values[format!("saturation/h4b/{part}")], saturations[7]);
            assert!(norms[0].as_f64() > Some(0.0), "{norms}");
        }
        let norms = &record["train"]["gradient_norms"];
        assert_eq!(values["gradient_norm/bias.9/train"], norms[8]);
        assert_eq!(values["gradient_norm/weight.12/train"], norms[21]);
        assert_eq!(
            values["learning_rate/weight.0"],
            record["learning_rates"][9]
        );
        assert!(values.get("gradient_norm/bias.1/test").is_none());
    }
    assert_eq!(calls[3].1, 0);

    place.train("--resume run --epochs 3").assert().success();
    let calls = place.calls();
    assert_eq!(calls[4].0, "init");
    assert_eq!(calls[4].1["id"], "the-id");
    assert_eq!(calls[5].1["step"], 3);
    assert_eq!(calls.len(), 7);
}

/// The published program's statistics stand beside ours, by its definitions.
#[test]
fn published_series_have_published_names() {
    let place = Place::new();
    place
        .train(&format!("{TINY} --wandb --published-series --output run"))
        .assert()
        .success();
    let metrics = place.metrics();
    let calls = place.calls();
    for (record, (_, call)) in metrics.iter().zip(&calls[1..3]) {
        let value = |name: &str| {
            call["values"][name]
                .as_f64()
                .unwrap_or_else(|| panic!("{name}"))
        };
        for pass in ["train", "test"] {
            let measures = &record[pass];
            let number = |name: &str| measures[name].as_f64().unwrap();
            assert_eq!(value(&format!("Energy/{pass}")), number("energy"));
            assert_eq!(
                value(&format!("Error/{pass}")),
                100.0 * number("top1_error")
            );
            for layer in 0..10 {
                let mean = measures["mean_abs_states"][layer].as_f64().unwrap();
                assert_eq!(value(&format!("Norm/{pass}_Layer_{layer}")), mean);
                let zeros = 100.0 * measures["zero_states"][layer].as_f64().unwrap();
                assert_eq!(value(&format!("Saturation/{pass}_Layer_{layer}")), zeros);
                // A layer whose units are all at zero has no length, and no other.
                assert_eq!(mean == 0.0, zeros == 100.0, "{layer}: {mean}, {zeros}");
                assert!((0.0..=100.0).contains(&zeros), "{layer}: {zeros}");
            }
            // No unit of the linear output is exactly zero.
            assert_eq!(value(&format!("Saturation/{pass}_Layer_9")), 0.0);
        }
        let gradients = record["train"]["mean_abs_gradients"].as_array().unwrap();
        assert_eq!(gradients.len(), 9 + 13);
        for (name, at) in [
            ("Bias_0", 0),
            ("Bias_8", 8),
            ("ConvWeight_0", 9),
            ("ConvWeight_11", 20),
            ("DenseWeight_0", 21),
        ] {
            assert_eq!(
                value(&format!("Gradient/train_{name}")),
                gradients[at].as_f64().unwrap()
            );
        }
        assert!(record["test"].get("mean_abs_gradients").is_none());
    }
    // Without the option there are none of them, and backpropagation has none.
    place
        .train(&format!("{TINY} --output without"))
        .assert()
        .success();
    let plain = records(&place.path().join("without"));
    assert!(plain[0]["train"].get("mean_abs_states").is_none());
    let refused = place
        .train("--algorithm backprop --published-series")
        .assert()
        .code(2);
    let text = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(text.contains("--published-series"), "{text}");
}

#[test]
fn no_wandb_wins_and_nothing_is_sent_unless_asked_for() {
    let place = Place::new();
    for options in ["", "--wandb --no_wandb", "--no_wandb --wandb"] {
        let _ = fs::remove_dir_all(place.path().join("run"));
        place
            .train(&format!("{TINY} {options} --output run"))
            .assert()
            .success();
        assert_eq!(place.calls(), [], "{options}");
    }
    fs::write(place.path().join("tracked.toml"), "wandb = true").unwrap();
    place
        .train(&format!("--config tracked.toml {TINY} --output tracked"))
        .assert()
        .success();
    assert_eq!(place.calls().len(), 4);
    place
        .train("--resume tracked --epochs 3 --no_wandb")
        .assert()
        .success();
    assert_eq!(place.calls().len(), 4);
}

#[test]
fn what_is_missing_is_said_before_anything_is_written() {
    let place = Place::new();
    let tracked = format!("{TINY} --wandb --output run");
    let broken = place.path().join("python/wandb.py");
    fs::write(&broken, "raise ImportError('no such module')").unwrap();
    let text = error(&mut place.train(&tracked));
    assert!(text.contains("no such module"), "{text}");
    assert!(text.contains("`pip install wandb`"), "{text}");
    // A folder that the package left in the present folder is no package; what Python has instead is none either.
    fs::write(&broken, "").unwrap();
    fs::create_dir(place.path().join("wandb")).unwrap();
    let text = error(&mut place.train(&tracked));
    assert!(text.contains("`pip install wandb`"), "{text}");
    let text = error(place.train(&tracked).env("PATH", place.path()));
    assert!(text.contains("cannot start python3"), "{text}");
    assert!(text.contains("`pip install wandb`"), "{text}");
    fs::write(&broken, FAKE).unwrap();
    let text = error(place.train(&tracked).env("WANDB_MODE", "online"));
    assert!(
        text.contains("No API key configured. Use `wandb login`."),
        "{text}"
    );
    assert!(!place.path().join("run").exists());
}

#[test]
fn a_client_that_dies_is_one_warning_and_training_goes_on() {
    let place = Place::new();
    // Long enough that the second epoch's end finds it dead.
    let longer = TINY
        .replace("--epochs 2", "--epochs 8")
        .replace("-inference 4", "-inference 60");
    let mut command = place.train(&format!("{longer} --wandb --tensorboard --output run"));
    let output = command
        .env("DIE_AT", "2")
        .assert()
        .success()
        .get_output()
        .clone();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.matches("warning: --wandb").count(), 1, "{text}");
    assert_eq!(place.metrics().len(), 8);
    assert_eq!(place.calls().len(), 2, "the beginning and the first epoch");
}

#[test]
fn a_run_that_fails_says_so() {
    let place = Place::new();
    let diverging = TINY.replace("--epochs 2", "--epochs 200 --learning-rate 1e9");
    let text = error(&mut place.train(&format!("{diverging} --wandb --output run")));
    assert!(text.contains("diverged"), "{text}");
    assert_eq!(place.calls().pop(), Some(("finish".into(), json!(1))));
}

/// A folder from somebody else runs none of its modules, and says what its checkpoint turns on.
#[test]
fn the_present_folder_gives_python_no_modules() {
    let place = Place::new();
    place
        .train(&format!("{TINY} --wandb --output run"))
        .assert()
        .success();
    for module in ["json", "site", "wandb", "os"] {
        let code = "open('executed', 'w')";
        fs::write(place.path().join(format!("run/{module}.py")), code).unwrap();
    }
    let mut command = place.train("--resume . --epochs 3");
    let output = command.current_dir(place.path().join("run")).output();
    let output = output.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("taken over from the checkpoint: --wandb"),
        "{text}"
    );
    assert!(!place.path().join("run/executed").exists());
    assert_eq!(place.calls().len(), 7);
}

/// Ctrl-C goes to all processes of a terminal: the client must not take it for itself.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_run_there_too() {
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let long = TINY.replace("--epochs 2", "--epochs 100000");
    let prepared = place.train(&format!("{long} --wandb --output run"));
    let mut command = std::process::Command::new(prepared.get_program());
    command.current_dir(place.path()).args(prepared.get_args());
    for (name, value) in prepared.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let silent = std::process::Stdio::null;
    let mut child = command
        .process_group(0)
        .stdout(silent())
        .stderr(silent())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while place.calls_so_far() < 2 && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
    let group = format!("-{}", child.id());
    let status = std::process::Command::new("kill")
        .args(["-INT", "--", &group])
        .status();
    assert!(status.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(place.calls().pop(), Some(("finish".into(), json!(130))));
}
