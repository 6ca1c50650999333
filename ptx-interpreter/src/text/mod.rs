//! PTX as text: lexemes, and statements still by name.

mod lex;
mod parse;

pub use parse::*;
