//! Training of deep convolutional Hopfield networks with equilibrium propagation.
//!
//! Data flows one way through the modules:
//!
//! [`data`] (images and labels) -> [`network`] (layers, edges, parameters) -> [`phase`] (what a phase is, and what a backend
//! does) -> [`cpu`] and [`cuda`] (the backends that relax phases and estimate gradients, made by [`device`]) ->
//! [`optim`] (what a gradient does to a parameter) -> [`run`] (epochs, metrics, checkpoints), which [`track`] follows for
//! TensorBoard and W&B. [`parity`] replays golden
//! files against a backend, [`diagnose`] asks how good relaxations and gradient estimates are, [`plot`] draws it, and [`cli`] is
//! the command line over all of it. `docs/maths.md` has the formulas.

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
pub mod torch;
pub mod track;
mod usage;
