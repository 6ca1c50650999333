//! What a machine can do beyond what every machine can: a kernel rung is chosen by it, in [`super::kernels::Relax::choose`].

use super::error::CudaError;

/// Asks for kernels that no GPU has run yet.
const VARIABLE: &str = "EQPROP_HOPPER";

/// What a machine can do, and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Products of warpgroups and copies by tensor map (compute capability 9.0), and the kernels that use them.
    pub hopper: bool,
}

/// Whether the user asks for the kernels for Hopper, which are off otherwise: no GPU has run them.
///
/// # Errors
/// When EQPROP_HOPPER is neither `on` nor `off`.
pub fn hopper_wanted() -> Result<bool, CudaError> {
    match std::env::var(VARIABLE).as_deref() {
        Ok("on") => Ok(true),
        Ok("off" | "") | Err(_) => Ok(false),
        Ok(other) => Err(CudaError::Setting(format!(
            "{VARIABLE}={other}: on or off was expected; `on` asks for the kernels for Hopper, which no GPU has run yet"
        ))),
    }
}
