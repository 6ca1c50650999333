//! Relaxation and gradients on the CPU, and the steps that are made of them.

#[path = "../support/mod.rs"]
mod support;

mod data_parallel;
mod energy;
mod memory;
mod naive;
mod phases;
mod probe;
mod rules;
mod schedule;
mod true_gradient;
mod updates;
