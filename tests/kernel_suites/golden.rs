//! The golden files pass through the fp32 kernels, with the tolerances of the CPU backend in fp32; those of feed-forward networks and of
//! the learning rules through the fp16 kernels too, with theirs.

use crate::support::kernels::device;
use eqprop_cuda::device::Precision;
use eqprop_cuda::parity::{self, Golden, Tolerances};
use std::path::Path;

fn check(name: &str) {
    check_in(name, Precision::Fp32);
}

fn check_in(name: &str, precision: Precision) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let golden = Golden::read(&path).unwrap();
    let tolerances = Tolerances::of(precision);
    let report = parity::replay(&golden, device(), precision, &tolerances).unwrap();
    println!("{name} in {precision:?}:\n{report}");
    assert!(report.passed(), "{name} in {precision:?}:\n{report}");
}

#[test]
fn golden_files_of_hopfieldresnet13_pass() {
    check("resnet13_relu6_mse.safetensors");
    check("resnet13_hardsigmoid_mse_100.safetensors");
    check("resnet13_reluclip_ce_1ch.safetensors");
}

#[test]
fn golden_files_of_vgg5_pass() {
    check("vgg5_hardsigmoid_mse.safetensors");
    check("vgg5_relu6_ce_1ch.safetensors");
}

#[test]
fn golden_files_of_the_learning_rules_pass() {
    for name in [
        "learning_resnet13_relu6_mse.safetensors",
        "learning_vgg5_hardsigmoid_mse.safetensors",
        "learning_vgg5_relu6_ce_1ch.safetensors",
    ] {
        for precision in [Precision::Fp32, Precision::Fp16] {
            check_in(name, precision);
        }
    }
}

#[test]
fn golden_files_of_feed_forward_networks_pass() {
    for precision in [Precision::Fp32, Precision::Fp16] {
        check_in("backprop_resnet13.safetensors", precision);
        check_in("backprop_vgg5.safetensors", precision);
    }
}
