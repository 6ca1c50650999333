//! What runs kernels: a GPU through its driver, or the emulation of one.

pub mod abi;
pub mod device;
pub mod driver;
#[cfg(feature = "emulation")]
pub mod emulated;
pub mod error;
pub mod image;
pub mod kernels;
