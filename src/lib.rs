//! Training of deep convolutional Hopfield networks with equilibrium propagation.
//!
//! Data flows one way through the modules:
//!
//! [`data`] (images and labels) -> [`network`] (layers, edges, parameters) -> [`phase`] and [`feedforward`] (what is asked of a backend)
//! -> [`cpu`] and [`cuda`] (the backends, made by [`device`]; several processes together: [`parallel`]) -> [`optim`] (what a gradient does
//! to a parameter) -> [`learn`] (a learning rule for a batch) -> [`config`] (what was asked for) -> [`run`] (epochs, metrics, checkpoints),
//! which [`track`] follows for TensorBoard and W&B. [`parity`] replays golden files against a backend, [`diagnose`] asks how good relaxations
//! and gradient estimates are, [`plot`] draws it, [`sweep`] makes many runs of one file, and [`cli`] is the command line over all of
//! it. `docs/maths.md` has the formulas.

#![warn(missing_docs)]

pub mod choice;
pub mod cli;
pub mod config;
pub mod cpu;
pub mod cuda;
pub mod data;
pub mod device;
pub mod diagnose;
pub mod feedforward;
pub mod learn;
pub mod network;
pub mod optim;
pub mod output;
pub mod parallel;
pub mod parity;
pub mod phase;
pub mod plot;
pub mod run;
mod shown;
pub mod sweep;
pub mod torch;
pub mod track;
mod usage;
