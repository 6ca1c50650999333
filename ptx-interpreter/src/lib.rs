//! Runs compiled CUDA kernels (PTX) on a CPU, and finds their memory errors and races.
//!
//! ```
//! use ptx_interpreter::{Memory, Module, Options};
//!
//! let text = "
//!     .version 9.0
//!     .target sm_80
//!     .address_size 64
//!     .visible .entry twice(.param .u64 data) {
//!         .reg .b32 %r<3>;
//!         .reg .b64 %rd<4>;
//!         ld.param.u64 %rd1, [data];
//!         mov.u32 %r1, %tid.x;
//!         mul.wide.u32 %rd2, %r1, 4;
//!         add.s64 %rd3, %rd1, %rd2;
//!         ld.global.u32 %r2, [%rd3];
//!         shl.b32 %r2, %r2, 1;
//!         st.global.u32 [%rd3], %r2;
//!         ret;
//!     }";
//! let module = Module::parse(text).unwrap();
//! let mut memory = Memory::new();
//! let data = memory.allocate(4 * 32);
//! memory.write(data, &[1; 4 * 32]).unwrap();
//! let kernel = module.kernel("twice").unwrap();
//! let report = module
//!     .launch(kernel, 1.into(), 32.into(), 0, &data.to_le_bytes(), &memory, &Options::default())
//!     .unwrap();
//! assert_eq!(report.count("shl").threads, 32);
//! let mut first = [0; 4];
//! memory.read(data, &mut first).unwrap();
//! assert_eq!(first, [2; 4]);
//! // One thread too many: the finding says where.
//! let error = module
//!     .launch(kernel, 1.into(), 33.into(), 0, &data.to_le_bytes(), &memory, &Options::default())
//!     .unwrap_err();
//! assert_eq!((error.line, error.thread), (12, Some(32)));
//! ```
//!
//! A warp's 32 lanes are executed together; lanes that branch apart meet again at the immediate post-dominator. Shadow
//! memory knows who wrote and read each byte last (see [`Problem`] for what is found). What is not modelled: time, caches,
//! and the order of memory between blocks while a launch runs, because blocks that depend on it race and are reported.
//!
//! Arithmetic is IEEE's with the rounding that the opcode names; approximate instructions (`ex2.approx`, `lg2.approx`,
//! `rsqrt.approx` ..) give the correctly rounded result, from which a chip's differs by its last digits.

mod access;
mod decode;
mod finding;
mod float;
mod flow;
mod instruction;
mod lane;
mod launch;
mod lex;
mod matrix;
mod memory;
mod parse;
mod report;
mod shadow;
mod shared;
mod warp;

pub use decode::Kernel;
pub use finding::{Conflict, Finding, Problem, Space, Wait};
pub use launch::{Dim, Options, Traffic};
pub use matrix::Sums;
pub use memory::{Memory, OutsideMemory};
pub use parse::{Location, ParseError, SourceLine};
pub use report::{Executed, Report};

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
