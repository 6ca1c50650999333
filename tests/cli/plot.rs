//! `eqprop-cuda plot`: the pictures that it leaves, the table that it prints, and what it refuses.

use crate::support::program::{self, fail, succeed};
use assert_cmd::assert::Assert;
use resvg::{tiny_skia::Pixmap, usvg};
use std::fs;
use std::path::Path;

const TINY: &str = "--dataset FashionMNIST-mini --offline --channels 4,4,8,8 --limit-train 32 --limit-test 16 --batch-size 16 \
                    --num-iterations-inference 6 --num-iterations-training 3 --mode coloured --epochs 2";

fn eqprop(folder: &Path, arguments: &str) -> Assert {
    program::eqprop(folder, arguments).assert()
}

fn train(folder: &Path, output: &str) {
    eqprop(folder, &format!("train {TINY} --output {output}")).success();
}

fn error(folder: &Path, arguments: &str) -> String {
    fail(folder, arguments, &[]).1
}

/// The SVG's text, when both files of a figure are sound and show the same: size, and something besides white.
fn figure(folder: &Path, name: &str) -> String {
    let svg = fs::read_to_string(folder.join(format!("{name}.svg"))).unwrap();
    let tree = usvg::Tree::from_str(&svg, &usvg::Options::default()).unwrap();
    let png = fs::read(folder.join(format!("{name}.png"))).unwrap();
    let pixels = Pixmap::decode_png(&png).unwrap();
    assert_eq!(
        tree.size().to_int_size().dimensions(),
        (pixels.width(), pixels.height())
    );
    assert_eq!(pixels.width(), 1200);
    let all = pixels.pixels().len();
    let inked = pixels
        .pixels()
        .iter()
        .filter(|p| p.red() < 250 || p.blue() < 250)
        .count();
    assert!(
        inked > all / 200 && inked < all / 2,
        "{name}: {inked} of {all} pixels are not white"
    );
    svg
}

/// Whether some text of the SVG is exactly this.
fn says(svg: &str, text: &str) -> bool {
    svg.contains(&format!(">\n{text}\n</text>"))
}

/// The first epoch with the smallest test error.
fn best_epoch(run: &Path) -> usize {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let error = |line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["test"]["top1_error"].as_f64().unwrap()
    };
    let errors: Vec<f64> = text.lines().map(error).collect();
    let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
    1 + errors.iter().position(|&e| e == least).unwrap()
}

#[track_caller]
fn assert_says(svg: &str, texts: &[&str]) {
    for text in texts {
        assert!(says(svg, text), "{text:?} is missing");
    }
}

#[test]
fn a_run_gets_all_three_figures_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    let printed = succeed(folder.path(), "plot run --offline");
    let best = best_epoch(&folder.path().join("run"));
    let plots = folder.path().join("run/plots");
    let mut files: Vec<String> = fs::read_dir(&plots)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "learning_curve.png",
            "learning_curve.svg",
            "relaxation.csv",
            "relaxation.png",
            "relaxation.svg",
            "weights.png",
            "weights.svg"
        ]
    );
    for file in &files {
        assert!(
            printed.contains(&format!("run/plots/{file}\n")),
            "{printed}"
        );
    }

    let curves = figure(&plots, "learning_curve");
    assert_says(
        &curves,
        &[
            "Learning curves of run",
            "Top-1 error",
            "images classified wrongly (%)",
            "accuracy (%)",
            "Cost: squared error ½‖s − y‖²",
            "mean cost per image",
            "epoch",
            "run",
            "test images",
            "training images, augmented",
        ],
    );
    // Two panels, two lines, two epochs: each point is marked.
    assert_eq!(curves.matches("<circle").count(), 2 * 2 * 2);

    let weights = figure(&plots, "weights");
    assert_says(
        &weights,
        &[
            &format!("Parameters of run after epoch {best}"),
            "values (%)",
            "bias.1: h1a",
            "bias.9: output",
        ],
    );
    assert_says(
        &weights,
        &["weight.0: input → h1a", "weight.12: h4b → output"],
    );
    assert!(weights.contains("8×2×2×10, mean "));

    let relaxation = figure(&plots, "relaxation");
    assert_says(
        &relaxation,
        &[
            &format!("Relaxation of 16 test images: run after epoch {best}, coloured, ω = 1"),
            "Free: energy",
            "Free: energy by layer",
            "Nudged, β = −0.1: change",
            "Nudged, β = +0.1: residual by layer",
            "relative change in an iteration",
            "iteration",
            "iterations that the run makes at most",
            "difference of the two nudged states",
            "h1a",
            "output",
        ],
    );
}

#[test]
fn the_relaxation_is_tabulated_by_iteration_and_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    let printed = succeed(
        folder.path(),
        "plot run --offline --only relaxation --iterations 40+20",
    );
    let csv = fs::read_to_string(folder.path().join("run/plots/relaxation.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 40 + 20 + 20);
    assert_eq!(rows[0].len(), 6 + 9 + 9);
    assert_eq!((rows[0][6], rows[0][15]), ("residual h1a", "energy h1a"));
    let free: Vec<_> = rows.iter().filter(|row| row[0] == "free").collect();
    let number = |text: &str| text.parse::<f64>().unwrap();
    // Coloured updates without over-relaxation minimise the energy layer by layer.
    let energies: Vec<f64> = free.iter().map(|row| number(row[3])).collect();
    let slack = 1e-12 * energies[0].abs();
    for (row, energy) in free.iter().zip(&energies) {
        let layers: f64 = row[15..].iter().map(|text| number(text)).sum();
        assert!((layers - energy).abs() <= 1e-9 * energy.abs(), "{row:?}");
    }
    assert!(
        energies.is_sorted_by(|a, b| *b <= a + slack),
        "{energies:?}"
    );

    // The table says of each tolerance where the column of changes falls below it.
    let changes: Vec<f64> = free.iter().map(|row| number(row[4])).collect();
    for tolerance in ["1e-1", "1e-2", "1e-3", "1e-4"] {
        let limit: f64 = tolerance.parse().unwrap();
        let first = changes
            .iter()
            .position(|&c| c < limit)
            .map(|i| (i + 1).to_string());
        let line = printed
            .lines()
            .find(|line| line.starts_with(tolerance))
            .unwrap();
        let cell = line.split_whitespace().nth(1).unwrap();
        let expected = first.unwrap_or(">40".into());
        assert_eq!(cell.split("..").next().unwrap(), expected, "{line}");
    }
    assert!(changes[39] < 1e-3, "it did not relax: {changes:?}");
}

#[test]
fn several_runs_share_a_picture_and_have_their_own() {
    let folder = tempfile::tempdir().unwrap();
    for run in ["one", "two", "other/two"] {
        train(folder.path(), run);
    }
    eqprop(
        folder.path(),
        "plot one two other/two --offline --only curves,weights",
    )
    .success();
    let plots = folder.path().join("plots");
    let curves = figure(&plots, "learning_curve");
    assert_says(&curves, &["Learning curves", "one", "two", "other/two"]);
    assert_eq!(curves.matches("<circle").count(), 3 * 2 * 2 * 2);
    // Each run has a colour of its own, in both panels.
    for colour in ["#0072B2", "#D55E00", "#009E73"] {
        let dots = curves
            .lines()
            .filter(|line| line.starts_with("<circle") && line.contains(colour));
        assert_eq!(dots.count(), 2 * 2 * 2, "{colour}");
    }
    for run in ["one", "two", "other-two"] {
        figure(&plots, &format!("weights-{run}"));
    }
    assert!(!plots.join("relaxation-one.svg").exists());

    let twice = error(folder.path(), "plot one ./one --offline");
    assert!(twice.contains("./one is named twice"), "{twice}");
}

#[test]
fn what_cannot_be_plotted_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for (arguments, reason) in [
        (
            "plot nowhere --output out",
            "nowhere: there is no such run folder or checkpoint",
        ),
        (
            "plot empty --output out",
            "empty is not the folder of a run",
        ),
        (
            "plot run --output file/out --only curves",
            "cannot make the folder file/out",
        ),
        ("plot run --output out --only pies", "'pies'"),
        (
            "plot run --output out --only relaxation --iterations 0+3",
            "expected FREE+NUDGED",
        ),
        (
            "plot run --output out --only relaxation --iterations converged",
            "expected FREE+NUDGED",
        ),
        ("plot run --output out --batch-size 0", "--batch-size"),
        ("plot run --output out --device cuda", "cpu"),
        ("plot", "RUN"),
    ] {
        let error = error(folder.path(), arguments);
        assert!(error.contains(reason), "{arguments}: {error}");
        assert!(!folder.path().join("out").exists(), "{arguments}");
    }
}

#[test]
fn metrics_of_older_versions_are_read_and_corrupt_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    let path = folder.path().join("run/metrics.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    assert!(lines.contains(",\"eased_phases\":"));
    let older: String = lines
        .lines()
        .map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            for part in ["train", "test"] {
                record[part]
                    .as_object_mut()
                    .unwrap()
                    .remove("eased_phases")
                    .unwrap();
            }
            format!("{record}\n")
        })
        .collect();
    fs::write(&path, &older).unwrap();
    eqprop(folder.path(), "plot run --offline --only curves").success();
    figure(&folder.path().join("run/plots"), "learning_curve");

    for (damage, reason) in [
        (
            older.replace("\"cost\"", "\"coast\""),
            "missing field `cost`",
        ),
        (format!("{}{{\"epoch\": 3, \"tr", older), "EOF"),
    ] {
        fs::write(&path, &damage).unwrap();
        let error = error(
            folder.path(),
            "plot run --offline --only curves --output out",
        );
        let line = if damage.contains("coast") { 1 } else { 3 };
        assert!(
            error.contains(&format!("run/metrics.jsonl: line {line} is corrupt")),
            "{error}"
        );
        assert!(error.contains(reason), "{error}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_checkpoint_is_plotted_in_place_of_the_best() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    eqprop(
        folder.path(),
        "plot run/last.safetensors --offline --only weights --output out",
    )
    .success();
    let last = figure(&folder.path().join("out"), "weights");
    assert_says(&last, &["Parameters of run after epoch 2"]);
    let files = fs::read_dir(folder.path().join("out")).unwrap().count();
    assert_eq!(files, 2, "only the two files of one figure were asked for");
}

#[test]
fn legends_say_what_differs_and_costs_that_differ_have_axes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (output, options) in [
        ("a", "--seed 0"),
        ("b", "--seed 1"),
        ("c", "--lossfn CE --seed 1"),
    ] {
        succeed(path, &format!("train {TINY} {options} --output {output}"));
    }
    succeed(path, "plot a b c --only curves");
    let curves = figure(&path.join("plots"), "learning_curve");
    assert_says(
        &curves,
        &[
            "a: MSE, seed 0",
            "b: MSE, seed 1",
            "c: CE, seed 1",
            "Cost: squared error ½‖s − y‖²",
            "Cost: cross-entropy",
        ],
    );
    // Seeds together: two curves, the first with a band around each of its lines in both panels.
    succeed(
        path,
        "plot a b c --only curves --bands --log --output bands --title Seeds",
    );
    let bands = figure(&path.join("bands"), "learning_curve");
    assert_says(
        &bands,
        &["Seeds", "MSE (mean and range of 2 runs)", "c: CE"],
    );
    assert_eq!(bands.matches("<polygon").count(), 2 * 2);
}

#[test]
fn figures_have_the_asked_format_size_and_resolution() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(path, "run");
    let options = "--format pdf,png --size 7x4in --dpi 192 --title Figure";
    succeed(path, &format!("plot run --only curves {options}"));
    let plots = path.join("run/plots");
    assert!(!plots.join("learning_curve.svg").exists());
    let png = fs::read(plots.join("learning_curve.png")).unwrap();
    let pixels = Pixmap::decode_png(&png).unwrap();
    assert_eq!((pixels.width(), pixels.height()), (7 * 192, 4 * 192));
    // Pixels a metre, and the checksum of that chunk, as the PNG decoder that checks it says.
    let at = png.windows(4).position(|w| w == b"pHYs").unwrap();
    assert_eq!(png[at + 4..at + 8], 7559u32.to_be_bytes());
    // A page of 7 by 4 inches, in points.
    let pdf = fs::read(plots.join("learning_curve.pdf")).unwrap();
    assert!(pdf.starts_with(b"%PDF-"));
    let page = b"/MediaBox [0 0 504 288]";
    assert!(pdf.windows(page.len()).any(|w| w == page));
    for (options, reason) in [
        ("--size 60x40", "need"),
        ("--size 7", "WIDTHxHEIGHT"),
        ("--dpi 1e9", "24 to 2400"),
        ("--format bmp", "bmp"),
    ] {
        let arguments = format!("plot run --only curves --output out {options}");
        assert!(error(path, &arguments).contains(reason), "{options}");
        assert!(!path.join("out").exists(), "{options}");
    }
}

/// Biases that the batch normalisation after them makes useless decay, and end as subnormal numbers.
#[test]
fn few_values_are_shown_one_by_one_and_tiny_ones_are_zero() {
    use eqprop_cuda::network::presets::{self, PresetOptions};
    use eqprop_cuda::network::{ActivationKind, ParameterSet};
    use eqprop_cuda::plot::{Style, weights};
    use rand::SeedableRng;
    let options = PresetOptions {
        input_channels: 1,
        classes: 10,
        channels: [8, 8, 8, 8],
        activation: ActivationKind::Relu6,
        gains: None,
    };
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let network = presets::build("vgg5", &options, &mut rng).unwrap();
    let mut parameters = ParameterSet::<f64>::zeros(&network);
    parameters.tensors_mut()[0].fill(1e-39);
    for (i, value) in parameters.tensors_mut()[1].iter_mut().enumerate() {
        *value = 3e-12 * (i as f64 - 3.0);
    }
    let titles: Vec<String> = (0..parameters.tensors().len())
        .map(|i| format!("tensor {i}"))
        .collect();
    let figure = weights("weights", &titles, &parameters, &Style::default()).unwrap();
    let svg = figure.svg();
    assert_says(svg, &["8, mean 0, std 0", "value (10⁻¹¹)", "index"]);
    // No label is longer than a number needs to be.
    let labels = svg.lines().filter(|line| line.starts_with("0.0000"));
    assert_eq!(labels.collect::<Vec<_>>(), Vec::<&str>::new());
    // Five bias tensors: 8 + 8 + 8 + 8 + 10 dots.
    assert_eq!(svg.matches("<circle").count(), 42);
}

/// Measured from where a longer phase ends, what still moves at the last iteration is not drawn as if it had arrived.
#[test]
fn curves_do_not_bend_at_their_end() {
    use eqprop_cuda::diagnose::LONGER;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(path, "run");
    succeed(
        path,
        "plot run --offline --only relaxation --iterations 8+4 --output short",
    );
    let long = format!(
        "plot run --offline --only relaxation --iterations {}+4 --output long",
        8 * LONGER
    );
    succeed(path, &long);
    // 9 layers and the whole, energies and residuals, and the changes with their difference: none is missing at the end. What
    // is infinite, the residual of a layer that is still at zero, has no place on an axis.
    let check = |name: &str, free: usize, nudged: usize| {
        let read = |file: &str| fs::read_to_string(path.join(name).join(file)).unwrap();
        let infinite = read("relaxation.csv")
            .split([',', '\n'])
            .filter(|cell| *cell == "inf")
            .count();
        let dots = (10 + 10) * (free + 2 * nudged) + 2 * nudged;
        assert_eq!(
            read("relaxation.svg").matches("<circle").count(),
            dots - infinite,
            "{name}"
        );
    };
    check("short", 8, 4);
    check("long", 8 * LONGER, 4);
}
