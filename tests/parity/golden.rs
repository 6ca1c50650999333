//! The golden files pass, in both precisions, and nothing in them is passed over.

use crate::support::golden::{self, File, bytes_of, files, replay};
use eqprop_cuda::device::{Device, Precision};
use eqprop_cuda::parity::{self, Golden};

/// Quantities that the files hold between them; a replay that stopped checking one of them would still pass.
const QUANTITIES: [&str; 34] = [
    "after3",
    "after3, running statistics",
    "contrastive.second.layer",
    "cosine",
    "coupled.centered.grad, sum-difference",
    "crop4edge",
    "energy.k1",
    "ep.positive.alternative.grad",
    "eval.logits",
    "first.layer",
    "flip",
    "fmnistcrop",
    "free.cost",
    "free.k120.layer",
    "free.prediction",
    "grad.clipped",
    "grad.norm",
    "grad.raw",
    "grad.raw, sum-difference",
    "grad0",
    "loss.2",
    "mode.backward.k5.layer",
    "normalized.cifar10",
    "op.Rotate",
    "rbp.synchronous.grad",
    "second.layer",
    "tbp.end.layer",
    "tbp.grad",
    "train.adamw.after3",
    "train.adamw.after3, sum-difference",
    "train.sgd.after3",
    "train.sgd.gradnorm.2",
    "variant.negative.grad.raw",
    "warm_restarts",
];

fn all_pass(precision: Precision) {
    let mut quantities = Vec::new();
    for path in files() {
        let report = replay(&std::fs::read(&path).unwrap(), precision).unwrap();
        assert!(report.passed(), "{}:\n{report}", path.display());
        quantities.extend(report.rows().iter().map(|row| row.quantity.clone()));
    }
    for quantity in QUANTITIES {
        assert!(
            quantities.iter().any(|q| q == quantity),
            "{quantity} was not checked"
        );
    }
}

#[test]
fn golden_files_pass_in_fp64() {
    all_pass(Precision::Fp64);
}

#[test]
fn golden_files_pass_in_fp32() {
    all_pass(Precision::Fp32);
}

/// Those of equilibrium propagation: feed-forward networks have no bf16.
#[test]
fn golden_files_pass_in_bf16() {
    let mut replayed = 0;
    for path in files() {
        let bytes = std::fs::read(&path).unwrap();
        if Golden::parse(&bytes).unwrap().text("kind").unwrap() == "backprop" {
            continue;
        }
        let report = replay(&bytes, Precision::Bf16).unwrap();
        assert!(report.passed(), "{}:\n{report}", path.display());
        replayed += 1;
    }
    assert!(replayed > 8, "{replayed} files");
}

/// float64 is told from float32 by the tolerances: they are not so wide that anything passes.
#[test]
fn fp32_does_not_pass_as_fp64() {
    let golden = Golden::parse(&bytes_of("resnet13_relu6_mse")).unwrap();
    let tolerances = parity::Tolerances::FP64;
    let report = parity::replay(&golden, Device::Cpu, Precision::Fp32, &tolerances).unwrap();
    assert!(!report.passed(), "{report}");
}

/// One wrong value anywhere fails, and fails the right quantity.
#[test]
fn a_perturbed_value_fails() {
    let cases = [
        ("energy.k2", "energy.k2"),
        ("first.layer.9", "first.layer"),
        ("free.cost", "free.cost"),
        ("free.k5.layer.3", "free.k5.layer"),
        ("free.prediction", "free.prediction"),
        ("grad.clipped.weight.3", "grad.clipped"),
        ("grad.norm", "grad.norm"),
        ("grad.raw.bias.4", "grad.raw"),
        ("grad.raw.weight.12", "grad.raw, sum-difference"),
        ("mode.forward.k5.layer.2", "mode.forward.k5.layer"),
        ("second.layer.1", "second.layer"),
        ("train.adamw.after3.bias.2", "train.adamw.after3"),
        ("train.adamw.cost.2", "train.adamw.cost.2"),
        ("train.sgd.after3.weight.0", "train.sgd.after3"),
        ("train.sgd.energy.1", "train.sgd.energy.1"),
        ("train.sgd.gradnorm.1", "train.sgd.gradnorm.1"),
        (
            "variant.positive.grad.raw.weight.7",
            "variant.positive.grad.raw",
        ),
    ];
    let original = File::read("resnet13_relu6_mse");
    for (tensor, quantity) in cases {
        let mut file = original.clone();
        file.perturb(tensor, 1e-3);
        let report = replay(&file.bytes(), Precision::Fp64).unwrap();
        let failed: Vec<&str> = (report.rows().iter())
            .filter(|row| !row.passed())
            .map(|row| row.quantity.as_str())
            .collect();
        assert!(
            failed.contains(&quantity),
            "{tensor}: failed were {failed:?}\n{report}"
        );
        let stem = quantity.split(',').next().unwrap();
        assert!(
            failed.iter().all(|f| f.starts_with(stem)),
            "{tensor}: {failed:?}"
        );
    }
}

#[test]
fn a_perturbed_parameter_state_or_clip_fails_in_fp32() {
    let cases = [
        ("resnet13_reluclip_ce_1ch", "clip"),
        ("resnet13_reluclip_ce_1ch", "weight.4"),
        ("vgg5_relu6_ce_1ch", "bias.2"),
        ("vgg5_relu6_ce_1ch", "free.k30.layer.4"),
        ("vgg5_relu6_ce_1ch", "train.y.1"),
        ("precision_trained_resnet13", "bias.9"),
        ("precision_trained_resnet13", "y"),
    ];
    for (name, tensor) in cases {
        let mut file = File::read(name);
        file.metadata.remove("clip_values");
        file.perturb(tensor, 0.5);
        let report = replay(&file.bytes(), Precision::Fp32).unwrap();
        assert!(
            report.rows().iter().any(|row| !row.passed()),
            "{name} {tensor}\n{report}"
        );
    }
}

/// A ten-millionth is noticed in float64, in the estimator that it is in and in no other.
#[test]
fn a_perturbed_estimate_fails() {
    let original = File::read("learning_vgg5_relu6_ce_1ch");
    for (tensor, quantity) in [
        ("contrastive.grad.weight.2", "contrastive.grad"),
        ("contrastive.second.layer.4", "contrastive.second.layer"),
        ("coupled.negative.grad.bias.1", "coupled.negative.grad"),
        ("ep.centered.grad.bias.5", "ep.centered.grad"),
        (
            "ep.positive.alternative.grad.weight.0",
            "ep.positive.alternative.grad",
        ),
        ("rbp.synchronous.grad.weight.4", "rbp.synchronous.grad"),
        ("tbp.end.layer.1", "tbp.end.layer"),
        ("tbp.grad.weight.3", "tbp.grad"),
    ] {
        let mut file = original.clone();
        file.perturb(tensor, 1e-7);
        let report = replay(&file.bytes(), Precision::Fp64).unwrap();
        let failed = report.rows().iter().filter(|row| !row.passed());
        let failed: Vec<&str> = failed.map(|row| row.quantity.as_str()).collect();
        assert!(failed.contains(&quantity), "{tensor}: {failed:?}\n{report}");
        assert!(
            failed.iter().all(|f| f.starts_with(quantity)),
            "{tensor}: {failed:?}"
        );
    }
}

#[test]
fn a_perturbed_value_of_a_feed_forward_network_fails() {
    for (name, tensor, quantity) in [
        ("backprop_resnet13", "after3.layers.3_4.0.weight", "after3"),
        (
            "backprop_resnet13",
            "after3.layers.3_4.1.running_var",
            "after3, running statistics",
        ),
        (
            "backprop_resnet13",
            "after3.layers.0_2.1.num_batches_tracked",
            "after3, batches",
        ),
        ("backprop_resnet13", "eval.logits", "eval.logits"),
        ("backprop_resnet13", "grad0.layers.8_9.bias", "grad0"),
        ("backprop_resnet13", "grad0.layers.0_2.0.weight", "grad0"),
        ("backprop_resnet13", "logits.1", "logits.1"),
        ("backprop_vgg5", "after3.classifier.weight", "after3"),
        ("backprop_vgg5", "grad0.features.4.1.weight", "grad0"),
        ("backprop_vgg5", "loss.2", "loss.2"),
    ] {
        let mut file = File::read(name);
        file.perturb(tensor, 0.1);
        for precision in [Precision::Fp64, Precision::Fp32] {
            let report = replay(&file.bytes(), precision).unwrap();
            let failed: Vec<&str> = (report.rows().iter())
                .filter(|row| !row.passed())
                .map(|row| row.quantity.as_str())
                .collect();
            assert_eq!(failed, [quantity], "{name} {tensor}\n{report}");
        }
    }
}

/// An input, a label or an initial value that differs shows in what follows from it.
#[test]
fn a_perturbed_initial_value_of_a_feed_forward_network_fails() {
    for (name, tensor) in [
        ("backprop_resnet13", "x.0"),
        ("backprop_resnet13", "y.2"),
        ("backprop_resnet13", "init.layers.1_2.0.weight"),
        ("backprop_resnet13", "init.layers.2_4.1.running_var"),
        ("backprop_vgg5", "init.features.2.1.bias"),
        ("backprop_vgg5", "init.features.6.1.num_batches_tracked"),
        ("backprop_vgg5", "init.classifier.bias"),
    ] {
        let mut file = File::read(name);
        file.perturb(tensor, 0.5);
        let report = replay(&file.bytes(), Precision::Fp64).unwrap();
        assert!(!report.passed(), "{name} {tensor}\n{report}");
    }
}

#[test]
fn perturbed_images_and_schedules_fail() {
    for (name, tensor, quantity) in [
        ("augment", "op.Rotate.bin9.neg.img1", "op.Rotate"),
        (
            "augment",
            "op.ShearX.bin9.neg.img1.magnitude",
            "op magnitudes",
        ),
        ("augment", "flip.img0", "flip"),
        ("augment", "crop4edge.top3.left5.img0", "crop4edge"),
        ("augment", "fmnistcrop.top4.left4.img1", "fmnistcrop"),
        ("augment", "normalized.cifar10.img0", "normalized.cifar10"),
        ("schedule", "cosine", "cosine"),
        ("schedule", "warm_restarts", "warm_restarts"),
    ] {
        let mut file = File::read(name);
        file.perturb(tensor, 1e-4);
        let report = replay(&file.bytes(), Precision::Fp64).unwrap();
        let failed: Vec<&str> = (report.rows().iter())
            .filter(|row| !row.passed())
            .map(|row| row.quantity.as_str())
            .collect();
        assert_eq!(failed, [quantity], "{name} {tensor}\n{report}");
    }
}

/// NaN is within no tolerance.
#[test]
fn nan_fails() {
    let mut file = File::read("vgg5_relu6_ce_1ch");
    file.perturb("free.k5.layer.1", f64::NAN);
    let report = replay(&file.bytes(), Precision::Fp64).unwrap();
    let row = report
        .rows()
        .iter()
        .find(|row| row.quantity == "free.k5.layer")
        .unwrap();
    assert!(!row.passed() && row.note == "layer.1", "{report}");
}

#[test]
fn the_command_prints_a_verdict_per_file_and_goes_on_after_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.safetensors");
    std::fs::write(&bad, b"nonsense").unwrap();
    let good = golden::folder().join("schedule.safetensors");
    let run = |files: Vec<std::path::PathBuf>| {
        let device = "cpu".parse().unwrap();
        let mut out = Vec::new();
        let passed = parity::replay_files(&files, device, Precision::Fp64, &mut out).unwrap();
        (passed, String::from_utf8(out).unwrap())
    };
    let (passed, text) = run(vec![good.clone()]);
    assert!(
        passed && text.contains("pass: 1 file(s), 2 quantities pass, 0 fail"),
        "{text}"
    );
    let missing = folder.path().join("missing.safetensors");
    let (passed, text) = run(vec![bad, missing, good]);
    assert!(!passed, "{text}");
    assert!(
        text.contains("bad.safetensors: FAIL: not a complete safetensors file"),
        "{text}"
    );
    assert!(
        text.contains("missing.safetensors: FAIL: cannot read it"),
        "{text}"
    );
    assert!(
        text.contains("FAIL: 3 file(s), 2 quantities pass, 2 fail"),
        "{text}"
    );
}
