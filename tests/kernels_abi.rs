//! The Rust side of the shared structs is the one that the kernels were compiled with.

use std::process::Command;

/// Sizes as the C++ compiler has them. Fields: `src/cuda/machine/abi.rs` asserts the offsets that bindgen found.
#[cfg(feature = "emulation")]
#[test]
fn structs_have_the_size_that_the_kernels_expect() {
    use eqprop_cuda::cuda::{abi::*, emulated::size_of_struct};
    macro_rules! check {
        ($($t:ident),* $(,)?) => { $(
            assert_eq!(size_of::<$t>(), size_of_struct(stringify!($t)), stringify!($t));
        )* };
    }
    check!(
        EqSource,
        EqTap,
        EqTarget,
        EqTile,
        EqPhase,
        EqChange,
        EqRelaxArgs,
        EqNudgeArgs,
        EqAdvanceArgs,
        EqPoolArgs,
        EqStateArgs,
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
}

/// Only where bindgen is installed: nobody needs it to build.
#[test]
fn the_checked_in_bindings_are_what_bindgen_makes_of_the_header() {
    let root = env!("CARGO_MANIFEST_DIR");
    let Ok(output) = Command::new(format!("{root}/kernels/generate_abi.sh")).output() else {
        return;
    };
    if !output.status.success() {
        eprintln!("bindgen is not installed: nothing was compared");
        return;
    }
    // Not the first line, which names bindgen's version; not the formatting.
    let essence = |text: &str| -> String {
        let lines = text.lines().filter(|line| !line.starts_with("/*"));
        lines
            .flat_map(|line| line.chars())
            .filter(|c| !c.is_whitespace() && *c != ',')
            .collect()
    };
    let checked_in = std::fs::read_to_string(format!("{root}/src/cuda/machine/abi.rs")).unwrap();
    let generated = String::from_utf8(output.stdout).unwrap();
    assert!(
        essence(&checked_in) == essence(&generated),
        "src/cuda/machine/abi.rs is not what kernels/generate_abi.sh makes of kernels/abi.h: run it again"
    );
}
