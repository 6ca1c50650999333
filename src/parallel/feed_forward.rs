//! A feed-forward backend that trains on its rows of each batch, as [`DataParallel`](super::DataParallel) is one that relaxes.
//!
//! Batch normalisation joins the examples of a batch, so its statistics, and the sums of its backward pass, are averaged over the ranks,
//! each weighed by its rows. The gradient of the mean loss over a rank's rows then adds up like an estimate that relaxed: the sum over the
//! ranks of `own rows / all rows` times each one's.

use super::ranks::{Ranks, blank_image};
use crate::error::Result;
use crate::feedforward::{Backend, NormMode, SharedBatch};
use crate::network::{ModelState, Network, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{BatchOutcome, GradientMemory};
use ndarray::{Array2, Array4};
use std::cell::Cell;
use std::rc::Rc;

/// See the head of this file.
pub struct DataParallelFeedForward {
    inner: Box<dyn Backend>,
    batch: Rc<Part>,
    network: Network,
}

/// This rank's part of a batch.
struct Part {
    ranks: Rc<dyn Ranks>,
    /// rows of this rank, of all
    rows: Cell<(usize, usize)>,
}

impl Part {
    fn share(&self) -> f64 {
        let (own, all) = self.rows.get();
        own as f64 / all as f64
    }
}

impl SharedBatch for Part {
    fn images(&self) -> usize {
        self.rows.get().1
    }

    fn average(&self, values: &mut [f64]) -> Result<()> {
        let share = self.share();
        values.iter_mut().for_each(|value| *value *= share);
        self.ranks.sum(values)
    }
}

impl DataParallelFeedForward {
    /// Rank `ranks.shard()`'s part of the training of `network` by `inner`.
    pub fn new(mut inner: Box<dyn Backend>, network: &Network, ranks: Rc<dyn Ranks>) -> Self {
        let batch = Rc::new(Part {
            ranks,
            rows: Cell::new((0, 0)),
        });
        inner.share(batch.clone());
        Self {
            inner,
            batch,
            network: network.clone(),
        }
    }
}

impl Backend for DataParallelFeedForward {
    fn describe(&self) -> String {
        format!("{}, {}", self.inner.describe(), self.batch.ranks.shard())
    }

    fn state(&self) -> Result<ModelState> {
        self.inner.state()
    }

    fn set_state(&mut self, state: &ModelState) -> Result<()> {
        self.inner.set_state(state)
    }

    fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()> {
        self.inner.set_optimizer(config)
    }

    fn optimizer_state(&self) -> Result<OptimizerState> {
        self.inner.optimizer_state()
    }

    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()> {
        self.inner.set_optimizer_state(state)
    }

    fn share(&mut self, batch: Rc<dyn SharedBatch>) {
        self.inner.share(batch);
    }

    fn forward(
        &mut self,
        images: &Array4<f32>,
        labels: &[usize],
        mode: NormMode,
    ) -> Result<BatchOutcome> {
        if mode == NormMode::Train {
            let all = self.batch.ranks.rows_of_all(labels.len())?;
            self.batch.rows.set((labels.len(), all));
        }
        if labels.is_empty() {
            (self.inner).forward(&blank_image(&self.network), &[0], mode)?;
            return Ok(BatchOutcome::default());
        }
        self.inner.forward(images, labels, mode)
    }

    /// Of this rank's rows.
    fn logits(&self) -> Result<Array2<f64>> {
        self.inner.logits()
    }

    fn backward(&mut self) -> Result<()> {
        self.inner.backward()?;
        let Part { ranks, .. } = &*self.batch;
        (self.inner).reduce_gradient(self.batch.share(), &mut |memory| ranks.sum_gradient(memory))
    }

    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        self.inner.reduce_gradient(share, sum)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        self.inner.gradient_norm()
    }

    fn gradient(&self) -> Result<ParameterSet<f64>> {
        self.inner.gradient()
    }

    fn step(&mut self, learning_rates: &[f64]) -> Result<()> {
        self.inner.step(learning_rates)
    }
}
