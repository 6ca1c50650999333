//! The Rust side of the shared structs, `src/cuda/machine/abi.rs`, is what the kernels were compiled with.
//!
//! Tests that cannot run where they are, for want of libclang or of the feature `emulation`, are counted as ignored.

use bindgen::Builder;
use libtest_mimic::{Arguments, Failed, Trial};
use std::panic::catch_unwind;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn main() {
    let arguments = Arguments::from_args();
    // bindgen looks for libclang when it is first needed, and panics without it.
    std::panic::set_hook(Box::new(|_| {}));
    let clang = catch_unwind(bindgen::clang_version).is_ok();
    let _ = std::panic::take_hook();
    if !clang {
        println!(
            "skipped: no libclang (Debian's libclang-dev, or PyPI's libclang with LIBCLANG_PATH set to its clang/native)"
        );
    }
    let emulation = cfg!(feature = "emulation");
    if !emulation {
        println!("skipped: sizes are those of the emulation's compiler (--features emulation)");
    }
    let trials = vec![
        Trial::test("the_checked_in_bindings_are_those_of_the_header", bindings)
            .with_ignored_flag(!clang),
        Trial::test("structs_have_the_size_that_the_kernels_expect", sizes)
            .with_ignored_flag(!emulation),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// What `kernels/generate_abi.sh` makes, but for its first line, which names bindgen's version, and the formatting.
fn bindings() -> Result<(), Failed> {
    let bindings = Builder::default()
        .header(format!("{ROOT}/kernels/abi.h"))
        .allowlist_file(".*abi.h")
        .derive_default(true)
        .clang_arg("-std=c11")
        .generate()?;
    let essence = |text: &str| -> String {
        let lines = text.lines().filter(|line| {
            !line.starts_with("/*") && !line.starts_with("//!") && !line.starts_with("#![")
        });
        let characters = lines.flat_map(|line| line.chars());
        characters
            .filter(|c| !c.is_whitespace() && *c != ',')
            .collect()
    };
    if essence(&checked_in()?) == essence(&bindings.to_string()) {
        return Ok(());
    }
    Err(
        "src/cuda/machine/abi.rs is not what kernels/generate_abi.sh makes of kernels/abi.h: run it again"
            .into(),
    )
}

fn checked_in() -> std::io::Result<String> {
    std::fs::read_to_string(format!("{ROOT}/src/cuda/machine/abi.rs"))
}

#[cfg(not(feature = "emulation"))]
fn sizes() -> Result<(), Failed> {
    Err("the emulation is not built".into())
}

/// Sizes as the C++ compiler has them, of every struct. Fields: `src/cuda/machine/abi.rs` asserts the offsets that bindgen found.
#[cfg(feature = "emulation")]
fn sizes() -> Result<(), Failed> {
    use eqprop_cuda::cuda::{abi::*, emulated::size_of_struct};
    let mut checked = Vec::new();
    macro_rules! check {
        ($($t:ident),* $(,)?) => { $(
            let (ours, kernels) = (size_of::<$t>(), size_of_struct(stringify!($t)));
            if ours != kernels {
                return Err(format!("{}: {ours} bytes, {kernels} in the kernels", stringify!($t)).into());
            }
            checked.push(stringify!($t));
        )* };
    }
    check!(
        EqSource,
        EqRun,
        EqTap,
        EqTarget,
        EqTile,
        EqPhase,
        EqChange,
        EqRelaxArgs,
        EqHopperTarget,
        EqHopperTap,
        EqHopperArgs,
        EqHopperGradEdge,
        EqHopperGradTap,
        EqHopperGradArgs,
        EqNudgeArgs,
        EqAdvanceArgs,
        EqLoopArgs,
        EqPoolArgs,
        EqStateArgs,
        EqMaskArgs,
        EqStatisticsArgs,
        EqEnergyLayer,
        EqOutcomeArgs,
        EqGradEdge,
        EqGradTile,
        EqGradArgs,
        EqBiasTile,
        EqBiasArgs,
        EqGatherBlock,
        EqGatherArgs,
        EqNormArgs,
        EqOptimizerArgs,
        EqPackArgs,
        EqBatchNorm,
        EqBatchNormArgs,
        EqLossArgs,
    );
    let text = checked_in()?;
    let structs = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub struct "));
    let mut structs: Vec<&str> = structs
        .map(|rest| rest.split([' ', ';', '(']).next().unwrap_or(rest))
        .collect();
    structs.sort_unstable();
    checked.sort_unstable();
    if structs == checked {
        return Ok(());
    }
    Err(
        format!("structs of the header: {structs:?}\nstructs that this test checks: {checked:?}")
            .into(),
    )
}
