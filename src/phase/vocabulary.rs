//! What a phase is asked to be: how long and in which order it relaxes, and what nudges its output.

use crate::choice::choices;
use crate::error::{Error, Result};
use crate::network::{Mode, Network};

choices! {
/// Which two phases the gradient estimate is taken between.
pub enum Variant {
    /// -beta and +beta: the bias is second order in beta
    Centered = "centered",
    /// 0 and +beta
    Positive = "positive",
    /// -beta and 0
    Negative = "negative",
}
}

choices! {
/// How the two nudged phases are represented while they relax.
pub enum NudgedPhase {
    /// the two states themselves, as published
    Direct = "direct",
    /// their mean (from the free state) and half their difference, which loses nothing to cancellation
    SumDifference = "sum-difference",
    /// their limit for a vanishing beta, at half the cost: recurrent backpropagation
    // Almeida 1987, Pineda 1987: `d <- mask (sum Op(d) - dC/ds_L)`, where the mask keeps the units whose pre-activation lies strictly
    // inside their bounds at the free state. Neither `beta` nor a variant matters.
    Linear = "linear",
}
}

/// What the cost does to the output while a phase relaxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputCondition {
    /// it is free, and its pre-activation loses `beta dC/ds_L`
    Nudged,
    /// it is held at `s_L - beta dC/ds_L` of the free state
    Clamped,
}

/// How long and in which order a phase relaxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relaxation {
    /// which layers are updated together, and when
    pub mode: Mode,
    /// upper bound on the iterations; each updates every free layer once
    pub iterations: usize,
    /// over-relaxation, in (0, 2); 1 is the plain update
    pub omega: f64,
    /// the phase ends when the relative L2 change of the states in one iteration falls below this
    pub tolerance: Option<f64>,
}

/// Iterations that the safeguard against growth leaves alone at the beginning of a phase, while the signal is still on its way
/// through the layers, and after each of its steps, until its effect shows.
pub const SETTLING_ITERATIONS: u32 = 3;

/// Over-relaxation that does not suit the network shows as a change that grows: it has grown when it exceeds this many times the
/// smallest one so far, and is not falling. Then omega falls half-way to 1.
pub const SAFEGUARD_GROWTH: f64 = 1.5;

/// An omega this close to 1 is 1.
pub const SAFEGUARD_NEGLIGIBLE: f64 = 0.05;

impl Relaxation {
    /// Iterations before the safeguard against growth looks for the first time, with a nudging of this
    /// [stiffness](Nudging::stiffness): all of them where it could only do harm.
    ///
    /// Fixed points are minima of `F = E + |s|^2 / 2` within the clips. Where no two layers of a group share an edge, `F` is
    /// `s^2 / 2 - p s` in each unit of the group (through max pooling a bound from above that touches it at the present state, as long as
    /// what is pooled for is not negative), and moving `s` towards `p` by at most `omega (p - s)` lowers it by at least
    /// `1 / omega - 1 / 2` times the square of the move. A change that grows is then no divergence, but a state on its way past a
    /// saddle to a lower place, and a smaller omega would only keep it there. Nudging by `beta` makes the curvature of the output
    /// `1 + beta`, at most.
    pub fn patience(&self, network: &Network, stiffness: f64) -> u32 {
        let descends =
            self.omega * (1.0 + stiffness) < 2.0 && network.joined_in(self.mode).is_none();
        match descends {
            true => u32::MAX,
            false => SETTLING_ITERATIONS,
        }
    }
}

/// What the nudged phases are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nudging {
    /// strength; positive in any variant
    pub beta: f64,
    /// the signs of the two phases
    pub variant: Variant,
    /// how they are relaxed
    pub form: NudgedPhase,
    /// whether the cost pulls at the output, or the output is clamped
    pub output: OutputCondition,
}

impl Nudging {
    /// [`Self::strengths`] of phases that differ.
    ///
    /// # Errors
    /// When both would be nudged alike.
    pub fn pair(&self) -> Result<(f64, f64)> {
        let (first, second) = self.strengths();
        if first == second {
            return Err(Error::NoNudging);
        }
        Ok((first, second))
    }

    /// What it adds to the curvature of the energy in the output, at most, in either phase.
    pub fn stiffness(&self) -> f64 {
        let (first, second) = self.strengths();
        match self.output {
            OutputCondition::Nudged => first.max(second).max(0.0),
            OutputCondition::Clamped => 0.0,
        }
    }

    /// Nudging of the first and of the second phase.
    pub fn strengths(&self) -> (f64, f64) {
        match self.variant {
            Variant::Centered => (-self.beta, self.beta),
            Variant::Positive => (0.0, self.beta),
            Variant::Negative => (-self.beta, 0.0),
        }
    }
}
