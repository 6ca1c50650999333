//! Training of deep convolutional Hopfield networks with equilibrium propagation.
//!
//! Data flows one way through the modules:
//!
//! [`data`] (images and labels) -> [`network`] (layers, edges, parameters) -> [`ep`] (what a phase is, and what a backend
//! does) -> [`mod@reference`] and [`cuda`] (the backends that relax phases and estimate gradients, made by [`device`]) ->
//! [`optim`] (what a gradient does to a parameter) -> [`train`] (epochs, metrics, checkpoints), which [`track`] follows for
//! TensorBoard and W&B. [`parity`] replays golden
//! files against a backend, [`diagnose`] asks how good relaxations and gradient estimates are, [`plot`] draws it, and [`cli`] is
//! the command line over all of it. `docs/maths.md` has the formulas.

pub mod backprop;
pub mod cli;
pub mod cuda;
pub mod data;
pub mod device;
pub mod diagnose;
pub mod ep;
pub mod network;
pub mod optim;
pub mod parity;
pub mod plot;
pub mod reference;
pub mod torch;
pub mod track;
pub mod train;
