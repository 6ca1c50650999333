//! The golden files pass through the fp32 kernels, with the tolerances of the CPU backend in fp32.
#![cfg(feature = "emulation")]

mod kernels_support;

use eqprop_cuda::device::Precision;
use eqprop_cuda::parity::{self, Golden, Tolerances};
use std::path::Path;

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let golden = Golden::read(&path).unwrap();
    let tolerances = Tolerances::of(Precision::Fp32);
    let device = kernels_support::device();
    let report = parity::replay(&golden, device, Precision::Fp32, &tolerances).unwrap();
    assert!(report.passed(), "{name}:\n{report}");
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
