//! The compiled kernels, interpreted: what nvcc made of them computes what the CPU backend does, with no race and no access
//! that it may not make; and defects in kernels or assembly are noticed (feature `interpreter`, built where nvcc is found).
#![cfg(feature = "interpreter")]

mod assembly;
mod compiled;
mod hopper;
mod steps;
#[path = "../support/mod.rs"]
mod support;

use eqprop_cuda::cuda::Device;
use eqprop_cuda::cuda::interpreted::{InterpretedDevice, Settings, table};
use ptx_interpreter::{Finding, Module, Problem};
use std::sync::Arc;

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
fn notice(ptx: &str) -> Option<String> {
    let module = Arc::new(Module::parse(ptx).unwrap_or_else(|e| panic!("{e}")));
    steps::ALL.into_iter().find_map(|steps| {
        let device: Arc<dyn Device> =
            Arc::new(InterpretedDevice::with(module.clone(), Settings::default()));
        let what = match steps.error(&device) {
            Ok(error) if error < steps.tolerance() => return None,
            Ok(error) => format!("result off by {error:.0e}"),
            Err(error) => match error.downcast_ref::<Box<Finding>>() {
                Some(finding) => summary(finding),
                None => format!("{error:#}"),
            },
        };
        Some(format!("{steps:?}: {what}"))
    })
}

/// A finding without addresses and threads, for a table.
fn summary(finding: &Finding) -> String {
    let kind = match &finding.problem {
        Problem::OutOfBounds { space, .. } => format!("outside of {space}"),
        Problem::Misaligned { space, align, .. } => format!("not aligned to {align}, {space}"),
        Problem::Uninitialised { space, .. } => format!("nobody wrote it, {space}"),
        Problem::Race { what, space, .. } => format!("{what}, {space}"),
        Problem::BlockRace { what, .. } => format!("{what}, between blocks"),
        Problem::PendingCopy { .. } => "copy not awaited".to_string(),
        other => other.to_string(),
    };
    // The innermost line that is not in a wrapper of one instruction.
    let source = finding.source.iter().map(|line| {
        let name = line.file.rsplit('/').next();
        name.unwrap_or(&line.file)
    });
    let place = source.filter(|name| *name != "ptx.cuh" && name.contains(".cu"));
    let place = place.take(1).collect::<String>();
    match place.is_empty() {
        true => format!("{kind}, in {}", finding.kernel),
        false => format!("{kind}, in {} ({place})", finding.kernel),
    }
}

/// Prints a row of the table of `docs/interpreter.md`, and says whether the defect was noticed.
fn row(name: &str, ptx: &str) -> bool {
    let notice = notice(ptx);
    println!(
        "| {name} | {} |",
        notice.as_deref().unwrap_or("**nothing**")
    );
    notice.is_some()
}

/// Those whose name contains EQPROP_DEFECTS: all where it is not set.
fn wanted(name: &str) -> bool {
    std::env::var("EQPROP_DEFECTS").is_ok_and(|part| name.contains(&part))
        || std::env::var_os("EQPROP_DEFECTS").is_none()
}

#[test]
fn defects_in_the_assembly_are_noticed() {
    let ptx = InterpretedDevice::ptx().unwrap();
    // One of each kind; the next test has all of them.
    let sample = assembly::DEFECTS.iter().filter(|d| d.sample);
    let unnoticed: Vec<&str> = sample
        .filter(|defect| !row(defect.name, &defect.change(ptx)))
        .map(|defect| defect.name)
        .collect();
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}

/// Prints the table of `docs/interpreter.md`. EQPROP_DEFECTS chooses: those whose name contains it.
#[test]
#[ignore = "compiles the kernels dozens of times: many minutes; needs NVCC"]
fn every_defect_is_noticed() {
    let ptx = InterpretedDevice::ptx().unwrap();
    let mut unnoticed = Vec::new();
    println!("\n| defect in the sources | noticed by |\n|---|---|");
    for defect in compiled::defects().iter().filter(|d| wanted(&d.name)) {
        if !row(&defect.name, &defect.compile()) {
            unnoticed.push(defect.name.clone());
        }
    }
    println!("\n| defect in the assembly | noticed by |\n|---|---|");
    for defect in assembly::DEFECTS.iter().filter(|d| wanted(d.name)) {
        if !row(defect.name, &defect.change(ptx)) {
            unnoticed.push(defect.name.to_string());
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}
