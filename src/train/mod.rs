//! The training loop: epochs, metrics, checkpoints and resuming.
