//! Memory for the states that truncated backpropagation passes through, and for what its gradient is a product of.

use super::pool::PoolUp;
use crate::cuda::machine::device::Buffer;
use crate::cuda::tables::gradient::GradientPlan;
use crate::error::Result;
use crate::network::Mode;

/// The states of a batch after 0, 1, 2, .. iterations from the free state on: its *moments*.
pub struct Trajectory {
    pub mode: Mode,
    /// iterations that there is room for
    pub room: usize,
    /// those that were run, in order: over-relaxation of each
    pub omegas: Vec<f64>,
    /// by layer its state at each moment, in the operand format
    pub states: Vec<Buffer<u8>>,
    /// by edge the maxima of its max pooling at each moment; nothing for other edges
    pub maxima: Vec<Option<Buffer<u8>>>,
    /// by edge what finds them; nothing for edges from the input, whose maxima do not move, and where means are pooled
    pub find_maxima: Vec<(usize, PoolUp)>,
    /// by layer what a gradient is a product of: three components, the states before and after an iteration, then `k` of `truncated.rs`
    pub operands: Vec<Buffer<u8>>,
    /// the output's last state, for the host
    pub output: Buffer<u8>,
    pub gradient: GradientPlan,
}

impl Trajectory {
    /// Elements of one moment in a buffer of all.
    fn one(&self, of_all: &Buffer<u8>) -> usize {
        of_all.len() / (self.room + 1)
    }

    /// Where layer `l`'s state after `t` iterations begins.
    pub fn state_at(&self, l: usize, t: usize) -> usize {
        t * self.one(&self.states[l])
    }

    /// Bytes of a state of layer `l`.
    pub fn state_bytes(&self, l: usize) -> usize {
        self.one(&self.states[l])
    }

    /// The maxima of max-pool edge `e` at each moment, and where those after `t` iterations begin.
    pub fn maxima_at(&self, e: usize, t: usize) -> (&Buffer<u8>, usize) {
        let maxima = self.maxima[e].as_ref().expect("a max-pool edge has maxima");
        (maxima, t * self.one(maxima))
    }

    /// Copies layer `l`'s state after the last iteration.
    pub fn copy_end(&self, l: usize, to: &Buffer<u8>) -> Result<()> {
        let at = self.state_at(l, self.omegas.len());
        to.copy_from(0, &self.states[l], at, self.state_bytes(l))
    }
}
