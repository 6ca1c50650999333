//! `list`, `compare`, `report`, `eval`: what is said of runs that are there.

use crate::support::data::{fashion_files, write_files};
use crate::support::program::{TINY, eqprop, fail, records, succeed};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn train(path: &Path, options: &str) {
    succeed(path, &format!("train {TINY} {options}"));
}

fn json(path: &Path, arguments: &str) -> Value {
    serde_json::from_str(&succeed(path, arguments)).unwrap()
}

#[test]
fn runs_are_listed_and_seeds_compared_with_mean_and_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for seed in 0..3 {
        train(path, &format!("--seed {seed} --output runs/s{seed}"));
    }
    train(path, "--lossfn CE --output runs/deeper/ce");
    fs::create_dir(path.join("runs/empty")).unwrap();
    fs::write(path.join("runs/file"), "").unwrap();

    let list = succeed(path, "list");
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 1 + 4, "{list}");
    assert!(
        lines[1].starts_with("runs/deeper/ce")
            && lines[1].contains("finished")
            && lines[1].contains("2/2"),
        "{list}"
    );
    let entries = json(path, "list --json");
    assert_eq!(entries[3]["seed"], "2");
    assert_eq!(succeed(path, "list runs --csv").lines().count(), 5);

    // Of two runs without an epoch, one was stopped within the first: it can be resumed.
    for (run, state) in [("runs/s1", "stopped"), ("runs/s2", "not begun")] {
        fs::create_dir(path.join("early")).unwrap();
        for file in ["config.toml", "last.safetensors"] {
            fs::copy(path.join(run).join(file), path.join("early").join(file)).unwrap();
        }
        if state == "not begun" {
            fs::remove_file(path.join("early/last.safetensors")).unwrap();
        }
        assert_eq!(json(path, "list early --json")[0]["state"], state);
        fs::remove_dir_all(path.join("early")).unwrap();
    }

    let best: Vec<f64> = (0..3)
        .map(|seed| {
            let errors = records(&path.join(format!("runs/s{seed}")));
            let errors = errors
                .iter()
                .map(|r| r["test"]["top1_error"].as_f64().unwrap());
            errors.fold(1.0, f64::min)
        })
        .collect();
    let mean = best.iter().sum::<f64>() / 3.0;
    let deviation = (best.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    let all = "runs/s0 runs/s1 runs/s2 runs/deeper/ce runs/empty runs/file";
    let output = eqprop(path, &format!("compare {all} --json"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches("skipped: ").count(), 2, "{stderr}");
    let lines: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(lines.as_array().unwrap().len(), 2);
    let error = &lines[0]["best_top1_error"];
    let close = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-6;
    assert!(
        close(&error["mean"], mean) && close(&error["std"], deviation),
        "{error}"
    );
    // t = 4.30265 for two degrees of freedom.
    assert!(
        close(&error["ci95"], 4.302653 * deviation / 3f64.sqrt()),
        "{error}"
    );
    assert_eq!(lines[1]["best_top1_error"]["std"], Value::Null);
    let table = succeed(path, "compare runs/s0 runs/s1 runs/s2");
    assert!(
        table.contains("95 % interval") && table.contains("runs/s0 and 2 more"),
        "{table}"
    );
    assert_eq!(
        succeed(path, "compare runs/s0 runs/s1 --each --csv")
            .lines()
            .count(),
        3
    );
    fail(path, "compare runs/empty", &["not the folder of a run"]);
}

#[test]
fn lines_of_metrics_that_are_gone_or_doubled_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(path, "--epochs 3 --output run");
    let file = path.join("run/metrics.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (kept, line) in [
        (vec![0, 2], "line 2 is of epoch 3"),
        (vec![0, 1, 1, 2], "line 3 is of epoch 2"),
        (vec![1, 0, 2], "line 2 is of epoch 1"),
    ] {
        let damaged: String = kept.iter().map(|&i| format!("{}\n", lines[i])).collect();
        fs::write(&file, damaged).unwrap();
        for command in ["compare run", "plot run --only curves"] {
            fail(path, command, &["metrics.jsonl", line]);
        }
    }
}

#[test]
fn an_evaluation_is_told_to_programs_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(path, "--output run");
    let object = json(path, "eval run --json --predictions out.csv");
    assert_eq!(object["count"], 32);
    let csv = fs::read_to_string(path.join("out.csv")).unwrap();
    let rows: Vec<Vec<usize>> = (csv.lines().skip(1))
        .map(|line| {
            line.split(',')
                .take(3)
                .map(|cell| cell.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(rows.len(), 32);
    let wrong = rows.iter().filter(|row| row[1] != row[2]).count();
    assert_eq!(object["measures"]["top1_error"], wrong as f64 / 32.0);
    for (label, counts) in object["confusion"].as_array().unwrap().iter().enumerate() {
        for (prediction, count) in counts.as_array().unwrap().iter().enumerate() {
            let these = rows
                .iter()
                .filter(|row| row[1..] == [label, prediction])
                .count();
            assert_eq!(count, these);
        }
    }
    let text = succeed(path, "eval run --on train --limit-train 48 --confusion");
    assert!(
        text.contains("48 training images") && text.contains("predicted:"),
        "{text}"
    );
}

#[test]
fn a_report_is_one_page_with_all_that_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for seed in 0..2 {
        train(path, &format!("--seed {seed} --output s{seed}"));
    }
    train(path, "--beta 0.2 --output <b>");
    let environment: Value =
        serde_json::from_slice(&fs::read(path.join("s0/environment.json")).unwrap()).unwrap();
    assert_eq!(environment["version"], env!("CARGO_PKG_VERSION"));
    let images = environment["training_images"].as_str().unwrap();
    assert_eq!(images.len(), 32);

    succeed(path, "report s0 s1 <b> --output page.html --title A&B");
    let page = fs::read_to_string(path.join("page.html")).unwrap();
    for part in [
        "<h1>A&amp;B</h1>",
        "&lt;b&gt;",
        "<svg",
        "<polygon",
        "95 % interval",
        "beta",
        images,
        "</html>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<b>"));
    // Nothing is fetched.
    assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("<script"));
}

#[test]
fn what_is_not_finite_is_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(path, "--output run");
    succeed(path, "export run good.safetensors");
    // A huge but finite double is beyond float32.
    let checkpoint =
        eqprop_cuda::run::Checkpoint::load(&path.join("run/best.safetensors")).unwrap();
    let mut damaged = checkpoint;
    damaged.model.parameters.tensors_mut()[0].fill(1e300);
    damaged.save(&path.join("huge.safetensors")).unwrap();
    fail(
        path,
        "export huge.safetensors out.safetensors",
        &["bias.1", "not finite"],
    );
    assert!(!path.join("out.safetensors").exists());
}

/// Whoever mistypes a run is told which there are.
#[test]
fn a_run_that_is_none_is_answered_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fail(path, "eval nothing", &["nothing", "no such run"]);
    train(path, "--epochs 1 --output runs/one");
    train(path, "--epochs 1 --output elsewhere/two");
    fs::create_dir(path.join("empty")).unwrap();
    for command in [
        "eval",
        "plot",
        "compare",
        "check-gradients",
        "train --resume",
        "report --output page.html",
    ] {
        for (name, run) in [
            ("runs/on", "runs/one"),
            ("elsewhere/tow", "elsewhere/two"),
            ("nothing", "runs/one"),
        ] {
            fail(
                path,
                &format!("{command} {name}"),
                &[name, "no such run", run],
            );
        }
    }
    for command in ["eval", "plot", "compare", "check-gradients"] {
        fail(
            path,
            &format!("{command} elsewhere"),
            &["elsewhere is not the folder of a run", "elsewhere/two"],
        );
        fail(
            path,
            &format!("{command} empty"),
            &["empty is not the folder of a run"],
        );
    }
    fail(path, "export runs weights.safetensors", &["runs/one"]);
}

/// What a checkpoint from somebody else says of folders and servers is not obeyed.
#[test]
fn an_evaluation_asks_only_the_places_that_were_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let files = fashion_files();
    let files: Vec<_> = files
        .into_iter()
        .map(|(name, data)| (format!("data/kmnist/{name}"), data))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, data)| (name.as_str(), data.clone()))
        .collect();
    write_files(path, &files);
    train(
        path,
        "--epochs 1 --data-dir data --mirror http://127.0.0.1:9 --output run",
    );
    let eval = |more: &str| {
        let mut command = eqprop(path, &format!("eval run --dataset KMNIST --offline {more}"));
        let output = command
            .env("EQPROP_DATA", path.join("cache"))
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (passed, said) = eval("");
    assert!(!passed, "{said}");
    for word in [
        "not taken over from the checkpoint: --data-dir ",
        "--mirror http://127.0.0.1:9",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let (passed, said) = eval("--data-dir data");
    assert!(passed && !said.contains("--data-dir"), "{said}");
}
