//! What runs kernels: a GPU through its driver, the emulation of one, or the interpreter of the compiled kernels.

pub mod abi;
pub mod capabilities;
pub mod device;
pub mod driver;
#[cfg(feature = "emulation")]
pub mod emulated;
pub mod error;
mod graph;
mod handles;
pub mod image;
#[cfg(feature = "interpreter")]
pub mod interpreted;
pub mod kernels;
#[cfg(any(feature = "emulation", feature = "interpreter"))]
mod played;
pub mod tensor_map;
