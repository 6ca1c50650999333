//! Golden files that are damaged, incomplete, or hold what this version does not know: reported, never skipped, and
//! never a panic.

use crate::support::golden::{File, bytes_of, replay};
use eqprop_cuda::device::Precision;
use std::panic::catch_unwind;

/// The message of a file that cannot be replayed.
fn refusal(file: &File) -> String {
    match replay(&file.bytes(), Precision::Fp64) {
        Err(error) => format!("{error:#}"),
        Ok(report) => panic!("it was replayed:\n{report}"),
    }
}

/// The only problem of a file that was replayed.
fn problem(file: &File) -> String {
    let report = replay(&file.bytes(), Precision::Fp64).unwrap();
    assert!(!report.passed());
    let [problem] = report.problems() else {
        panic!("expected one problem\n{report}");
    };
    problem.clone()
}

#[test]
fn unknown_tensors_are_reported() {
    for name in [
        "surprise",
        "free.k5.layer.10",
        "free.kappa",
        "mode.sideways.k5.layer.1",
        "variant.both.grad.raw.bias.1",
        "variant.positive.grad.rough.bias.1",
        "train.lion.lr",
        "train.sgd.after2.bias.1",
        "grad.raw.bias.0",
    ] {
        let mut file = File::read("vgg5_relu6_ce_1ch");
        let tensor = file.tensors["free.cost"].clone();
        file.tensors.insert(name.into(), tensor);
        let problem = problem(&file);
        assert_eq!(problem, format!("unknown tensor {name:?}: not checked"));
    }
    let mut file = File::read("augment");
    let tensor = file.tensors["flip.img0"].clone();
    file.tensors.insert("op.Swirl.bin9.pos.img0".into(), tensor);
    assert!(problem(&file).contains("op.Swirl.bin9.pos.img0"));
}

#[test]
fn unknown_metadata_is_reported() {
    let mut file = File::read("vgg5_relu6_ce_1ch");
    file.metadata.insert("damping".into(), "0.5".into());
    let report = replay(&file.bytes(), Precision::Fp64).unwrap();
    let note = &report.notes()[0];
    assert!(note.contains("\"damping\" = 0.5"), "{note}");
}

#[test]
fn unknown_kinds_are_reported() {
    let mut file = File::read("schedule");
    file.metadata.insert("kind".into(), "\"dream\"".into());
    let problem = problem(&file);
    assert!(
        problem.contains("dream") && problem.contains("is unknown"),
        "{problem}"
    );
}

#[test]
fn what_is_promised_and_missing_is_reported() {
    let mut file = File::read("vgg5_relu6_ce_1ch");
    file.tensors.retain(|name, _| !name.starts_with("variant."));
    let report = replay(&file.bytes(), Precision::Fp64).unwrap();
    assert_eq!(
        report.problems(),
        ["negative", "positive"]
            .map(|v| format!("tensor \"variant.{v}.grad.raw.*\" is missing: it was not checked"))
    );

    let mut file = File::read("vgg5_relu6_ce_1ch");
    file.tensors
        .retain(|name, _| !name.starts_with("train.sgd."));
    let report = replay(&file.bytes(), Precision::Fp64).unwrap();
    assert!(
        report
            .problems()
            .iter()
            .any(|p| p.contains("\"train.sgd.lr\" is missing")),
        "{report}"
    );

    let mut file = File::read("vgg5_relu6_ce_1ch");
    file.tensors
        .retain(|name, _| !name.starts_with("train.sgd.after3"));
    assert!(problem(&file).contains("train.sgd.after3.* is missing"));
}

/// Of every kind: whichever single tensor is gone, the file does not pass, and what is said has its name or its group's.
#[test]
fn no_tensor_can_be_left_out() {
    for name in [
        "vgg5_relu6_ce_1ch",
        "learning_vgg5_relu6_ce_1ch",
        "backprop_vgg5",
        "schedule",
        "augment",
    ] {
        let whole = File::read(name);
        assert!(
            replay(&whole.bytes(), Precision::Fp64).unwrap().passed(),
            "{name}"
        );
        // Of a group of like tensors one stands for all.
        let like = |tensor: &&String| {
            let parts: Vec<&str> = tensor.split('.').collect();
            let number = |word: &str| {
                let at = parts.iter().position(|part| *part == word)?;
                parts.get(at + 1)?.parse::<usize>().ok()
            };
            ["layer", "bias", "weight", "features"]
                .iter()
                .any(|word| number(word).is_some_and(|n| n > 1))
        };
        for tensor in whole.tensors.keys().filter(|tensor| !like(tensor)) {
            let mut file = whole.clone();
            file.tensors.remove(tensor);
            let said = match replay(&file.bytes(), Precision::Fp64) {
                Err(error) => format!("{error:#}"),
                Ok(report) => {
                    assert!(!report.passed(), "{name} without {tensor} passed");
                    report.problems().join("; ")
                }
            };
            let shorter = tensor.rsplit_once('.').map_or("", |(group, _)| group);
            assert!(
                said.contains(tensor) || said.contains(shorter),
                "{name} without {tensor}: {said}"
            );
        }
    }
}

#[test]
fn incomplete_files_name_what_is_missing() {
    for name in [
        "x",
        "y",
        "bias.3",
        "free.k5.layer.2",
        "grad.raw.weight.1",
        "train.y.1",
    ] {
        let mut file = File::read("vgg5_relu6_ce_1ch");
        file.tensors.remove(name);
        let message = refusal(&file);
        assert!(
            message.contains(&format!("{name:?}: is missing")),
            "{message}"
        );
    }
    for key in [
        "activation",
        "beta",
        "channels",
        "free_iterations",
        "kind",
        "loss",
        "momentum",
    ] {
        let mut file = File::read("vgg5_relu6_ce_1ch");
        file.metadata.remove(key);
        let message = refusal(&file);
        assert!(
            message.contains(&format!("{key:?}")) && message.contains("missing"),
            "{message}"
        );
    }
}

#[test]
fn contradictions_name_tensor_or_key() {
    let message = |key: &str, value: &str, name: &str| {
        let mut file = File::read(name);
        file.metadata.insert(key.into(), value.into());
        refusal(&file)
    };
    let vgg = "vgg5_relu6_ce_1ch";
    // Far more channels than memory: refused by the shapes, before anything is allocated.
    assert!(message("channels", "[6, 4, 8, 8000000]", vgg).contains("bias.4 has shape [8]"));
    assert!(message("channels", "[6, 4, 8, 8000000000]", vgg).contains("too large"));
    assert!(message("channels", "[6, 4, 8]", vgg).contains("\"channels\""));
    assert!(message("num_outputs", "11", vgg).contains("bias.5 has shape [10]"));
    assert!(message("network", "\"vgg6\"", vgg).contains("vgg6"));
    assert!(message("activation", "\"tanh\"", vgg).contains("\"activation\""));
    assert!(message("batch", "7", vgg).contains("x holds 2 images"));
    assert!(message("loss", "{", vgg).contains("\"loss\""));
    assert!(message("purpose", "\"fun\"", vgg).contains("\"fun\" is unknown"));
    assert!(message("free_iterations", "30000000000", vgg).contains("free_iterations"));
    assert!(message("t_0", "0", "schedule").contains("t_0"));
    let clips = "[2.5, 1.2, 3.1, 5.0, 1.7, 4.4, 2.2, 9.0]";
    assert!(message("clip_values", clips, "resnet13_reluclip_ce_1ch").contains("clip_values"));
}

#[test]
fn truncated_files_get_a_clear_error() {
    for name in [
        "schedule",
        "vgg5_relu6_ce_1ch",
        "learning_vgg5_relu6_ce_1ch",
        "backprop_resnet13",
        "augment",
    ] {
        let bytes = bytes_of(name);
        for length in [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 1] {
            let error = replay(&bytes[..length], Precision::Fp64).unwrap_err();
            let message = format!("{error:#}");
            assert!(
                message.contains("not a complete safetensors file"),
                "{length}: {message}"
            );
        }
    }
}

/// Every bit of a small file, and many of a larger one's header: an error, a failure or a pass, never a panic.
#[test]
fn flipped_bits_never_panic() {
    let survive = |bytes: Vec<u8>, at: usize| {
        let result = catch_unwind(|| replay(&bytes, Precision::Fp32).map(|r| r.passed()));
        result.unwrap_or_else(|_| panic!("flipping bit {at} made it panic"))
    };
    let bytes = bytes_of("schedule");
    let mut noticed = 0;
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        noticed += usize::from(!survive(damaged, bit).unwrap_or(false));
    }
    assert!(noticed > bytes.len(), "only {noticed} flips were noticed");

    for (name, step) in [
        ("vgg5_relu6_ce_1ch", 601),
        ("backprop_vgg5", 601),
        ("augment", 331),
    ] {
        let bytes = bytes_of(name);
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for bit in (0..8 * header).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Whether it is noticed depends on the bit: the seed, for one, does not matter.
            let _ = survive(damaged, bit);
        }
    }
}
