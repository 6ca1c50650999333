//! `eqprop-cuda check-gradients`: its tables, its files, and what it refuses.

use crate::support::program::{self, eqprop, succeed};
use assert_cmd::Command;
use assert_cmd::assert::Assert;
use resvg::{tiny_skia::Pixmap, usvg};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const TINY: &str = "--preset quickstart --offline --channels 2,2,4,4 --batch-size 4 --num-iterations-inference 12 \
                    --num-iterations-training 6 --beta 0.05";

fn check(folder: &Path, arguments: &str) -> Assert {
    eqprop(folder, &format!("check-gradients {arguments}")).assert()
}

#[test]
fn tables_and_files_show_estimates_that_tend_to_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let done = check(
        folder.path(),
        &format!("{TINY} --betas 1e-4,0.05,0.5 --iterations 2+1,12+6,converged --output out"),
    )
    .success();
    let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    assert!(text.starts_with("hopfieldresnet13, fresh, seed 0: 4 training images of FashionMNIST-mini; estimates on cpu, fp64"), "{text}");
    assert!(!text.contains("warning"), "{text}");

    // A row for each length and beta: three variants, each with an angle and a ratio of norms.
    let rows: HashMap<(&str, &str), Vec<f64>> = (text.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() == 8 && (words[0].contains('+') || words[0] == "converged"))
        .map(|words| {
            (
                (words[0], words[1]),
                words[2..].iter().map(|w| w.parse().unwrap()).collect(),
            )
        })
        .collect();
    assert_eq!(rows.len(), 9, "{text}");
    let exact = &rows[&("converged", "0.0001")];
    assert!(
        exact[0] < 1e-6 && (exact[1] - 1.0).abs() < 1e-3,
        "{exact:?}"
    );
    assert!(rows[&("2+1", "0.0001")][0] > 1e-3, "{text}");
    assert!(rows[&("converged", "0.5")][0] > 100.0 * exact[0], "{text}");

    // Two tables by tensor, with the run's own iterations and beta.
    for heading in [
        "1 - cosine of each tensor by beta: centered, 12+6 iterations",
        "1 - cosine of each tensor by iterations: centered, beta 0.05",
    ] {
        assert!(text.contains(heading), "{text}");
    }
    for tensor in [
        "bias.9     output ",
        "weight.0   input -> h1a ",
        "weight.12  h4b -> output ",
    ] {
        assert_eq!(text.matches(tensor).count(), 2, "{tensor}: {text}");
    }

    let out = folder.path().join("out");
    for (name, title) in [
        ("gradients", "Centred (−β, +β): direction"),
        ("gradients_by_tensor", "weight.12: h4b → output"),
    ] {
        let svg = fs::read_to_string(out.join(format!("{name}.svg"))).unwrap();
        usvg::Tree::from_str(&svg, &usvg::Options::default()).unwrap();
        for label in [
            title,
            "nudging strength β",
            "12 + 6 iterations",
            "converged",
        ] {
            assert!(
                svg.contains(&format!(">\n{label}\n</text>")),
                "{name}: {label}"
            );
        }
        let png = fs::read(out.join(format!("{name}.png"))).unwrap();
        assert_eq!(Pixmap::decode_png(&png).unwrap().width(), 1200);
        assert!(text.contains(&format!("out/{name}.png")));
    }
    let csv = fs::read_to_string(out.join("gradients.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 3 * 3 * 3 * (1 + 22));
    let line = csv
        .lines()
        .find(|l| l.starts_with("converged,converged,0.0001,centered,all,"))
        .unwrap();
    let value: f64 = line.split(',').nth(5).unwrap().parse().unwrap();
    assert!(
        (value / exact[0] - 1.0).abs() < 0.01,
        "{line} is not {exact:?}"
    );
}

#[test]
fn the_run_decides_what_is_tried_unless_options_do() {
    let folder = tempfile::tempdir().unwrap();
    let train = "train --preset quickstart --offline --channels 2,2,4,4 --batch-size 4 --limit-train 8 --limit-test 8 --epochs 1 \
                 --num-iterations-inference 10 --num-iterations-training 5 --beta 0.07 --output run";
    let mut command = Command::new(program::path());
    command
        .current_dir(folder.path())
        .args(train.split_whitespace())
        .assert()
        .success();
    let done = check(folder.path(), "run --offline").success();
    let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    assert!(
        text.starts_with(
            "run/best.safetensors (hopfieldresnet13 after epoch 1): 4 training images"
        ),
        "{text}"
    );
    for length in ["5+3", "10+5", "20+10", "converged"] {
        let rows = text
            .lines()
            .filter(|line| line.starts_with(&format!("{length} ")));
        let betas: Vec<&str> = rows
            .map(|row| row.split_whitespace().nth(1).unwrap())
            .collect();
        assert_eq!(
            betas,
            [
                "0.000001", "0.00001", "0.0001", "0.001", "0.01", "0.03", "0.07", "0.1", "0.3"
            ],
            "{length}"
        );
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "files are written only when asked for"
    );
}

#[test]
fn a_bad_option_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for (arguments, reason) in [
        ("--betas 0", "--betas 0: expected positive numbers"),
        (
            "--betas 0.1,-0.1",
            "--betas -0.1: expected positive numbers",
        ),
        ("--betas NaN", "--betas NaN: expected positive numbers"),
        ("--betas few", "'few'"),
        (
            "--iterations 12",
            "expected FREE+NUDGED iterations such as 40+20, or converged",
        ),
        ("--iterations 12+0", "expected FREE+NUDGED"),
        ("nowhere", "nowhere"),
        ("file", "file"),
        (
            "file --channels 2,2,2,2",
            "--channels: file says what the network is",
        ),
        (
            "file --preset quickstart",
            "--preset: file says what the network is",
        ),
        ("--preset slowstart", "slowstart"),
    ] {
        let failed = check(
            folder.path(),
            &format!("{arguments} --offline --output out"),
        )
        .failure();
        let text = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
        assert!(
            text.starts_with("error: ") && text.lines().count() == 1,
            "{arguments}: {text}"
        );
        assert!(text.contains(reason), "{arguments}: {text}");
        assert!(!folder.path().join("out").exists(), "{arguments}");
    }
}

/// A response from a free state at rest has no error of a beta; the pair at the same iterations has.
#[test]
fn the_estimate_of_a_run_is_told_where_no_table_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = |options: &str| {
        let line = format!(
            "check-gradients --batch-size 4 --channels 4,4,4,4 --iterations 200+200 --betas 0.3 {options}"
        );
        succeed(folder.path(), &line)
    };
    let tight = "--num-iterations-inference 400 --num-iterations-training 400 --tolerance 1e-10";
    for (options, name) in [
        (tight.to_string(), "linear response"),
        (format!("{tight} --algorithm rbp"), "linear response"),
        (
            format!("{tight} --nudged-phase sum-difference --beta 0.3"),
            "centered, beta 0.3",
        ),
    ] {
        let said = said(&options);
        let own = said
            .lines()
            .find(|line| line.starts_with("the run's own estimate"));
        let own = own.unwrap_or_else(|| panic!("{options}: {said}"));
        assert!(own.contains(name), "{own}");
        let (_, iterations) = own.split_once(", ").unwrap();
        let free = iterations
            .rsplit(", ")
            .find_map(|part| part.split('+').next()?.parse::<usize>().ok());
        assert!(free.is_some_and(|free| (2..400).contains(&free)), "{own}");
        let (_, error) = own.split_once("1 - cosine ").unwrap();
        let error: f64 = error.split(',').next().unwrap().parse().unwrap();
        assert_eq!(error < 1e-12, name == "linear response", "{own}");
    }
    let without = said("--tolerance off --nudged-phase direct");
    assert!(!without.contains("own estimate"), "{without}");
}

#[test]
fn the_linear_response_is_compared_with_the_nudged_pair() {
    let folder = tempfile::tempdir().unwrap();
    let line = "check-gradients --rules --batch-size 4 --channels 4,4,4,4 --num-iterations-inference 30 --num-iterations-training 15";
    let said = succeed(folder.path(), line);
    let cells = |line: &str| -> Vec<f64> {
        let numbers = line.split_whitespace().rev().take(5);
        let mut numbers: Vec<f64> = numbers.map(|n| n.parse().unwrap()).collect();
        numbers.reverse();
        numbers
    };
    let of = |name: &str| -> Vec<Vec<f64>> {
        let lines = said.lines().filter(|line| line.starts_with(name));
        lines.map(cells).collect()
    };
    let (pair, response) = (of("ep, centered"), of("rbp"));
    assert_eq!(pair[0][..2], [15.0, 30.0], "{said}");
    assert_eq!(response[0][..2], [15.0, 15.0], "{said}");
    assert_eq!(response[1][..2], [30.0, 30.0], "{said}");
    // As many sweeps bring the response nearer to the truth than half of them, and than the pair.
    assert!(
        response[1][2] <= response[0][2] && response[1][2] <= pair[0][2],
        "{said}"
    );
}
