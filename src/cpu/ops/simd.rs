//! Loops compiled for the widest vectors of the processor that runs them.

/// Runs `body` compiled for the widest vectors that this processor has. `body` must be `#[inline(always)]`. Rust never
/// fuses a product and a sum by itself, so the results do not depend on the processor.
pub fn vectorised<F: pulp::WithSimd>(body: F) -> F::Output {
    static ARCH: std::sync::OnceLock<pulp::Arch> = std::sync::OnceLock::new();
    ARCH.get_or_init(pulp::Arch::new).dispatch(body)
}
