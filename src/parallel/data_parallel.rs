//! A backend that trains on its rows of each batch, and whose gradient is that of the whole batch.
//!
//! A rank relaxes its rows alone: in the energy examples do not touch each other. Its gradient estimate is the mean over its rows, so
//! the sum over the ranks of `own rows / all rows` times each one's estimate is the mean over the batch. That sum is taken between the
//! estimate and its norm; then every rank clips and steps alike. Each rank decides on its own when a phase ends by tolerance.

use super::ranks::{Ranks, blank_image};
use crate::error::{Error, Result, ensure};
use crate::network::{Network, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{
    Backend, BatchOutcome, CostFunction, GradientMemory, LayerStatistics, Nudging, PhaseReport,
    PhaseState, Relaxation, Start,
};
use ndarray::{Array4, ArrayD, Axis, IxDyn, Slice};
use std::rc::Rc;

/// See the head of this file.
pub struct DataParallel {
    inner: Box<dyn Backend>,
    ranks: Rc<dyn Ranks>,
    network: Network,
    /// rows of the present batch: on this rank, on all; 0 and 0 before one is loaded
    rows: (usize, usize),
    /// rows on all ranks of the batch that left the kept state; 0: there is none
    kept_rows: usize,
}

impl DataParallel {
    /// Rank `ranks.shard()`'s part of the training of `network` by `inner`.
    pub fn new(inner: Box<dyn Backend>, network: &Network, ranks: Rc<dyn Ranks>) -> Self {
        Self {
            inner,
            ranks,
            network: network.clone(),
            rows: (0, 0),
            kept_rows: 0,
        }
    }

    /// Rank without rows: it relaxes a [`blank_image`].
    fn idles(&self) -> bool {
        self.rows.0 == 0 && self.rows.1 > 0
    }

    /// Makes the estimate of this rank's rows that of the batch.
    fn sum_estimates(&mut self) -> Result<()> {
        let share = self.rows.0 as f64 / self.rows.1 as f64;
        let ranks = &self.ranks;
        self.inner
            .reduce_gradient(share, &mut |memory| ranks.sum_gradient(memory))
    }
}

impl Backend for DataParallel {
    fn describe(&self) -> String {
        format!("{}, {}", self.inner.describe(), self.ranks.shard())
    }

    fn parameters(&self) -> Result<ParameterSet<f64>> {
        self.inner.parameters()
    }

    fn set_parameters(&mut self, parameters: &ParameterSet<f64>) -> Result<()> {
        self.inner.set_parameters(parameters)
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

    fn load_batch(&mut self, images: &Array4<f32>, labels: &[usize], start: Start) -> Result<()> {
        self.rows = (labels.len(), self.ranks.rows_of_all(labels.len())?);
        if start == Start::Kept {
            // As on one machine, a batch of another size starts from zero, also where this rank's part has the same.
            if self.kept_rows != self.rows.1 {
                self.inner.set_kept_state(None)?;
            }
            self.kept_rows = self.rows.1;
        }
        if self.idles() {
            let blank = blank_image(&self.network);
            return self.inner.load_batch(&blank, &[0], Start::Zero);
        }
        self.inner.load_batch(images, labels, start)
    }

    fn free_phase(&mut self, relaxation: &Relaxation) -> Result<PhaseReport> {
        self.inner.free_phase(relaxation)
    }

    fn outcome(&mut self, cost: CostFunction) -> Result<BatchOutcome> {
        let outcome = self.inner.outcome(cost)?;
        Ok(if self.idles() {
            BatchOutcome::default()
        } else {
            outcome
        })
    }

    fn statistics(&self) -> Result<Vec<LayerStatistics>> {
        self.inner.statistics()
    }

    fn nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        self.inner.nudged_phases(nudging, cost, relaxation)
    }

    fn estimate_gradient(&mut self) -> Result<()> {
        self.inner.estimate_gradient()?;
        self.sum_estimates()
    }

    fn estimate_gradient_at_free_state(&mut self) -> Result<()> {
        self.inner.estimate_gradient_at_free_state()?;
        self.sum_estimates()
    }

    fn truncated_backpropagation(
        &mut self,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        let report = self.inner.truncated_backpropagation(cost, relaxation)?;
        self.sum_estimates()?;
        Ok(report)
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

    fn step(&mut self, learning_rates: &[f64], max_norm: Option<f64>) -> Result<()> {
        self.inner.step(learning_rates, max_norm)
    }

    /// Of this rank's rows.
    fn states(&self, which: PhaseState) -> Result<Vec<ArrayD<f64>>> {
        self.inner.states(which)
    }

    /// Of all rows, on rank 0; an empty list on the others. All ranks call it together.
    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        // An empty image leaves a state, too, which nobody keeps.
        let mine = if self.idles() {
            None
        } else {
            self.inner.kept_state()?
        };
        if !self.ranks.any(mine.is_some())? {
            return Ok(None);
        }
        let output = self.network.output_index();
        let mut layers = Vec::new();
        for l in self.network.free_layers() {
            let values: Vec<f64> = mine
                .iter()
                .flat_map(|layers| layers[l - 1].iter().copied())
                .collect();
            let all = self.ranks.gather(&values)?;
            if self.ranks.shard().rank > 0 {
                continue;
            }
            let shape = self.network.layers()[l].shape;
            let rows = all.len() / shape.units();
            let shape = match l == output {
                true => vec![rows, shape.channels],
                false => vec![rows, shape.channels, shape.height, shape.width],
            };
            layers.push(
                ArrayD::from_shape_vec(IxDyn(&shape), all)
                    .map_err(|_| Error::Ranks("the ranks' states do not fit together".into()))?,
            );
        }
        Ok(Some(layers))
    }

    /// Takes the state of all rows, and of it this rank's.
    fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        self.rows = (0, 0);
        let Some(state) = state else {
            self.kept_rows = 0;
            return self.inner.set_kept_state(None);
        };
        let rows = |layer: &ArrayD<f64>| layer.shape().first().copied().unwrap_or(0);
        let all = state.first().map_or(0, rows);
        ensure!(
            Ranks,
            all > 0 && state.iter().all(|layer| rows(layer) == all),
            "the layers of a kept state have different numbers of examples, or none"
        );
        self.kept_rows = all;
        let mine = self.ranks.shard().rows(all);
        if mine.is_empty() {
            return self.inner.set_kept_state(None);
        }
        let own = |layer: &ArrayD<f64>| {
            layer
                .slice_axis(Axis(0), Slice::from(mine.clone()))
                .to_owned()
        };
        self.inner
            .set_kept_state(Some(state.iter().map(own).collect()))
    }
}
