//! `--network` by the names of the field's framework, and the options of the optimization that it has.

use crate::support::program::{config, fail, records, succeed};
use std::fs;

/// A dense network that learns in a second.
const DENSE: &str = "--dataset FashionMNIST-mini --offline --activation hard-sigmoid --limit-train 1000 --limit-test 300 \
                     --batch-size 25 --num-iterations-inference 15 --num-iterations-training 10 --epochs 2 --learning-rate 0.05";

#[test]
fn dense_networks_take_the_images_as_they_are_and_learn() {
    let folder = tempfile::tempdir().unwrap();
    for (network, channels) in [("dhn-1h", "48"), ("dhn-2h", "48,32")] {
        let line =
            format!("train {DENSE} --network {network} --channels {channels} --output {network}");
        let said = succeed(folder.path(), &line);
        let run = folder.path().join(network);
        let parameters = match network {
            "dhn-1h" => 28 * 28 * 48 + 48 + 48 * 10 + 10,
            _ => 28 * 28 * 48 + 48 + 48 * 32 + 32 + 32 * 10 + 10,
        };
        assert!(said.contains(&format!("{parameters} parameters")), "{said}");
        let errors: Vec<f64> = records(&run)
            .iter()
            .map(|record| record["test"]["top1_error"].as_f64().unwrap())
            .collect();
        assert!(errors[1] < 0.5, "{network}: {errors:?}");
        let evaluated = succeed(folder.path(), &format!("eval {network} --offline"));
        assert!(evaluated.contains("300 test images"), "{evaluated}");
    }
    fail(
        folder.path(),
        "train --offline --dataset FashionMNIST-mini --network dhn-2h --channels 48",
        &["--channels 48", "2 widths", "1024,1024"],
    );
}

#[test]
fn a_network_file_may_leave_input_and_output_to_the_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
        name = "open"
        [[layer]]
        name = "input"
        [[layer]]
        name = "hidden"
        shape = [32]
        [[layer]]
        name = "output"
        [[edge]]
        from = "input"
        to = "hidden"
        kind = "dense"
        [[edge]]
        from = "hidden"
        to = "output"
        kind = "dense"
    "#;
    fs::write(folder.path().join("open.toml"), text).unwrap();
    let said = succeed(
        folder.path(),
        &format!("train {DENSE} --network open.toml --output run"),
    );
    let parameters = 32 * 32 * 32 + 32 + 32 * 10 + 10;
    assert!(said.contains(&format!("{parameters} parameters")), "{said}");
}

/// Each changes what is learnt, and is kept.
#[test]
fn options_of_the_optimization_are_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let plain =
        format!("train {DENSE} --network dhn-1h --channels 16 --limit-train 200 --epochs 3");
    let cost = |name: &str, options: &str| {
        succeed(folder.path(), &format!("{plain} {options} --output {name}"));
        let records = records(&folder.path().join(name));
        records.last().unwrap()["train"]["cost"].as_f64().unwrap()
    };
    let published = cost("published", "");
    for (name, options, key) in [
        ("clip", "--clip-norm 0.01", "clip-norm"),
        ("classical", "--no-nesterov", "no-nesterov"),
        (
            "exponential",
            "--learning-rate-schedule exponential",
            "learning-rate-schedule",
        ),
        ("end", "--eta-min 0.04", "eta-min"),
        (
            "restart",
            "--use-warm-restarts --restart-every 1",
            "restart-every",
        ),
    ] {
        assert_ne!(cost(name, options), published, "{options}");
        assert!(
            config(&folder.path().join(name)).contains_key(key),
            "{name}"
        );
    }
    // Gradients here are shorter than this.
    assert_eq!(
        cost("loose", "--clip-norm 1e9"),
        cost("off", "--clip-norm off")
    );
    for (options, words) in [
        (
            "--clip-norm 0",
            &["--clip-norm", "positive number, or off"][..],
        ),
        (
            "--restart-every 3",
            &["--restart-every 3", "--use-warm-restarts"],
        ),
        ("--eta-min=-1", &["--eta-min -1", "0 or a positive number"]),
    ] {
        fail(folder.path(), &format!("{plain} {options}"), words);
    }
}
