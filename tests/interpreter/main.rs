//! The compiled kernels, interpreted: what nvcc made of them computes what the CPU backend does, with no race and no access
//! that it may not make; and defects in kernels or assembly are noticed (feature `interpreter`, built where nvcc is found).
#![cfg(feature = "interpreter")]

mod assembly;
mod compiled;
mod hopper;
mod notice;
#[path = "../support/mod.rs"]
mod support;

use eqprop_cuda::cuda::Device;
use eqprop_cuda::cuda::interpreted::{InterpretedDevice, Settings, table};
use eqprop_cuda::cuda::measure::{Chip, Family, counts};
use eqprop_cuda::network::ActivationKind;
use ptx_interpreter::Module;
use std::sync::Arc;
use support::kernels::preset;
use support::steps;

#[test]
fn training_steps_of_both_algorithms_match_the_cpu() {
    // Rounded or cut off inside a matrix product, in whatever order the warps run.
    for settings in ["", "sums=truncated,seed=1"] {
        let settings = Settings::parse(settings).unwrap();
        for steps in steps::ALL {
            let interpreted = Arc::new(InterpretedDevice::with(
                InterpretedDevice::kernels().unwrap(),
                settings.clone(),
            ));
            let device: Arc<dyn Device> = interpreted.clone();
            let error = steps
                .error(&device)
                .unwrap_or_else(|finding| panic!("{steps:?}: {finding:#}"));
            println!(
                "{steps:?}, {:?}: error {error:.1e}\n{}\n",
                settings.options.sums,
                table(&interpreted.reports())
            );
            assert!(error < steps.tolerance(), "{steps:?}: {error}");
        }
    }
}

/// What notices kernels: the first of the training steps that goes wrong, and how; `None` when nothing does.
fn noticed_by(ptx: &str) -> Option<String> {
    let module = Arc::new(Module::parse(ptx).unwrap_or_else(|e| panic!("{e}")));
    steps::ALL.into_iter().find_map(|steps| {
        let device: Arc<dyn Device> =
            Arc::new(InterpretedDevice::with(module.clone(), Settings::default()));
        let what = notice::wrong(steps.error(&device), steps.tolerance())?;
        Some(format!("{steps:?}: {what}"))
    })
}

/// Defects in the assembly that are chosen, with their PTX.
fn in_assembly(
    chosen: impl Fn(&assembly::Defect) -> bool,
) -> impl Iterator<Item = (String, String)> {
    let ptx = InterpretedDevice::ptx().unwrap();
    let defects = assembly::DEFECTS.iter().filter(move |d| chosen(d));
    defects.map(|defect| (defect.name.to_string(), defect.change(ptx)))
}

#[test]
fn defects_in_the_assembly_are_noticed() {
    // One of each kind; the next test has all of them.
    notice::expect_all(in_assembly(|defect| defect.sample), noticed_by);
}

/// Prints the tables of `docs/interpreter.md`. EQPROP_DEFECTS chooses: those whose name contains it.
#[test]
#[ignore = "compiles the kernels dozens of times: many minutes; needs NVCC"]
fn every_defect_is_noticed() {
    println!("\n| defect | noticed by |\n|---|---|");
    let in_sources = compiled::defects()
        .into_iter()
        .filter(|d| notice::wanted(&d.name))
        .map(|defect| (defect.name.clone(), defect.compile()));
    let in_assembly = in_assembly(|defect| notice::wanted(defect.name));
    notice::expect_all(in_sources.chain(in_assembly), noticed_by);
}

/// The estimate's model of a launch (`cargo bench --bench kernels -- --estimate`) against what the compiled kernel executes.
#[test]
fn the_estimate_says_what_is_executed() {
    // Tiles are full of channels, as those of the paper's networks are: what hangs over costs products, but no bytes.
    let network = preset("hopfieldresnet13", [128; 4], 3, 10, ActivationKind::Relu6);
    for line in counts(&network, 128, &Chip::H100, Family::Mma).unwrap() {
        let (report, shape) = (&line.report, &line.shape);
        let model = line.modelled.expect("a model of these kernels");
        let traffic = &report.traffic;
        let bytes = (traffic.global_read + traffic.global_written) as f64;
        let ratios = [
            report.total().warps as f64 / model.instructions,
            bytes / model.asked_bytes,
        ];
        println!(
            "{} {shape}, {} tiles: instructions and bytes {ratios:.2?} of the model's, {} conflicts",
            line.kernel, line.tiles, traffic.bank_conflicts
        );
        assert_eq!(report.products().warps as f64, model.products, "{shape}");
        // PTX is not machine code, and pixels hang over the end of small images; a loop that the model forgets would show.
        let is_output = shape.starts_with("output");
        for ratio in ratios {
            assert!(
                is_output || (0.4..1.25).contains(&ratio),
                "{shape}: {ratio}"
            );
        }
        assert_eq!(traffic.bank_conflicts, 0, "{shape}");
    }
}
