//! `train --algorithm`: every learning rule learns, by each of its names, and is evaluated, resumed and refused what it has no use for.

use crate::support::program::{TINIEST, config, fail, records, succeed};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;

/// A dense network with one hidden layer.
const NETWORK: &str = r#"
    name = "small"
    [[layer]]
    name = "input"
    shape = [1, 32, 32]
    [[layer]]
    name = "hidden"
    shape = [64]
    [[layer]]
    name = "output"
    shape = [10]
    [[edge]]
    from = "input"
    to = "hidden"
    kind = "dense"
    [[edge]]
    from = "hidden"
    to = "output"
    kind = "dense"
"#;

/// What it learns in a second.
const SMALL: &str = "--dataset FashionMNIST-mini --offline --network small.toml --activation hard-sigmoid --limit-train 1000 \
                     --limit-test 300 --batch-size 25 --num-iterations-inference 15 --num-iterations-training 10 --epochs 3 \
                     --learning-rate 0.05";

/// A folder with the network in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("small.toml"), NETWORK).unwrap();
    folder
}

fn test_errors(run: &Path) -> Vec<f64> {
    let error = |record: &serde_json::Value| record["test"]["top1_error"].as_f64().unwrap();
    records(run).iter().map(error).collect()
}

fn tensor(run: &Path, name: &str) -> Vec<u8> {
    let bytes = fs::read(run.join("last.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().to_vec()
}

/// Trains, and holds the run to have learnt far more than guessing: one of ten classes is right.
#[track_caller]
fn learns(rule: &str) {
    let folder = folder();
    let line = format!("train {SMALL} --algorithm {rule} --output run");
    let output = succeed(folder.path(), &line);
    let errors = test_errors(&folder.path().join("run"));
    let best = errors.iter().copied().fold(1.0, f64::min);
    assert!(best < 0.45, "{rule}: {errors:?}\n{output}");
    let evaluated = succeed(folder.path(), "eval run");
    assert!(
        evaluated.contains(&format!("top-1 error {:>6.2} %", 100.0 * best)),
        "{evaluated}"
    );
}

#[test]
fn equilibrium_propagation_learns() {
    for name in ["PEP", "NEP", "CEP"] {
        learns(&format!("{name} --beta 0.25"));
    }
    learns("ep --variant random-sign --beta 0.25");
    learns("ep --gradient-formula alternative --beta 0.25");
    learns("ep --nudged-phase linear");
}

#[test]
fn contrastive_and_coupled_learning_learn() {
    learns("CL");
    for name in ["PCpL", "NCpL", "CCpL"] {
        learns(&format!("{name} --beta 0.25"));
    }
    learns(
        "coupled --variant random-sign --nudged-phase sum-difference --gradient-formula alternative --beta 0.25",
    );
}

#[test]
fn recurrent_and_truncated_backpropagation_learn() {
    learns("RBP");
    learns("TBP");
    learns("rbp --mode coloured --mode-nudged synchronous");
}

/// A name of the literature, the rule that it is, and the variant where the rule has one.
const NAMES: [(&str, &str, Option<&str>); 9] = [
    ("CL", "contrastive", None),
    ("PEP", "ep", Some("positive")),
    ("NEP", "ep", Some("negative")),
    ("CEP", "ep", Some("centered")),
    ("PCpL", "coupled", Some("positive")),
    ("ncpl", "coupled", Some("negative")),
    ("CCpL", "coupled", Some("centered")),
    ("TBP", "tbp", None),
    ("RBP", "rbp", None),
];

#[test]
fn names_of_the_literature_are_a_rule_and_its_variant() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, algorithm, variant) in NAMES {
        // The preset's beta is no mistake where the rule has none.
        succeed(
            path,
            &format!(
                "train --preset quickstart --algorithm {name} {TINIEST} --epochs 1 --output {name}"
            ),
        );
        let config = config(&path.join(name));
        let said = config.get("algorithm").and_then(|a| a.as_str());
        assert_eq!(said.unwrap_or("ep"), algorithm, "{name}");
        assert_eq!(
            config.get("variant").and_then(|v| v.as_str()),
            variant,
            "{name}"
        );
        assert_eq!(config.contains_key("beta"), variant.is_some(), "{name}");
        // What a run leaves is a configuration to start from.
        succeed(
            path,
            &format!("train --config {name}/config.toml --output {name}-again"),
        );
        let again = path.join(format!("{name}-again"));
        assert!(
            tensor(&path.join(name), "weight.3") == tensor(&again, "weight.3"),
            "{name}"
        );
    }
    let said = succeed(path, "compare PEP RBP");
    assert!(said.contains("RBP"), "{said}");
}

/// The option goes before what the name implies.
#[test]
fn a_variant_that_is_said_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        format!("train --algorithm PEP --variant negative {TINIEST} --epochs 1 --output run");
    succeed(folder.path(), &line);
    let config = config(&folder.path().join("run"));
    assert_eq!(config["variant"].as_str(), Some("negative"));
}

#[test]
fn each_rule_goes_on_where_it_was_interrupted() {
    let folder = folder();
    let path = folder.path();
    for rule in [
        "ep --variant random-sign --gradient-formula alternative",
        "contrastive",
        "coupled",
        "rbp",
        "tbp",
    ] {
        let name = rule.split(' ').next().unwrap();
        let line = format!(
            "train {SMALL} --limit-train 200 --learning-rate-schedule constant --algorithm {rule}"
        );
        succeed(path, &format!("{line} --epochs 2 --output {name}"));
        succeed(path, &format!("{line} --epochs 1 --output {name}-parts"));
        succeed(path, &format!("train --resume {name}-parts --epochs 2"));
        for tensor_name in ["weight.0", "weight.1", "bias.1"] {
            let [whole, parts] = [name.to_string(), format!("{name}-parts")]
                .map(|run| tensor(&path.join(run), tensor_name));
            assert!(whole == parts, "{name}: {tensor_name} differs");
        }
    }
}

/// A coin for each batch: the run differs from that of either sign.
#[test]
fn random_signs_are_both_signs() {
    let folder = folder();
    let run = |variant: &str| {
        let line = format!(
            "train {SMALL} --limit-train 200 --epochs 1 --variant {variant} --output {variant}"
        );
        succeed(folder.path(), &line);
        tensor(&folder.path().join(variant), "weight.1")
    };
    let (random, positive, negative) = (run("random-sign"), run("positive"), run("negative"));
    assert!(random != positive && random != negative && positive != negative);
}

#[test]
fn settings_that_mean_nothing_to_a_rule_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (options, words) in [
        (
            "--algorithm rbp --beta 0.1",
            ["--beta 0.1", "equilibrium propagation", "--algorithm rbp"],
        ),
        (
            "--algorithm CL --beta 0.1",
            ["--beta 0.1", "coupled learning", "--algorithm contrastive"],
        ),
        (
            "--algorithm tbp --variant positive",
            ["--variant", "equilibrium propagation", "tbp"],
        ),
        (
            "--algorithm tbp --nudged-phase direct",
            ["--nudged-phase", "coupled learning", "tbp"],
        ),
        (
            "--algorithm rbp --gradient-formula standard",
            ["--gradient-formula", "contrastive learning", "rbp"],
        ),
        (
            "--algorithm coupled --nudged-phase linear",
            ["--nudged-phase linear", "clamps", "rbp"],
        ),
        (
            "--nudged-phase linear --gradient-formula alternative",
            ["--gradient-formula alternative", "linear", "leave it out"],
        ),
        (
            "--variant sideways",
            ["sideways", "random-sign", "--variant"],
        ),
        (
            "--gradient-formula mean",
            ["mean", "alternative", "--gradient-formula"],
        ),
        (
            "--omega 1.5 --mode coloured --mode-nudged synchronous",
            ["--omega 1.5", "synchronous", "coloured"],
        ),
    ] {
        fail(path, &format!("train {TINIEST} {options}"), &words);
    }
}

/// The published values, for each cell of the framework's table.
#[test]
fn the_comparative_study_has_the_published_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let limits = "--dataset FashionMNIST-mini --channels 2,2,2,2 --limit-train 4 --limit-test 4 --batch-size 4 --epochs 1 \
                  --num-iterations-inference 1 --num-iterations-training 1";
    for (name, _, variant) in NAMES {
        let line =
            format!("train --preset comparative-study --algorithm {name} {limits} --output {name}");
        succeed(path, &line);
        let config = config(&path.join(name));
        assert_eq!(config["network"].as_str(), Some("vgg5"));
        assert_eq!(config["activation"].as_str(), Some("hard-sigmoid"));
        let rates = [0.0625, 0.0375, 0.025, 0.02, 0.0125].map(toml::Value::from);
        for key in ["learning-rates-weights", "learning-rates-biases"] {
            assert_eq!(config[key].as_array().unwrap()[..], rates, "{name} {key}");
        }
        let beta = config.get("beta").and_then(|beta| beta.as_float());
        assert_eq!(beta, variant.map(|_| 0.25), "{name}");
    }
}

#[cfg(feature = "emulation")]
#[test]
fn rules_are_trained_by_the_kernels() {
    let folder = folder();
    let path = folder.path();
    let line =
        format!("train {SMALL} --limit-train 50 --limit-test 25 --epochs 1 --device emulated");
    for (name, options) in [
        ("contrastive", "--algorithm CL --precision fp32"),
        ("coupled", "--algorithm CCpL --gradient-formula alternative"),
        ("rbp", "--algorithm rbp --mode coloured --omega 1.3"),
        ("linear", "--nudged-phase linear --precision fp32"),
        ("tbp", "--algorithm tbp"),
    ] {
        succeed(path, &format!("{line} {options} --output {name}"));
        let cost = records(&path.join(name))[0]["test"]["cost"]
            .as_f64()
            .unwrap();
        succeed(
            path,
            &format!("{line} {options} --device cpu --precision fp64 --output {name}-cpu"),
        );
        let truth = records(&path.join(format!("{name}-cpu")))[0]["test"]["cost"]
            .as_f64()
            .unwrap();
        assert!((cost / truth - 1.0).abs() < 0.01, "{name}: {cost} {truth}");
    }
    succeed(path, "eval tbp-cpu --device emulated --precision fp32");
}
