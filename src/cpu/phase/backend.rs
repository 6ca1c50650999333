//! [`Backend`] on the CPU.

use super::batch::{cut, join, left_state};
use super::chunk::Chunk;
use super::gradient::{Terms, gather, terms, terms_at_free_state};
use super::weights::PackedNetwork;
use super::{measure, phases};
use crate::cpu::ops::images::{images, rows};
use crate::cpu::ops::real::{Into, Real, configure_matmul};
use crate::cpu::ops::reduce::reduce;
use crate::cpu::ops::weight::Products;
use crate::error::{Error, Result, ensure};
use crate::network::{Layer, Network, ParameterSet, Shape};
use crate::optim::{Optimizer, OptimizerConfig, OptimizerState, clip_scale};
use crate::phase::{
    Backend, BatchOutcome, CostFunction, GradientMemory, LayerStatistics, NudgedPhase, Nudging,
    OutputCondition, PhaseReport, PhaseState, Relaxation, Start, as_images, check_batch,
    check_layers,
};
use ndarray::{Array2, Array4, ArrayD};
use rayon::prelude::*;

/// The CPU backend, in f32 or f64.
pub struct CpuBackend<T: 'static> {
    packed: PackedNetwork<T>,
    chunks: Vec<Chunk<T>>,
    /// layers of the state that the next training batch starts from, over the whole batch
    kept: Option<Vec<Array2<T>>>,
    nudging_difference: f64,
    gradient: Option<ParameterSet<T>>,
    /// of the gradient, once it was asked for
    gradient_norm: Option<f64>,
    optimizer: Option<Optimizer<T>>,
}

impl<T: Real> CpuBackend<T> {
    /// The backend of a network, with all parameters at zero.
    pub fn new(network: &Network, products: Products) -> Self {
        configure_matmul();
        Self {
            packed: PackedNetwork::new(network.clone(), products),
            chunks: Vec::new(),
            kept: None,
            nudging_difference: 0.0,
            gradient: None,
            gradient_norm: None,
            optimizer: None,
        }
    }

    fn layer_shape(&self, l: usize) -> Shape {
        self.packed.network.layers()[l].shape
    }

    /// The gradient from what each chunk contributes after its phases.
    fn estimate(
        &mut self,
        terms: impl for<'a> Fn(&PackedNetwork<T>, &'a mut Chunk<T>) -> Option<Terms<'a, T>> + Sync,
    ) -> Result<()> {
        let packed = &self.packed;
        let examples: usize = self.chunks.iter().map(Chunk::examples).sum();
        let parts = self.chunks.par_iter_mut().map(|chunk| terms(packed, chunk));
        let parts: Option<Vec<_>> = parts.collect();
        let parts = parts.filter(|parts| !parts.is_empty());
        let parts = parts.ok_or(Error::OutOfOrder("the nudged phases have not run"))?;
        let zeros = || packed.parameters.zeros_like();
        let gradient = self.gradient.get_or_insert_with(zeros);
        // Half the difference of the two states is for half the difference of their nudging.
        let scale = -2.0 / (self.nudging_difference * examples as f64);
        gather(packed, &parts, scale, Into::Replace, gradient);
        self.gradient_norm = None;
        Ok(())
    }

    /// Rows to `(N, C, H, W)`, or `(N, classes)` for the output.
    fn export(&self, l: usize, rows: &Array2<T>) -> ArrayD<f64> {
        if l == self.packed.network.output_index() {
            return rows.mapv(T::wide).into_dyn();
        }
        images(self.layer_shape(l), rows)
    }

    /// The inverse of [`Self::export`].
    fn import(&self, l: usize, state: &ArrayD<f64>) -> Result<Array2<T>> {
        let shape = self.layer_shape(l);
        let image = as_images(l, shape, state)?;
        Ok(rows(image.view(), T::of))
    }
}

impl<T: Real> Backend for CpuBackend<T> {
    fn describe(&self) -> String {
        let format = match self.packed.multiplied {
            Products::Full => T::NAME,
            Products::Bf16 if T::pairs().is_some() => "bf16 (AVX512_BF16)",
            Products::Bf16 => "bf16 (rounded fp32: the processor has no AVX512_BF16)",
        };
        format!("cpu, {format}, {} threads", rayon::current_num_threads())
    }

    fn parameters(&self) -> Result<ParameterSet<f64>> {
        Ok(self.packed.unpacked(&self.packed.parameters))
    }

    fn set_parameters(&mut self, parameters: &ParameterSet<f64>) -> Result<()> {
        Ok(self.packed.set_parameters(parameters)?)
    }

    fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()> {
        self.optimizer = Some(Optimizer::new(config));
        Ok(())
    }

    fn optimizer_state(&self) -> Result<OptimizerState> {
        let optimizer = self
            .optimizer
            .as_ref()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        Ok(optimizer.state(|moment| self.packed.unpacked(moment)))
    }

    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()> {
        let optimizer = self
            .optimizer
            .as_mut()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        optimizer.set_state(state, |moment| self.packed.packed(moment));
        Ok(())
    }

    fn load_batch(&mut self, images: &Array4<f32>, labels: &[usize], start: Start) -> Result<()> {
        let network = &self.packed.network;
        check_batch(network, images, labels)?;
        let n = labels.len();
        if let Some(left) = left_state(&self.chunks) {
            self.kept = Some(left);
        }
        let output = network.output_index();
        let kept = match start {
            Start::Kept => self.kept.take().filter(|kept| kept[output].nrows() == n),
            Start::Zero => None,
        };
        self.chunks = cut(&self.packed, images, labels, kept.as_deref());
        Ok(())
    }

    fn free_phase(&mut self, relaxation: &Relaxation) -> Result<PhaseReport> {
        Ok(self.observed_free_phase(relaxation, |_, _, _| {}))
    }

    fn outcome(&mut self, cost: CostFunction) -> Result<BatchOutcome> {
        let packed = &self.packed;
        let chunks = self.chunks.par_iter_mut();
        let parts: Vec<BatchOutcome> = chunks.map(|c| measure::outcome(c, packed, cost)).collect();
        let mut outcome = BatchOutcome::default();
        for part in parts {
            outcome.energy.extend(part.energy);
            outcome.cost.extend(part.cost);
            outcome.prediction.extend(part.prediction);
            outcome.in_top5.extend(part.in_top5);
        }
        Ok(outcome)
    }

    fn statistics(&self) -> Result<Vec<LayerStatistics>> {
        let layers = &self.packed.network.layers()[1..];
        let states = self.states(PhaseState::Free)?;
        let of =
            |(layer, state): (&Layer, &ArrayD<f64>)| LayerStatistics::of(layer.activation, state);
        Ok(layers.iter().zip(&states).map(of).collect())
    }

    fn nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        self.observed_nudged_phases(nudging, cost, relaxation, |_, _, _| {})
    }

    fn estimate_gradient(&mut self) -> Result<()> {
        self.estimate(terms)
    }

    fn estimate_gradient_at_free_state(&mut self) -> Result<()> {
        self.estimate(terms_at_free_state)
    }

    fn truncated_backpropagation(
        &mut self,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        if self.chunks.is_empty() {
            return Err(Error::OutOfOrder("no batch is loaded"));
        }
        let zeros = || self.packed.parameters.zeros_like();
        let gradient = self.gradient.get_or_insert_with(zeros);
        self.gradient_norm = None;
        let (packed, chunks) = (&self.packed, &mut self.chunks);
        Ok(phases::truncated(
            packed, chunks, cost, relaxation, gradient,
        ))
    }

    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        let gradient = self.gradient.as_mut();
        let gradient = gradient.ok_or(Error::OutOfOrder("no gradient was estimated"))?;
        self.gradient_norm = None;
        reduce(gradient, share, sum)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        let gradient = self.gradient.as_ref();
        let gradient = gradient.ok_or(Error::OutOfOrder("no gradient was estimated"))?;
        Ok(*self.gradient_norm.get_or_insert_with(|| gradient.norm()))
    }

    fn gradient(&self) -> Result<ParameterSet<f64>> {
        let gradient = self
            .gradient
            .as_ref()
            .ok_or(Error::OutOfOrder("no gradient was estimated"))?;
        Ok(self.packed.unpacked(gradient))
    }

    fn step(&mut self, learning_rates: &[f64], max_norm: Option<f64>) -> Result<()> {
        let scale = match max_norm {
            Some(max_norm) => clip_scale(self.gradient_norm()?, max_norm),
            None => 1.0,
        };
        let gradient = self
            .gradient
            .as_ref()
            .ok_or(Error::OutOfOrder("no gradient was estimated"))?;
        let optimizer = self
            .optimizer
            .as_mut()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        let count = self.packed.network.parameter_count();
        ensure!(
            Mismatch,
            learning_rates.len() == count,
            "{} learning rates for {count} parameter tensors",
            learning_rates.len()
        );
        (self.packed).step(optimizer, gradient, scale, learning_rates);
        Ok(())
    }

    fn states(&self, which: PhaseState) -> Result<Vec<ArrayD<f64>>> {
        if self.chunks.is_empty() {
            return Err(Error::OutOfOrder("no batch is loaded"));
        }
        let layer = |l: usize| {
            let rows = join(&self.chunks, |chunk| chunk.state(which, l));
            let rows = rows.ok_or(Error::OutOfOrder("the nudged phases have not run"))?;
            Ok(self.export(l, &rows))
        };
        self.packed.network.free_layers().map(layer).collect()
    }

    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        let kept = left_state(&self.chunks).or_else(|| self.kept.clone());
        let free = self.packed.network.free_layers();
        Ok(kept.map(|kept| free.map(|l| self.export(l, &kept[l])).collect()))
    }

    fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        self.chunks.clear();
        self.kept = match state {
            None => None,
            Some(state) => {
                let free = self.packed.network.free_layers();
                check_layers(&self.packed.network, &state)?;
                let input = Array2::zeros((0, 0));
                let layers = free.map(|l| self.import(l, &state[l - 1]));
                Some(
                    std::iter::once(Ok(input))
                        .chain(layers)
                        .collect::<Result<_>>()?,
                )
            }
        };
        Ok(())
    }
}

impl<T: Real> CpuBackend<T> {
    /// Something of each chunk, in order.
    pub(super) fn each_chunk<R>(&self, of: impl Fn(&Chunk<T>) -> R) -> Vec<R> {
        self.chunks.iter().map(of).collect()
    }

    /// [`Backend::free_phase`], with a look at the chunks after each iteration.
    pub(super) fn observed_free_phase(
        &mut self,
        relaxation: &Relaxation,
        observe: impl FnMut(&PackedNetwork<T>, &mut [Chunk<T>], &PhaseReport) + Send,
    ) -> PhaseReport {
        phases::free(&self.packed, &mut self.chunks, relaxation, observe)
    }

    /// [`Backend::nudged_phases`], with a look at the chunks after each iteration.
    pub(super) fn observed_nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
        observe: impl FnMut(&PackedNetwork<T>, &mut [Chunk<T>], &PhaseReport) + Send,
    ) -> Result<PhaseReport> {
        if nudging.form == NudgedPhase::Linear {
            return self.linear_response(nudging, cost, relaxation);
        }
        let (first, second) = nudging.pair()?;
        self.nudging_difference = second - first;
        let (packed, chunks) = (&self.packed, &mut self.chunks);
        let strengths = (first, second);
        let report = phases::nudged(
            packed, chunks, nudging, strengths, cost, relaxation, observe,
        );
        Ok(report)
    }

    fn linear_response(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        if nudging.output == OutputCondition::Clamped {
            return Err(self.unsupported("a linear response with a clamped output"));
        }
        // To nudging by one, of which the half-difference of a pair is that of -1 and +1.
        self.nudging_difference = 2.0;
        let (packed, chunks) = (&self.packed, &mut self.chunks);
        Ok(phases::response(packed, chunks, cost, relaxation))
    }
}
