//! Training of deep convolutional Hopfield networks with equilibrium propagation.
//!
//! Data flows one way through the modules:
//!
//! [`data`] (images and labels) -> [`network`] (layers, edges, parameters) -> [`phase`] and [`feedforward`] (what is asked of a backend)
//! -> [`cpu`] and [`cuda`] (the backends, made by [`device`]; several processes together: [`parallel`]) -> [`optim`] (what a gradient does
//! to a parameter) -> [`learn`] (a learning rule for a batch) -> [`config`] (what was asked for) -> [`run`] (epochs, metrics, checkpoints),
//! which [`track`] follows for TensorBoard and W&B. [`parity`] replays golden files against a backend, [`diagnose`] asks how good
//! relaxations and gradient estimates are, [`plot`] draws it, [`sweep`] makes many runs of one file, and [`cli`] is the command line over
//! all of it. `docs/maths.md` has the formulas. The programs of `examples/` are a course in five parts; this is the shortest way from a
//! network to a gradient:
//!
//! ```
//! use eqprop_cuda::cpu;
//! use eqprop_cuda::network::{ActivationKind, NetworkDescription, parameters::initialise};
//! use eqprop_cuda::phase::{Backend, CostFunction, Mode, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant};
//! use rand::SeedableRng;
//!
//! let text = r#"
//!     name = "small"
//!     layer = [{ name = "image", shape = [1, 6, 6] }, { name = "hidden", shape = [4, 3, 3] }, { name = "classes", shape = [2] }]
//!     edge = [
//!         { from = "image", to = "hidden", kind = "conv", kernel = 2, stride = 2, gain = 0.7 },
//!         { from = "hidden", to = "classes", kind = "dense", gain = 0.7 },
//!     ]"#;
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
//! let network = NetworkDescription::from_toml(text)?.build(ActivationKind::Relu6, &mut rng)?;
//!
//! let mut backend = cpu::backend::<f64>(&network);
//! backend.set_parameters(&initialise(&network, 1))?;
//! let images = ndarray::Array4::from_elem((3, 1, 6, 6), 0.5);
//! let order = Relaxation { mode: Mode::Coloured, omega: 1.4, iterations: 30, tolerance: None };
//! let nudging = Nudging {
//!     beta: 0.1,
//!     variant: Variant::Centered,
//!     form: NudgedPhase::SumDifference,
//!     output: OutputCondition::Nudged,
//! };
//! backend.load_batch(&images, &[0, 1, 0], Start::Zero)?;
//! backend.free_phase(&order)?;
//! backend.nudged_phases(&nudging, CostFunction::Mse, &order)?;
//! backend.estimate_gradient()?;
//! assert!(backend.gradient_norm()? > 0.0);
//! # Ok::<(), eqprop_cuda::Error>(())
//! ```
//!
//! # Errors
//!
//! Everything here fails with an [`Error`], by what a caller can do about it; [`data::DataError`], [`network::NetworkError`],
//! [`cuda::CudaError`] and [`config::UsageError`] (a value that a user gave) travel inside of it.

#![warn(missing_docs)]
// What must be said while work goes on is logged; `cli` prints it.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod choice;
pub mod cli;
pub mod config;
pub mod cpu;
pub mod cuda;
pub mod data;
pub mod device;
pub mod diagnose;
pub mod error;
pub mod feedforward;
pub mod learn;
pub mod network;
pub mod optim;
pub mod parallel;
pub mod parity;
pub mod phase;
mod pickle;
pub mod plot;
pub mod run;
mod shown;
pub mod sweep;
pub mod torch;
pub mod track;
mod usage;

pub use error::{Error, Result};
