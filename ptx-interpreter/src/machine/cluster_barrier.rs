//! The barrier of a cluster (`barrier.cluster`): warps arrive, and may do other things before they wait.

use crate::finding::AsyncProblem;
use crate::memory::{Clock, Order};

/// What arriving warps know is handed to those who wait.
#[derive(Default)]
pub struct ClusterBarrier {
    /// By warp: how often it has arrived and waited.
    arrived: Vec<u32>,
    waited: Vec<u32>,
    /// How many phases are complete.
    phase: u32,
    gathering: [Clock; 2],
    published: [Clock; 2],
}

impl ClusterBarrier {
    pub fn new(warps: usize) -> Self {
        Self {
            arrived: vec![0; warps],
            waited: vec![0; warps],
            ..Self::default()
        }
    }

    pub fn arrive(&mut self, warp: usize, order: &mut Order) -> Result<(), AsyncProblem> {
        if self.arrived[warp] != self.waited[warp] {
            let what = "a warp arrives at the cluster's barrier twice and has not waited between";
            return Err(AsyncProblem::ClusterBarrier(what));
        }
        self.arrived[warp] += 1;
        for (gathering, known) in self.gathering.iter_mut().zip(order.knowledge(warp)) {
            gathering.join(known);
        }
        order.step(warp);
        Ok(())
    }

    /// Whether the warp may go on.
    pub fn wait(&mut self, warp: usize, order: &mut Order) -> Result<bool, AsyncProblem> {
        if self.arrived[warp] == self.waited[warp] {
            let what = "a warp waits at the cluster's barrier and has not arrived";
            return Err(AsyncProblem::ClusterBarrier(what));
        }
        let complete = self.holds(warp);
        if complete {
            self.waited[warp] = self.arrived[warp];
            order.learn(warp, &self.published);
        }
        Ok(complete)
    }

    pub fn holds(&self, warp: usize) -> bool {
        self.phase >= self.arrived[warp]
    }

    /// The phase is complete when all warps that have not ended have arrived.
    pub fn open(&mut self, mut running: impl Iterator<Item = usize>) {
        let some = self.arrived.iter().any(|&arrived| arrived > self.phase);
        if some && running.all(|warp| self.arrived[warp] > self.phase) {
            self.phase += 1;
            self.published = std::mem::take(&mut self.gathering);
        }
    }
}
