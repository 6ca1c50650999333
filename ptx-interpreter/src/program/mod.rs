//! A kernel as instructions: names become rows of the register file, opcodes become operations.

mod decode;
mod flow;
mod hopper;
mod instruction;
mod kernel;
mod operand;
mod registers;

pub use decode::decode;
pub use hopper::Hopper;
pub use instruction::*;
pub use kernel::*;
pub use operand::*;
