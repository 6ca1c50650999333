#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! `lex`, `parse` and `decode` make instructions of a text, whose operands are rows of a warp's register file; `flow` says where lanes
//! that branch apart meet again (the immediate post-dominator). `launch` gives blocks to workers and turns to warps, `execute` runs a
//! warp's instructions on all its lanes, `access` what touches memory. `shadow` knows who wrote and read each piece of it last.

mod access;
mod block;
mod decode;
mod execute;
mod finding;
mod float;
mod flow;
mod hopper;
mod instruction;
mod lane;
mod launch;
mod lex;
mod matrix;
mod memory;
mod options;
mod parse;
mod registers;
mod report;
mod shadow;
mod shared;
mod warp;

pub use decode::Kernel;
pub use finding::{Conflict, Finding, Problem, Space, Wait};
pub use hopper::AsyncProblem;
pub use hopper::tensor_map::{Swizzle, TensorMap, TensorMapError};
pub use matrix::Sums;
pub use memory::{Memory, OutsideMemory};
pub use options::{Dim, Options};
pub use parse::{Location, ParseError, SourceLine};
pub use report::{Executed, Report, Traffic};

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
        let source = parse::parse(text)?;
        let decode = |entry| decode::decode(entry, &source.variables);
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
