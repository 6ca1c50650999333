//! What a machine can do beyond what every machine can: a kernel rung is chosen by it, in [`super::kernels::Relax::choose`]. And what the
//! environment forbids or asks for.

use super::error::CudaError;

/// Asks for kernels that no GPU has run yet.
const HOPPER: &str = "EQPROP_HOPPER";
/// Forbids clusters of blocks.
const CLUSTERS: &str = "EQPROP_CLUSTERS";
/// Forbids loops of graphs.
const WHILE: &str = "EQPROP_WHILE";

/// What a machine can do, and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Products of warpgroups and copies by tensor map (compute capability 9.0), and the kernels that use them.
    pub hopper: bool,
    /// Blocks that run in pairs and fetch for one another what both need; of those kernels that have such a form.
    pub clusters: bool,
}

/// Whether the user asks for the kernels for Hopper, which are off otherwise: no GPU has run them.
///
/// # Errors
/// When EQPROP_HOPPER is neither `on` nor `off`.
pub fn hopper_wanted() -> Result<bool, CudaError> {
    let meaning = "`on` asks for the kernels for Hopper, which no GPU has run yet";
    Ok(switch(HOPPER, meaning)?.unwrap_or(false))
}

/// Whether kernels for Hopper may run in clusters, as they do unless the user forbids it.
///
/// # Errors
/// When EQPROP_CLUSTERS is neither `on` nor `off`.
pub fn clusters_wanted() -> Result<bool, CudaError> {
    let meaning =
        "`off` lets each block of the kernels for Hopper fetch all that it needs on its own";
    Ok(switch(CLUSTERS, meaning)?.unwrap_or(true))
}

/// Whether phases with a tolerance may end by a loop inside a graph, as they do unless the user forbids it.
///
/// # Errors
/// When EQPROP_WHILE is neither `on` nor `off`.
pub fn loops_wanted() -> Result<bool, CudaError> {
    let meaning = "`off` lets the host ask whether a phase has ended, instead of a loop inside the GPU's graph";
    Ok(switch(WHILE, meaning)?.unwrap_or(true))
}

/// What a variable is set to, if to anything.
fn switch(variable: &str, meaning: &str) -> Result<Option<bool>, CudaError> {
    match std::env::var(variable).as_deref() {
        Ok("on") => Ok(Some(true)),
        Ok("off") => Ok(Some(false)),
        Ok("") | Err(_) => Ok(None),
        Ok(other) => Err(CudaError::Setting(format!(
            "{variable}={other}: on or off was expected; {meaning}"
        ))),
    }
}
