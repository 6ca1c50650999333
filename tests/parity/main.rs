//! The numbers of the published implementation.

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod golden;
mod precision;
