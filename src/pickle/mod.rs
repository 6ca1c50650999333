//! A pickle reader that makes tensors, arrays, lists, dictionaries and plain values, and calls nothing.
//!
//! Pickle is a program for a stack machine ([`machine`]). What Python would import and call stays a name here, but for the few functions
//! of torch and numpy that make a tensor or an array of its bytes ([`calls`]): a file cannot make this reader do anything. One that asks for
//! another call is refused; an object of a class is a bag of its attributes. Nor can a file make this reader take memory or stack
//! out of proportion to its size: texts and bytes stay where they are in the file, and what contains other values lies in one flat list
//! of [`Node`]s that refer to each other by number, so that nothing is ever copied, followed or dropped by recursion.

mod calls;
mod machine;
mod value;

pub use machine::read;
pub use value::{Node, Pickle, Tensor, Value};
