//! The default precision is trustworthy: on a trained network, whose gradient is small, fp16 with nudged phases in
//! sum-and-difference form gives the gradient of fp64 to a cosine of 0.999, where careless fp16 fails.
//!
//! The golden file holds weights after real training and the fp64 gradient with 120 + 50 + 50 iterations.

use crate::support::kernels::{cosine, kernels, preset};
use eqprop_cuda::device::Precision;
use eqprop_cuda::network::{ActivationKind, Mode, ParameterSet};
use eqprop_cuda::phase::{
    CostFunction, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use ndarray::{Array4, ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};

fn tensor(file: &SafeTensors, name: &str) -> ArrayD<f64> {
    let view = file.tensor(name).unwrap();
    let values: Vec<f64> = match view.dtype() {
        Dtype::F64 => (view.data().chunks_exact(8))
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        Dtype::F32 => (view.data().chunks_exact(4))
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        Dtype::I64 => (view.data().chunks_exact(8))
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
            .collect(),
        other => panic!("{name} has type {other:?}"),
    };
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap()
}

/// Cosine of the whole gradient, and of the worst single tensor, with the file's fp64 gradient.
fn cosines(precision: Precision, form: NudgedPhase) -> (f64, f64) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/precision_trained_resnet13.safetensors"
    );
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let network = preset(
        "hopfieldresnet13",
        [16, 32, 64, 64],
        1,
        10,
        ActivationKind::Relu6,
    );
    let read = |prefix: &str| {
        let names = network.parameter_names();
        let tensors = names
            .iter()
            .map(|name| tensor(&file, &format!("{prefix}{name}")));
        ParameterSet::from_tensors(&network, tensors.collect()).unwrap()
    };
    let images: Array4<f32> = tensor(&file, "x")
        .mapv(|v| v as f32)
        .into_dimensionality()
        .unwrap();
    let labels: Vec<usize> = tensor(&file, "y").iter().map(|&y| y as usize).collect();
    let mut backend = kernels(&network, precision).unwrap();
    backend.set_parameters(&read("")).unwrap();
    backend.load_batch(&images, &labels, Start::Zero).unwrap();
    let relaxation = |iterations| Relaxation {
        mode: Mode::Asynchronous,
        iterations,
        omega: 1.0,
        tolerance: None,
    };
    backend.free_phase(&relaxation(120)).unwrap();
    let nudging = Nudging {
        beta: 0.1,
        variant: Variant::Centered,
        form,
        output: OutputCondition::Nudged,
    };
    backend
        .nudged_phases(&nudging, CostFunction::Mse, &relaxation(50))
        .unwrap();
    backend.estimate_gradient().unwrap();
    let (got, want) = (backend.gradient().unwrap(), read("grad.raw."));
    let each = got.tensors().iter().zip(want.tensors()).map(|(a, b)| {
        let dot: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
        let norm = |t: &ArrayD<f64>| t.iter().map(|v| v * v).sum::<f64>().sqrt();
        dot / (norm(a) * norm(b))
    });
    let worst = each.fold(f64::INFINITY, f64::min);
    let whole = cosine(&got, &want);
    println!("{precision:?} {form:?}: cosine {whole:.7}, worst tensor {worst:.6}");
    (whole, worst)
}

#[test]
fn fp16_in_sum_and_difference_form_gives_the_fp64_gradient() {
    let (whole, worst) = cosines(Precision::Fp16, NudgedPhase::SumDifference);
    assert!(whole >= 0.999, "cosine {whole}");
    assert!(worst >= 0.999, "worst tensor {worst}");
}

#[test]
fn fp32_gives_the_fp64_gradient() {
    let (whole, _) = cosines(Precision::Fp32, NudgedPhase::SumDifference);
    assert!(whole >= 0.99999, "cosine {whole}");
}

/// The table of `kernels/README.md`; run it with `-- --ignored --nocapture`.
#[test]
#[ignore = "prints a table, and asserts nothing that the other tests do not"]
fn table_of_precisions_and_forms() {
    for precision in [Precision::Fp32, Precision::Fp16] {
        for form in [NudgedPhase::Direct, NudgedPhase::SumDifference] {
            cosines(precision, form);
        }
    }
}
