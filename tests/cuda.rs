//! `--device cuda` as a user runs it.
//!
//! On a machine with a GPU, the golden files pass on it. Without one these tests are counted as ignored.
//!
//! On any machine whose build has kernels, the same program runs against `kernels/emulation/driver.cpp`, a libcuda.so that
//! executes kernels on the CPU and is stricter than a driver: this tests the host side (streams, recorded graphs, copies,
//! and what is said when a GPU fails). `kernels/emulation/nccl.cpp` stands in for NCCL between two processes. Those tests need nvcc at
//! build time and a C++ compiler.

#[path = "support/hosts.rs"]
mod hosts;

use eqprop_cuda::cuda;
use hosts::TwoHosts;
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_eqprop-cuda");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TEMPORARY: &str = env!("CARGO_TARGET_TMPDIR");

type Outcome = Result<(), Failed>;

fn main() {
    let arguments = Arguments::from_args();
    let has_gpu = cuda::list_gpus().is_ok_and(|gpus| !gpus.is_empty());
    if !has_gpu {
        println!("skipped: no CUDA device");
    }
    let has_kernels = cuda::kernel_architectures().is_some();
    if !has_kernels {
        println!("skipped: this build has no CUDA kernels (nvcc was not found)");
    }
    let has_hosts = TwoHosts::make().is_some();
    if !has_hosts {
        println!("skipped: two machines (`ip netns add` needs root)");
    }
    let gpu = |name: &str, test: fn() -> Outcome| {
        Trial::test(format!("gpu::{name}"), test).with_ignored_flag(!has_gpu)
    };
    let driver = |name: &str, test: fn() -> Outcome| {
        Trial::test(format!("driver::{name}"), test).with_ignored_flag(!has_kernels)
    };
    let trials = vec![
        gpu("golden_files_pass_in_fp32", || {
            golden_files_on_the_gpu("fp32")
        }),
        gpu("golden_files_pass_in_fp16", || {
            golden_files_on_the_gpu("fp16")
        }),
        gpu(
            "a_loop_in_the_graph_ends_phases_as_the_host_does",
            loops_on_the_gpu,
        ),
        driver("golden_files_pass", golden_files_through_the_driver),
        driver("phases_are_replayed_graphs", phases_are_replayed_graphs),
        driver(
            "a_phase_that_has_ended_is_launched_no_further",
            ended_phases,
        ),
        driver(
            "a_loop_in_the_graph_ends_phases_as_the_host_does",
            loops_end_phases_alike,
        ),
        driver("a_run_goes_on_without_loops", refused_loops),
        driver("a_loop_that_ends_wrongly_is_an_error", broken_loops),
        driver(
            "a_training_step_allocates_and_records_nothing",
            steady_training_steps,
        ),
        driver(
            "two_blocks_of_a_large_kernel_fit_a_multiprocessor",
            two_blocks_fit,
        ),
        driver("a_failed_recording_leaves_nothing_behind", failed_recording),
        driver(
            "a_failed_opening_releases_context_and_module",
            failed_opening,
        ),
        driver("a_run_resumes_after_the_gpu_was_lost", a_lost_gpu),
        driver("out_of_memory_is_one_clear_error", out_of_memory),
        driver(
            "a_gpu_without_a_matching_image_is_one_clear_error",
            no_image,
        ),
        driver("a_driver_that_is_too_old_is_one_clear_error", old_driver),
        driver("two_gpus_train_as_one_does_by_nccl", || {
            two_gpus("ep", &[], 1e-5)
        }),
        driver("two_gpus_backpropagate_as_one_does_by_nccl", || {
            two_gpus("backprop", &BACKPROP, 1e-4)
        }),
        driver("two_machines_train_as_one_does_by_nccl", two_machines)
            .with_ignored_flag(!has_kernels || !has_hosts),
        driver("a_wrong_call_of_nccl_is_refused", wrong_calls),
    ];
    if has_kernels
        && arguments
            .filter
            .as_deref()
            .is_none_or(|f| "driver::".contains(f) || f.contains("driver"))
    {
        build_driver();
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// What the tests share: the folder of the library, made before any of them starts.
fn driver_folder() -> PathBuf {
    Path::new(TEMPORARY).join("driver")
}

fn build_driver() {
    let folder = driver_folder();
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    let driver = [
        "kernels.cu",
        "emulation/runtime.cpp",
        "emulation/driver.cpp",
    ];
    build_library(&driver, &folder.join("libcuda.so"));
    build_library(&["emulation/nccl.cpp"], &folder.join("libnccl.so"));
}

fn build_library(sources: &[&str], library: &Path) {
    let compiler = std::env::var("CXX").unwrap_or("c++".into());
    let status = Command::new(&compiler)
        .current_dir(Path::new(ROOT).join("kernels"))
        .args([
            "-std=c++20",
            "-O2",
            "-shared",
            "-fPIC",
            "-DEQPROP_EMULATION",
            "-xc++",
        ])
        .args(sources)
        .args(["-pthread", "-o"])
        .arg(library)
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!(
            "{compiler} could not build {}: {other:?}",
            library.display()
        ),
    }
}

/// The program with the emulated driver in place of a GPU's, and the file that counts the calls.
fn with_driver(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (Output, String) {
    let log = driver_folder().join(format!("{name}.log"));
    let output = Command::new(PROGRAM)
        .current_dir(ROOT)
        .args(arguments)
        .env("LD_LIBRARY_PATH", driver_folder())
        .env("EQPROP_DRIVER_LOG", &log)
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts");
    (output, std::fs::read_to_string(log).unwrap_or_default())
}

/// How often the driver's function was called.
fn calls(log: &str, function: &str) -> usize {
    let line = log
        .lines()
        .find_map(|line| line.strip_prefix(function)?.strip_prefix(' '));
    line.map_or(0, |count| count.parse().expect("a count"))
}

fn text(output: &Output) -> String {
    let [out, error] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{}\n{out}{error}", output.status)
}

fn ensure(holds: bool, explanation: &str) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(explanation.into())
    }
}

fn golden_files_on_the_gpu(precision: &str) -> Outcome {
    let files = std::fs::read_dir(Path::new(ROOT).join("tests/golden"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let output = Command::new(PROGRAM)
        .args(["parity", "--device", "cuda", "--precision", precision])
        .args(files)
        .output()?;
    ensure(output.status.success(), &text(&output))
}

fn golden_files_through_the_driver() -> Outcome {
    for (precision, file) in [
        ("fp16", "tests/golden/resnet13_relu6_mse.safetensors"),
        ("fp32", "tests/golden/vgg5_relu6_ce_1ch.safetensors"),
    ] {
        let arguments = ["parity", "--device", "cuda", "--precision", precision, file];
        let (output, log) = with_driver(&format!("golden-{precision}"), &arguments, &[]);
        ensure(output.status.success(), &text(&output))?;
        ensure(calls(&log, "cuLaunchKernel") > 0, "the driver was not used")?;
        ensure(
            log.contains("leaked 0"),
            &format!("device memory was not released:\n{log}"),
        )?;
    }
    Ok(())
}

/// A training run of a moment, on the first images of the data inside the program; `more` is pairs of option and value.
fn training<'a>(folder: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "train",
        "--dataset",
        "FashionMNIST-mini",
        "--offline",
        "--network",
        "vgg5",
        "--channels",
        "4,4,4,4",
        "--limit-train",
        "12",
        "--limit-test",
        "4",
        "--batch-size",
        "4",
        "--epochs",
        "1",
        "--save-every",
        "1",
        "--num-iterations-inference",
        "18",
        "--num-iterations-training",
        "9",
        "--device",
        "cuda",
        "--output",
        folder,
    ];
    if more.contains(&"backprop") {
        arguments.retain(|argument| {
            !["18", "9"].contains(argument) && !argument.starts_with("--num-iterations")
        });
    }
    for option in more.chunks(2) {
        match arguments.iter().position(|argument| *argument == option[0]) {
            Some(at) => arguments[at + 1] = option[1],
            None => arguments.extend(option),
        }
    }
    arguments
}

/// What turns [`training`] into backpropagation.
const BACKPROP: [&str; 4] = ["--algorithm", "backprop", "--learning-rate", "0.01"];

/// A path of its own for a run, which does not exist yet.
fn fresh(name: &str) -> Result<String, Failed> {
    let folder = driver_folder().join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(folder.to_string_lossy().into_owned())
}

fn phases_are_replayed_graphs() -> Outcome {
    let folder = fresh("graphs")?;
    let (output, log) = with_driver("graphs", &training(&folder, &[]), &[]);
    ensure(output.status.success(), &text(&output))?;
    // Three training batches with a free phase of 1 + 2x8 + 1 iterations and nudged ones of 1 + 8, and one test batch.
    let (launches, graphs) = (
        calls(&log, "cuGraphLaunch"),
        calls(&log, "cuGraphInstantiateWithFlags"),
    );
    ensure(
        graphs > 0 && launches == 3 * (2 + 1) + 2,
        &format!("{launches} launches of {graphs} graphs\n{log}"),
    )?;
    ensure(
        calls(&log, "cuGraphExecDestroy") == graphs,
        &format!("graphs were not released:\n{log}"),
    )
}

/// One batch of a training run, and one of a test: a free and a nudged phase, whose first iteration is not recorded, and a free one. States come
/// to rest after 16 or more iterations, in fp16 sooner, which ends a phase by any tolerance.
const ONE_BATCH: [&str; 8] = [
    "--precision",
    "fp32",
    "--limit-train",
    "4",
    "--num-iterations-inference",
    "48",
    "--num-iterations-training",
    "20",
];

/// Phases that end in the first iteration. Without a loop, the host looks after four recordings of eight iterations; a loop makes one turn,
/// because its condition is true at first. Of phases that end with their last iteration, each turn is one that was wanted.
fn ended_phases() -> Outcome {
    let mut counted = Vec::new();
    let short = [
        "--num-iterations-inference",
        "15",
        "--num-iterations-training",
        "12",
        "--tolerance",
        "1e-12",
    ];
    for (more, loops) in [
        (&[][..], "on"),
        (&["--tolerance", "0.9"], "off"),
        (&["--tolerance", "0.9"], "on"),
        (&short, "on"),
    ] {
        let folder = fresh("ended")?;
        let arguments = training(&folder, &[&ONE_BATCH, more].concat());
        let (output, log) = with_driver("ended", &arguments, &[("EQPROP_WHILE", loops)]);
        ensure(output.status.success(), &text(&output))?;
        ensure(log.contains("leaked 0"), &log)?;
        counted.push((calls(&log, "cuGraphLaunch"), calls(&log, "turns")));
    }
    ensure(
        counted == [(5 + 2 + 6, 0), (4 + 2 + 4, 0), (3, 3), (3, 2 + 2 + 2)],
        &format!("{counted:?} launches of graphs and turns of loops"),
    )
}

/// What a training run leaves behind, to the last bit.
fn trained(folder: &str) -> Result<Vec<u64>, Failed> {
    let path = Path::new(folder).join("last.safetensors");
    let checkpoint = eqprop_cuda::run::Checkpoint::load(&path)?;
    let values = checkpoint.model.parameters.tensors().iter().flatten();
    Ok(values.map(|value| value.to_bits()).collect())
}

/// Tolerances that phases reach in the middle, and one that they do not: the same bits with a loop in the graph, and without one, however it
/// is that there is none.
fn loops_end_phases_alike() -> Outcome {
    for tolerance in ["0.03", "1e-12"] {
        let more = [&ONE_BATCH[..], &["--tolerance", tolerance]].concat();
        let mut all = Vec::new();
        for (name, environment) in [
            ("loop", ("EQPROP_WHILE", "on")),
            ("looked-after", ("EQPROP_WHILE", "off")),
            ("older", ("EQPROP_DRIVER_VERSION", "12030")),
            (
                "refused",
                (
                    "EQPROP_DRIVER_FAILS",
                    "cuGraphInstantiateWithFlags:once:801",
                ),
            ),
        ] {
            let folder = fresh(name)?;
            let (output, log) = with_driver(name, &training(&folder, &more), &[environment]);
            ensure(output.status.success(), &text(&output))?;
            ensure(log.contains("leaked 0"), &format!("{name}:\n{log}"))?;
            ensure(
                (calls(&log, "turns") > 0) == (name == "loop"),
                &format!("{name}: {} turns", calls(&log, "turns")),
            )?;
            let notes = text(&output).matches("note: no loop").count();
            ensure(
                notes == usize::from(name == "refused"),
                &format!("{name}: {}", text(&output)),
            )?;
            if name == "older" {
                // Of an older driver not even the names may be looked up.
                for function in OF_LOOPS {
                    ensure(calls(&log, function) == 0, &format!("{function}:\n{log}"))?;
                }
            }
            all.push((name, trained(&folder)?, calls(&log, "executed")));
        }
        for (name, parameters, executed) in &all[1..] {
            ensure(
                *parameters == all[0].1,
                &format!("{name}, tolerance {tolerance}: not the bits of the loop"),
            )?;
            ensure(
                *executed >= all[0].2 || tolerance == "1e-12",
                &format!("{name}: {executed} kernels, {} with a loop", all[0].2),
            )?;
        }
    }
    Ok(())
}

/// What a driver before 12.4 may lack.
const OF_LOOPS: [&str; 4] = [
    "cuGraphConditionalHandleCreate",
    "cuGraphAddNode_v2",
    "cuStreamBeginCaptureToGraph",
    "cuFuncLoad",
];

/// Whatever refuses a loop, the run goes on without, says so once and leaves nothing behind.
fn refused_loops() -> Outcome {
    let failures = OF_LOOPS.map(|function| format!("{function}:1:801"));
    for failure in failures
        .iter()
        .map(String::as_str)
        .chain(["cuModuleLoadData:2:209", "cuLaunchKernel:capture-once:801"])
    {
        let folder = fresh("refused-loop")?;
        let more = [&ONE_BATCH[..], &["--tolerance", "0.03"]].concat();
        let environment = [("EQPROP_DRIVER_FAILS", failure)];
        let (output, log) = with_driver("refused-loop", &training(&folder, &more), &environment);
        let said = text(&output);
        ensure(
            output.status.success() && said.matches("note: no loop").count() == 1,
            &format!("{failure}: {said}"),
        )?;
        ensure(
            log.contains("leaked 0") && calls(&log, "turns") == 0,
            &format!("{failure}:\n{log}"),
        )?;
    }
    Ok(())
}

/// Loops that never end, or end early, are errors.
fn broken_loops() -> Outcome {
    for (mutation, part) in [
        ("31", "stopped working"),
        ("32", "the loop ended before the phase did"),
    ] {
        let folder = fresh("broken-loop")?;
        let more = [&ONE_BATCH[..], &["--tolerance", "1e-12"]].concat();
        let environment = [("EQPROP_DRIVER_MUTATION", mutation)];
        let (output, _) = with_driver("broken-loop", &training(&folder, &more), &environment);
        let said = text(&output);
        ensure(
            output.status.code() == Some(1) && said.contains(part),
            &format!("mutation {mutation}: {said}"),
        )?;
    }
    Ok(())
}

/// On a GPU: a loop in the graph ends phases where the host does, with the same bits.
fn loops_on_the_gpu() -> Outcome {
    for tolerance in ["0.03", "1e-12"] {
        let more = [&ONE_BATCH[..], &["--tolerance", tolerance]].concat();
        let mut all = Vec::new();
        for loops in ["on", "off"] {
            let folder = fresh(&format!("gpu-loop-{loops}"))?;
            let output = Command::new(PROGRAM)
                .current_dir(ROOT)
                .args(training(&folder, &more))
                .env("EQPROP_WHILE", loops)
                .output()?;
            ensure(output.status.success(), &text(&output))?;
            all.push(trained(&folder)?);
        }
        ensure(
            all[0] == all[1],
            &format!("tolerance {tolerance}: other bits with a loop in the graph"),
        )?;
    }
    Ok(())
}

/// What five training steps ask of the driver beyond what three do is two times the copies of a batch and of its results:
/// no memory, no table, no recording. The network has max pooling between hidden layers, whose tables are the most. The same where a loop
/// ends the phases.
fn steady_training_steps() -> Outcome {
    for tolerance in [&[][..], &["--tolerance", "0.01"]] {
        let mut logs = Vec::new();
        for images in ["12", "20"] {
            let folder = fresh("steady")?;
            let few = ["--limit-train", images, "--save-every", "1000"];
            let arguments = training(&folder, &[&few, tolerance].concat());
            let (output, log) = with_driver("steady", &arguments, &[]);
            ensure(output.status.success(), &text(&output))?;
            logs.push(log);
        }
        ensure(
            (calls(&logs[0], "turns") > 0) != tolerance.is_empty(),
            &logs[0],
        )?;
        let more = |function: &str| calls(&logs[1], function) - calls(&logs[0], function);
        for function in [
            "cuMemAlloc_v2",
            "cuMemFree_v2",
            "cuMemHostAlloc",
            "cuStreamBeginCapture_v2",
            "cuStreamBeginCaptureToGraph",
            "cuGraphInstantiateWithFlags",
            "cuFuncSetAttribute",
            "cuModuleGetFunction",
        ] {
            ensure(
                more(function) == 0,
                &format!("{function}: {} more in two steps", more(function)),
            )?;
        }
        // Labels, images in fp32 and as operands, the start of two phases, and the learning rates.
        ensure(
            more("cuMemcpyHtoDAsync_v2") == 2 * 6,
            &format!("{} uploads", more("cuMemcpyHtoDAsync_v2")),
        )?;
        // Waiting is for results alone.
        ensure(
            more("cuStreamSynchronize") == more("cuMemcpyDtoHAsync_v2"),
            &format!(
                "waited {} times for {} results",
                more("cuStreamSynchronize"),
                more("cuMemcpyDtoHAsync_v2")
            ),
        )?;
    }
    Ok(())
}

fn two_blocks_fit() -> Outcome {
    let folder = fresh("carveout")?;
    let few = [
        "--channels",
        "72,8,8,8",
        "--limit-train",
        "4",
        "--num-iterations-inference",
        "2",
        "--num-iterations-training",
        "2",
    ];
    // One multiprocessor, so that even a small network has tiles enough to be divided into large ones.
    let environment = [("EQPROP_DRIVER_MULTIPROCESSORS", "1")];
    let (output, log) = with_driver("carveout", &training(&folder, &few), &environment);
    ensure(output.status.success(), &text(&output))?;
    ensure(
        calls(&log, "cuFuncSetAttribute") > 0 && calls(&log, "lonely") == 0,
        &format!("launches without room for a second block, or no large kernel:\n{log}"),
    )
}

/// A launch fails while a phase is recorded; the recording's graph, the capture and all else are released.
fn failed_recording() -> Outcome {
    let folder = fresh("recording")?;
    let (output, log) = with_driver("recording-count", &training(&folder, &[]), &[]);
    ensure(output.status.success(), &text(&output))?;
    ensure(log.contains("leaked 0"), &log)?;
    let folder = fresh("recording")?;
    // The first capture begins after one iteration: the driver refuses what is launched from there on.
    let (output, log) = with_driver(
        "recording",
        &training(&folder, &[]),
        &[("EQPROP_DRIVER_FAILS", "cuLaunchKernel:capture:1")],
    );
    ensure(output.status.code() == Some(1), &text(&output))?;
    ensure(
        calls(&log, "cuStreamEndCapture") == 1
            && calls(&log, "cuGraphDestroy") == 1
            && log.contains("leaked 0"),
        &log,
    )
}

fn failed_opening() -> Outcome {
    for failure in ["cuModuleLoadData:1:209", "cuStreamCreate:1:2"] {
        let folder = fresh("opening")?;
        let environment = [("EQPROP_DRIVER_FAILS", failure)];
        let (output, log) = with_driver("opening", &training(&folder, &[]), &environment);
        ensure(output.status.code() == Some(1), &text(&output))?;
        ensure(log.contains("leaked 0"), &format!("{failure}:\n{log}"))?;
    }
    Ok(())
}

fn a_lost_gpu() -> Outcome {
    let folder = fresh("lost")?;
    let (output, log) = with_driver("lost-count", &training(&folder, &[]), &[]);
    ensure(output.status.success(), &text(&output))?;
    // In the last of three batches: what was saved after the first is written when the second went well.
    let late = format!("cuGraphLaunch:{}:719", calls(&log, "cuGraphLaunch") * 5 / 7);
    let folder = fresh("lost")?;
    let (output, _) = with_driver(
        "lost",
        &training(&folder, &[]),
        &[("EQPROP_DRIVER_FAILS", &late)],
    );
    let said = text(&output);
    ensure(output.status.code() == Some(1), &said)?;
    let error: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    ensure(
        error.len() == 1 && error[0].contains("resume from the last checkpoint"),
        &said,
    )?;
    ensure(
        !said.contains("panicked") && !said.contains("internal error"),
        &said,
    )?;
    let (output, _) = with_driver("resumed", &["train", "--resume", &folder, "--offline"], &[]);
    ensure(
        output.status.success() && text(&output).contains("going on after"),
        &text(&output),
    )
}

/// The error of a program that fails with status 1, and whose message has `part`.
fn fails_with(name: &str, environment: (&str, &str), part: &str) -> Outcome {
    let folder = fresh(name)?;
    let (output, _) = with_driver(name, &training(&folder, &[]), &[environment]);
    let said = text(&output);
    let error: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    ensure(
        output.status.code() == Some(1) && error.len() == 1 && error[0].contains(part),
        &said,
    )
}

fn out_of_memory() -> Outcome {
    fails_with(
        "memory",
        ("EQPROP_DRIVER_MEMORY", "100000"),
        "out of GPU memory",
    )
}

fn no_image() -> Outcome {
    fails_with(
        "image",
        ("EQPROP_DRIVER_FAILS", "cuModuleLoadData:1:209"),
        "has no kernels for this GPU",
    )
}

fn old_driver() -> Outcome {
    fails_with(
        "old",
        ("EQPROP_DRIVER_FAILS", "cuInit:1:803"),
        "driver is too old",
    )
}

/// Two processes that exchange by NCCL's stand-in, which checks each call: the same training as in one, a sum of gradients per step,
/// and nothing left behind.
fn two_gpus(name: &str, options: &[&str], most: f64) -> Outcome {
    // Batches of 5, 5 and 2 images: the ranks have different numbers of rows.
    let more = [options, &["--batch-size", "5", "--precision", "fp32"]].concat();
    let alone = fresh(&format!("{name}-alone"))?;
    let (output, _) = with_driver(&format!("{name}-alone"), &training(&alone, &more), &[]);
    ensure(output.status.success(), &text(&output))?;
    let folder = fresh(&format!("{name}-two"))?;
    let mut arguments = training(&folder, &more);
    arguments.extend(["--nodes", "1", "--gpus-per-node", "auto"]);
    let nccl_log = driver_folder().join(format!("{name}-two-nccl.log"));
    let environment = [
        ("EQPROP_DRIVER_DEVICES", "2"),
        ("EQPROP_NCCL_LOG", nccl_log.to_str().ok_or("a path")?),
    ];
    let (output, _) = with_driver(&format!("{name}-two"), &arguments, &environment);
    ensure(output.status.success(), &text(&output))?;
    same_end(&alone, &folder, most)?;
    let logs = [0, 1].map(|rank| {
        std::fs::read_to_string(format!("{}.{rank}", nccl_log.display())).unwrap_or_default()
    });
    let [first, second] = &logs;
    let said = format!("rank 0:\n{first}rank 1:\n{second}");
    for log in &logs {
        let counts = ["ncclCommInitRank", "ncclCommDestroy", "ncclAllReduce f32"];
        ensure(
            counts.map(|name| calls(log, name)) == [1, 1, 3] && log.contains("leaked 0"),
            &said,
        )?;
    }
    let together = [first, second].map(|log| calls(log, "ncclAllReduce f64"));
    ensure(
        together[0] == together[1]
            && calls(first, "ncclGetUniqueId") == 1
            && calls(second, "ncclSend f64") == calls(first, "ncclRecv f64"),
        &said,
    )
}

/// The parameters and statistics of two runs, apart by no more than sums of fp32 in another order make them.
fn same_end(one: &str, other: &str, most: f64) -> Outcome {
    let [one, other] = [one, other].map(|run| {
        let path = Path::new(run).join("last.safetensors");
        eqprop_cuda::run::Checkpoint::load(&path)
    });
    let (one, other) = (one?.model, other?.model);
    let tensors = |model: &eqprop_cuda::network::ModelState| {
        let statistics = model.statistics.iter();
        let all = model.parameters.tensors().iter().chain(statistics);
        all.flatten().copied().collect::<Vec<f64>>()
    };
    for (a, b) in tensors(&one).into_iter().zip(tensors(&other)) {
        ensure(
            (a - b).abs() < most,
            &format!("{a} in one run is {b} in the other"),
        )?;
    }
    Ok(())
}

/// Each process in a network of its own, as on two machines with a GPU each: they meet at the first one's address.
fn two_machines() -> Outcome {
    let hosts = TwoHosts::make().ok_or("two machines")?;
    let more = ["--batch-size", "5", "--precision", "fp32"];
    let alone = fresh("machines-alone")?;
    let (output, _) = with_driver("machines-alone", &training(&alone, &more), &[]);
    ensure(output.status.success(), &text(&output))?;
    let folder = fresh("machines-two")?;
    let ranks = [0, 1].map(|rank| {
        let mut command = hosts.on(rank, PROGRAM);
        command
            .current_dir(ROOT)
            .args(training(&folder, &more))
            .env("LD_LIBRARY_PATH", driver_folder())
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", "0")
            .env("WORLD_SIZE", "2")
            .env("MASTER_ADDR", TwoHosts::ADDRESSES[0])
            .env("MASTER_PORT", "29500")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command.spawn()
    });
    for rank in ranks {
        let output = rank?.wait_with_output()?;
        ensure(output.status.success(), &text(&output))?;
    }
    same_end(&alone, &folder, 1e-5)
}

/// The stand-in refuses a call that NCCL might take, and the run ends with an error. The second rank's third exchange is made wrongly.
fn wrong_calls() -> Outcome {
    for (what, says) in [
        ("communicator", "the communicator was not made, or is gone"),
        ("stream", "the stream is none of the driver's"),
        ("memory", "the values do not lie in device memory"),
        ("size", "but rank 0 calls ncclAllReduce of"),
        ("operation", "but rank 0 calls ncclAllReduce of"),
        ("order", "but rank 0 calls ncclAllReduce of"),
    ] {
        let name = format!("wrong-{what}");
        let folder = fresh(&name)?;
        let mut arguments = training(&folder, &["--precision", "fp32"]);
        arguments.extend(["--nodes", "1", "--gpus-per-node", "auto"]);
        let spoils = format!("1:3:{what}");
        let environment = [
            ("EQPROP_DRIVER_DEVICES", "2"),
            ("EQPROP_NCCL_SPOILS", &spoils),
        ];
        let (output, _) = with_driver(&name, &arguments, &environment);
        let said = text(&output);
        let refused = (said.lines())
            .any(|line| line.starts_with("nccl stand-in, rank 1, nccl") && line.contains(says));
        let ended = said.lines().any(|line| line.starts_with("error: rank "));
        ensure(
            !output.status.success() && refused && ended,
            &format!("{what}: {said}"),
        )?;
    }
    Ok(())
}
