#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! Files know each other one way, from the top of this list to its end (`ci/imports.py`):
//!
//! - `text`: lexemes and statements of PTX. `number`: arithmetic as the chip's. `finding`: what can be wrong. `options`: what is asked for.
//! - `program`: statements become instructions, whose operands are rows of a warp's register file; `program/flow.rs` says where lanes that
//!   branch apart meet again (the immediate post-dominator).
//! - `memory`: device and shared memory; `memory/shadow.rs` knows who wrote and read each piece last, `memory/order.rs` the same where
//!   warps are ordered by more than barriers of all.
//! - `report`: counts. `machine`: a launch's blocks, warps, and what runs beside them.
//! - `execute`: runs a warp's instructions on all its lanes. `launch`: gives blocks to workers and turns to warps.

mod execute;
mod finding;
mod launch;
mod machine;
mod memory;
mod number;
mod options;
mod program;
mod report;
mod text;

pub use finding::{AsyncProblem, Conflict, Finding, Problem, Space, Wait};
pub use memory::tensor_map::{Swizzle, TensorMap, TensorMapError};
pub use memory::{Memory, OutsideMemory};
pub use number::matrix::Sums;
pub use options::{Dim, Options};
pub use program::Kernel;
pub use report::{Executed, Report, Traffic};
pub use text::{Location, ParseError, SourceLine};

use std::collections::BTreeMap;

/// Kernels of one PTX text.
#[derive(Debug)]
pub struct Module {
    kernels: BTreeMap<String, Result<Kernel, ParseError>>,
    locations: Vec<Location>,
}

/// A kernel cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    #[error("the module has no kernel {0}")]
    Missing(String),
    #[error("kernel {name} cannot be run: {error}")]
    Undecodable { name: String, error: ParseError },
}

impl Module {
    /// Reads PTX, for instance what `nvcc --ptx -lineinfo` writes.
    ///
    /// # Errors
    /// When the text is not PTX. An instruction that this crate does not know is reported when its kernel is asked for.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let source = text::parse(text)?;
        let decode = |entry| program::decode(entry, &source.variables);
        let kernels = source
            .entries
            .iter()
            .map(|e| (e.name.to_string(), decode(e)))
            .collect();
        Ok(Self {
            kernels,
            locations: source.locations.clone(),
        })
    }

    /// Names of all kernels, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kernels.keys().map(String::as_str)
    }

    /// # Errors
    /// When there is no such kernel, or it has an instruction that is not known, whose line is named.
    pub fn kernel(&self, name: &str) -> Result<&Kernel, KernelError> {
        match self.kernels.get(name) {
            Some(Ok(kernel)) => Ok(kernel),
            Some(Err(error)) => Err(KernelError::Undecodable {
                name: name.to_string(),
                error: error.clone(),
            }),
            None => Err(KernelError::Missing(name.to_string())),
        }
    }

    /// Runs a kernel of this module and waits for it. `shared_bytes` is the dynamic shared memory of a block,
    /// `parameters` are the bytes of all parameters as they lie in the parameter space.
    ///
    /// # Errors
    /// The first thing that was found wrong; blocks that had begun are left unfinished.
    #[allow(clippy::too_many_arguments)]
    pub fn launch(
        &self,
        kernel: &Kernel,
        grid: Dim,
        block: Dim,
        shared_bytes: usize,
        parameters: &[u8],
        memory: &Memory,
        options: &Options,
    ) -> Result<Report, Box<Finding>> {
        launch::launch(
            kernel,
            &self.locations,
            grid,
            block,
            shared_bytes,
            parameters,
            memory,
            options,
        )
    }
}
