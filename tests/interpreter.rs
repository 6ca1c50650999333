//! The compiled kernels, interpreted: what nvcc made of them computes what the CPU backend does, with no race and no access
//! that it may not make; and defects in kernels or assembly are noticed (feature `interpreter`, built where nvcc is found).
#![cfg(feature = "interpreter")]

mod support;

use eqprop_cuda::cpu;
use eqprop_cuda::cuda::interpreted::{InterpretedDevice, Settings, table};
use eqprop_cuda::cuda::{CudaBackend, CudaFeedForward, Device, Precision};
use eqprop_cuda::device;
use eqprop_cuda::feedforward::FeedForward;
use eqprop_cuda::network::{ActivationKind, Network};
use eqprop_cuda::optim::OptimizerConfig;
use eqprop_cuda::phase::{CostFunction, NudgedPhase};
use ptx_interpreter::Module;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::kernels::*;

/// Training steps that have to agree with the CPU backend in fp64.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Steps {
    Fp16,
    Fp32,
    Backprop,
}

const ALL: [Steps; 3] = [Steps::Fp16, Steps::Backprop, Steps::Fp32];

impl Steps {
    /// What correct kernels stay below and a defect exceeds: the same as through the emulation (`mutations.rs`).
    fn tolerance(self) -> f64 {
        match self {
            Steps::Fp16 => 2e-2,
            Steps::Fp32 | Steps::Backprop => 1e-3,
        }
    }

    /// The largest error of two training steps on this device, or what was found.
    fn error(self, device: &Arc<dyn Device>) -> Result<f64, String> {
        let channels = [4, 6, 8, 9];
        let network = |name: &str, inputs: usize| {
            preset(name, channels, inputs, 10, ActivationKind::HardSigmoid)
        };
        let (resnet13, mse) = (network("hopfieldresnet13", 3), CostFunction::Mse);
        match self {
            Steps::Fp16 => ep_error(&resnet13, mse, Precision::Fp16, device),
            Steps::Fp32 => {
                let error = ep_error(&resnet13, mse, Precision::Fp32, device)?;
                let pooled = ep_error(
                    &network("vgg5", 1),
                    CostFunction::Ce,
                    Precision::Fp32,
                    device,
                )?;
                Ok(error.max(pooled))
            }
            Steps::Backprop => {
                let models = [("resnet13", 3), ("vgg5", 1)];
                models.iter().try_fold(0.0, |worst: f64, (name, inputs)| {
                    let model = FeedForward::preset(name, *inputs, 10, channels).unwrap();
                    Ok(feed_forward_error(&model, device)?.max(worst))
                })
            }
        }
    }
}

fn ep_error(
    network: &Network,
    cost: CostFunction,
    precision: Precision,
    device: &Arc<dyn Device>,
) -> Result<f64, String> {
    let recipe = Recipe {
        form: NudgedPhase::SumDifference,
        cost,
        beta: 2.0,
        ..Recipe::default()
    };
    let parameters = random_parameters(network, 1);
    let batches = [random_images(network, 3, 1), random_images(network, 3, 2)];
    let mut truth = cpu::backend(network, cpu::Precision::Fp64);
    truth.set_parameters(&parameters).unwrap();
    let want = train(&mut *truth, network, &batches, &recipe).unwrap();
    let run = || {
        let mut kernels: Box<dyn eqprop_cuda::phase::Backend> =
            Box::new(CudaBackend::new(network, device.clone(), precision)?);
        kernels.set_parameters(&parameters)?;
        train(&mut *kernels, network, &batches, &recipe)
    };
    let got = run().map_err(|e: anyhow::Error| format!("{e:#}"))?;
    let (got, want) = match precision {
        Precision::Fp32 => (got, want),
        Precision::Fp16 => (
            got.without_what_fp16_rounds_away(),
            want.without_what_fp16_rounds_away(),
        ),
    };
    Ok(worst(&got, &want, |_| 0.1).0)
}

fn feed_forward_error(model: &FeedForward, device: &Arc<dyn Device>) -> Result<f64, String> {
    let adam = OptimizerConfig::Adam { weight_decay: 0.1 };
    let state = model.initialise(1);
    let batches = [1, 2].map(|seed| random_images(model.network(), 5, seed));
    let mut truth = (device::Device::Cpu.feed_forward(model, device::Precision::Fp64)).unwrap();
    truth.set_state(&state).unwrap();
    let want = train_feed_forward(&mut *truth, model, &batches, adam).unwrap();
    let run = || {
        let mut kernels: Box<dyn eqprop_cuda::feedforward::Backend> = Box::new(
            CudaFeedForward::new(model, device.clone(), Precision::Fp32)?,
        );
        kernels.set_state(&state)?;
        train_feed_forward(&mut *kernels, model, &batches, adam)
    };
    let got = run().map_err(|e: anyhow::Error| format!("{e:#}"))?;
    Ok(worst(&got, &want, |_| 0.1).0)
}

#[test]
fn training_steps_of_both_algorithms_match_the_cpu() {
    // Rounded or cut off inside a matrix product, in whatever order the warps run.
    for settings in ["", "sums=truncated,seed=1"] {
        let settings = Settings::parse(settings).unwrap();
        for steps in ALL {
            let interpreted = Arc::new(InterpretedDevice::with(
                InterpretedDevice::kernels().unwrap(),
                settings.clone(),
            ));
            let device: Arc<dyn Device> = interpreted.clone();
            let error = steps
                .error(&device)
                .unwrap_or_else(|finding| panic!("{steps:?}: {finding}"));
            println!(
                "{steps:?}, {:?}: error {error:.1e}\n{}\n",
                settings.options.sums,
                table(&interpreted.reports())
            );
            assert!(error < steps.tolerance(), "{steps:?}: {error}");
        }
    }
}

/// Changes in sources or in PTX that must be noticed.
struct Defect {
    name: String,
    /// Number in `kernels/defects.cuh`.
    compiled: Option<usize>,
    /// File, what stands there, and what stands there instead.
    source: Option<(&'static str, &'static str, &'static str)>,
    ptx: fn(&str) -> String,
}

/// All defects of `kernels/defects.cuh`.
fn compiled_defects(kernels: &Path) -> Vec<Defect> {
    let text = std::fs::read_to_string(kernels.join("defects.cuh")).unwrap();
    let body = text
        .split("enum Defect : int {")
        .nth(1)
        .expect("the list of defects");
    let names = body.split('}').next().unwrap().split(',').map(|name| {
        name.split('=')
            .next()
            .unwrap()
            .split_whitespace()
            .last()
            .unwrap_or("")
            .to_lowercase()
            .replace('_', " ")
    });
    (names.filter(|name| !name.is_empty()).enumerate())
        .map(|(i, name)| Defect {
            name,
            compiled: Some(i + 1),
            source: None,
            ptx: str::to_string,
        })
        .collect()
}

/// Each line that begins so (behind white space and a predicate), changed.
fn lines(text: &str, opcode: &str, change: impl Fn(&str) -> String) -> String {
    let changed = text.lines().map(|line| {
        if line.contains(opcode) {
            change(line)
        } else {
            line.to_string()
        }
    });
    changed.collect::<Vec<_>>().join("\n")
}

/// A wait for copies and the barrier after it change places, as they might without their `memory` clobbers.
fn barrier_before_wait(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let waits = lines
        .iter()
        .enumerate()
        .filter(|(_, l)| l.contains("cp.async.wait_group"))
        .map(|(i, _)| i);
    for wait in waits.collect::<Vec<_>>() {
        let barrier =
            (wait + 1..lines.len().min(wait + 12)).find(|&i| lines[i].contains("bar.sync"));
        if let Some(barrier) = barrier {
            lines.swap(wait, barrier);
        }
    }
    lines.join("\n")
}

fn assembly_defects() -> Vec<Defect> {
    let defect = |name: &str, source, ptx| Defect {
        name: name.to_string(),
        compiled: None,
        source,
        ptx,
    };
    let in_source = |name, from, to| defect(name, Some(("ptx.cuh", from, to)), str::to_string);
    vec![
        in_source(
            "the operands b of a product are swapped",
            "{%8,%9}",
            "{%9,%8}",
        ),
        in_source(
            "two operands a of a product are swapped",
            "{%4,%5,%6,%7}",
            "{%4,%6,%5,%7}",
        ),
        in_source(
            "a generic address where a shared one belongs",
            "static_cast<uint32_t>(__cvta_generic_to_shared(pointer))",
            "static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer))",
        ),
        in_source(
            "copies fetch half of their bytes",
            "present ? 16 : 0",
            "present ? 8 : 0",
        ),
        defect("ldmatrix without .trans", None, |t| {
            t.replace(".x4.trans.", ".x4.")
        }),
        defect("ldmatrix with .trans too often", None, |t| {
            t.replace(".x4.shared", ".x4.trans.shared")
        }),
        defect("one group of copies more may be under way", None, |t| {
            lines(t, "cp.async.wait_group", |line| {
                let (before, number) = line.split_once("wait_group").unwrap();
                let number: u32 = number.trim().trim_end_matches(';').parse().unwrap();
                format!("{before}wait_group {};", number + 1)
            })
        }),
        defect("copies to an address aligned to 8 bytes", None, |t| {
            lines(t, "cp.async.cg.shared", |line| {
                line.replacen("],", "+8],", 1)
            })
        }),
        defect("copies are not committed", None, |t| {
            t.replace("cp.async.commit_group;", "")
        }),
        defect(
            "the barrier comes before the wait for copies",
            None,
            barrier_before_wait,
        ),
        defect("shuffles from one lane too far", None, |t| {
            lines(t, "shfl.sync.down", |line| {
                line.replace(", 1, 31,", ", 2, 31,")
            })
        }),
    ]
}

fn nvcc() -> PathBuf {
    std::env::var_os("NVCC")
        .expect("NVCC names the compiler")
        .into()
}

fn kernels_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// What nvcc makes of the kernels with this defect; `None` when that is nothing new.
fn ptx_with(defect: &Defect) -> String {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(kernels_folder())
        .unwrap()
        .flatten()
        .filter(|e| e.path().is_file())
    {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    if let Some((file, from, to)) = defect.source {
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }
    let out = folder.path().join("kernels.ptx");
    let mut command = Command::new(nvcc());
    command
        .args([
            "--ptx",
            "-arch=compute_80",
            "-lineinfo",
            "-std=c++17",
            "-O3",
            "-o",
        ])
        .arg(&out);
    if let Some(number) = defect.compiled {
        command.arg(format!("-DEQPROP_DEFECT={number}"));
    }
    let output = command
        .arg(folder.path().join("kernels.cu"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&out).unwrap();
    let changed = (defect.ptx)(&text);
    let from_text = defect.compiled.is_none() && defect.source.is_none();
    assert!(
        !from_text || changed != text,
        "{}: the PTX is not changed",
        defect.name
    );
    changed
}

/// Prints the table of `docs/interpreter.md`. EQPROP_DEFECTS chooses: those whose name contains it.
#[test]
#[ignore = "compiles the kernels dozens of times: many minutes; needs NVCC"]
fn every_defect_is_noticed() {
    let wanted = std::env::var("EQPROP_DEFECTS").unwrap_or_default();
    let all = compiled_defects(&kernels_folder())
        .into_iter()
        .chain(assembly_defects());
    let mut unnoticed = Vec::new();
    for defect in all.filter(|d| d.name.contains(&wanted)) {
        let module =
            Module::parse(&ptx_with(&defect)).unwrap_or_else(|e| panic!("{}: {e}", defect.name));
        let module = Arc::new(module);
        let notice = ALL.into_iter().find_map(|steps| {
            let device: Arc<dyn Device> =
                Arc::new(InterpretedDevice::with(module.clone(), Settings::default()));
            match steps.error(&device) {
                Err(finding) => Some(format!("{steps:?}: {finding}")),
                Ok(error) if error > steps.tolerance() => {
                    Some(format!("{steps:?}: error {error:.1e}"))
                }
                Ok(_) => None,
            }
        });
        println!(
            "| {} | {} |",
            defect.name,
            notice.as_deref().unwrap_or("**not noticed**")
        );
        if notice.is_none() {
            unnoticed.push(defect.name);
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}
