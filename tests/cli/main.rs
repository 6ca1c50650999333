//! The program as a user runs it: a file a promise.

#[path = "../support/mod.rs"]
mod support;

mod backprop;
mod bad_input;
mod check_gradients;
mod images;
mod init_from;
mod manual;
mod networks;
mod output;
mod plot;
mod progress;
mod resume;
mod rules;
mod runs;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod sweep;
mod tensorboard;
mod torch_import;
mod train;
mod wandb;
