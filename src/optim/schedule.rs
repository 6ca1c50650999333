//! The learning rate over the epochs.

use crate::choice::{Choice, choices};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Learning rate at the end of an annealing.
pub const ETA_MIN: f64 = 2e-6;
/// What the exponential schedule multiplies a learning rate by in each epoch, as the field's framework does.
pub const DECAY: f64 = 0.99;
/// Epochs between warm restarts, where nobody says otherwise.
pub const RESTART_PERIOD: usize = 5;

choices! {
/// How the learning rates change from epoch to epoch, as a user names it.
pub enum ScheduleKind {
    /// cosine annealing over all epochs
    Cosine = "cosine",
    /// the same in every epoch
    Constant = "constant",
    /// times 0.99 in each epoch
    Exponential = "exponential",
}
}

impl Default for ScheduleKind {
    fn default() -> Self {
        Self::CHOICES[0].0
    }
}

/// A schedule, stepped once per epoch. Closed forms of the PyTorch classes named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// the same in every epoch
    Constant,
    /// `CosineAnnealingLR(T_max = epochs, eta_min = 2e-6)`
    Cosine {
        /// to the smallest rate
        epochs: usize,
    },
    /// `CosineAnnealingWarmRestarts(T_0 = period, T_mult = 1, eta_min = 2e-6)`
    WarmRestarts {
        /// epochs from one restart to the next
        period: usize,
    },
    /// `ExponentialLR(gamma = 0.99)`
    Exponential,
}

impl Schedule {
    /// Learning rate during epoch `epoch` (from 0) of a parameter whose initial one is `initial`:
    /// `eta_min + (initial - eta_min) (1 + cos(pi t / T)) / 2`, with the published program's `eta_min`.
    ///
    /// ```
    /// use eqprop_cuda::optim::Schedule;
    /// let schedule = Schedule::Cosine { epochs: 100 };
    /// assert_eq!(schedule.rate(0.1, 0), 0.1);
    /// assert!((schedule.rate(0.1, 50) - 0.05).abs() < 1e-5);
    /// ```
    pub fn rate(self, initial: f64, epoch: usize) -> f64 {
        self.rate_between(initial, ETA_MIN, epoch)
    }

    /// The same with another learning rate at the end of an annealing; the other schedules know no end.
    pub fn rate_between(self, initial: f64, eta_min: f64, epoch: usize) -> f64 {
        let (t, period) = match self {
            Self::Constant => return initial,
            Self::Exponential => return initial * DECAY.powf(epoch as f64),
            Self::Cosine { epochs } => (epoch, epochs),
            Self::WarmRestarts { period } => (epoch % period, period),
        };
        let phase = PI * t as f64 / period as f64;
        eta_min + (initial - eta_min) * (1.0 + phase.cos()) / 2.0
    }
}
