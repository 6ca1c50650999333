//! [`Backend`] on the CPU.

use super::chunk::{After, Chunk};
use super::gradient::{Terms, gather, pair_terms, tangent_terms};
use super::measure;
use super::nudge::Nudge;
use super::pre_activation::{Clamped, constant_part};
use super::relax::phase;
use super::response::{Response, cost_slope};
use super::stack::Stack;
use super::states::Representation;
use super::trajectory::Trajectory;
use super::weights::PackedNetwork;
use crate::cpu::ops::images::{images, rows};
use crate::cpu::ops::real::{Into, Real, configure_matmul};
use crate::cpu::ops::reduce::reduce;

use crate::network::{Layer, Network, ParameterSet, Shape};
use crate::optim::{Optimizer, OptimizerConfig, OptimizerState, clip_scale};
use crate::phase::{
    Backend, BatchOutcome, CostFunction, GradientMemory, LayerStatistics, NudgedPhase, Nudging,
    OutputCondition, PhaseReport, PhaseState, Relaxation, Start, as_images, check_batch,
};
use anyhow::{Context, Result, ensure};
use ndarray::{Array2, Array4, ArrayD, Axis, Slice};
use rayon::prelude::*;

/// Most examples that relax together on one core. Few enough for its cache, many enough that the products of the
/// smallest layers (2x2 pixels) still have some rows.
const CHUNK: usize = 4;
/// The same where every free layer is flat: an image has one row then, and its states are small.
const FLAT_CHUNK: usize = 64;
/// A small batch is cut into at least this many chunks, so that it keeps as many cores busy.
const CHUNKS: usize = 2;

/// The CPU backend, in f32 or f64.
pub struct CpuBackend<T> {
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
    pub fn new(network: &Network) -> Self {
        configure_matmul();
        Self {
            packed: PackedNetwork::new(network.clone()),
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

    /// Joins one layer's rows of all chunks.
    fn gather(&self, layer: impl Fn(&Chunk<T>) -> Option<Array2<T>>) -> Result<Array2<T>> {
        let parts: Option<Vec<_>> = self.chunks.iter().map(layer).collect();
        let parts = parts.context("the nudged phases have not run")?;
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        Ok(ndarray::concatenate(Axis(0), &views).expect("chunks have the same channels"))
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
        let parts = parts.context("the nudged phases have not run")?;
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
        format!("cpu, {}, {} threads", T::NAME, rayon::current_num_threads())
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
        let optimizer = self.optimizer.as_ref().context("no optimizer is set")?;
        Ok(optimizer.state(|moment| self.packed.unpacked(moment)))
    }

    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()> {
        let optimizer = self.optimizer.as_mut().context("no optimizer is set")?;
        optimizer.set_state(state, |moment| self.packed.packed(moment));
        Ok(())
    }

    fn load_batch(&mut self, images: &Array4<f32>, labels: &[usize], start: Start) -> Result<()> {
        let network = &self.packed.network;
        check_batch(network, images, labels)?;
        let n = labels.len();
        if let Some(kept) = self.kept_layers() {
            self.kept = Some(kept);
        }
        let output = network.output_index();
        let kept = match start {
            Start::Kept => self.kept.take().filter(|kept| kept[output].nrows() == n),
            Start::Zero => None,
        };
        let is_flat = network.layers()[1..].iter().all(|l| l.shape.pixels() == 1);
        let most = if is_flat { FLAT_CHUNK } else { CHUNK };
        let size = most.min(n.div_ceil(CHUNKS));
        let starts: Vec<usize> = (0..n).step_by(size).collect();
        let packed = &self.packed;
        let chunk = |&first: &usize| {
            let examples = first..n.min(first + size);
            let slice = |pixels: usize| Slice::from(examples.start * pixels..examples.end * pixels);
            let input = rows(images.slice_axis(Axis(0), slice(1)), |v: f32| {
                T::of(f64::from(v))
            });
            let layers = network.layers().iter().enumerate().map(|(l, layer)| {
                let Shape { channels, .. } = layer.shape;
                let pixels = layer.shape.pixels();
                match &kept {
                    _ if l == 0 => Array2::zeros((0, 0)),
                    Some(kept) => kept[l].slice_axis(Axis(0), slice(pixels)).to_owned(),
                    None => Array2::zeros((examples.len() * pixels, channels)),
                }
            });
            Chunk {
                free: Stack::new(
                    Representation::Free,
                    layers.collect(),
                    network.edges().len(),
                ),
                clamped: Clamped {
                    constant: constant_part(packed, input.view(), examples.len()),
                    labels: labels[examples.clone()].to_vec(),
                    input,
                },
                after: After::Nothing,
            }
        };
        self.chunks = starts.par_iter().map(chunk).collect();
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
        ensure!(!self.chunks.is_empty(), "no batch is loaded");
        let packed = &self.packed;
        let order = packed.network.order(relaxation.mode);
        let chunks = self.chunks.par_iter_mut();
        let start =
            |Chunk { clamped, free, .. }: &mut Chunk<T>| Trajectory::new(packed, clamped, free);
        let trajectories: Vec<Trajectory<T>> = chunks.map(start).collect();
        let mut pairs: Vec<_> = self
            .chunks
            .iter()
            .map(|c| &c.clamped)
            .zip(trajectories)
            .collect();
        let iterate = |(clamped, trajectory): &mut (&Clamped<T>, Trajectory<T>), omega: f64| {
            trajectory.iterate(packed, clamped, &order, T::of(omega))
        };
        let patience = relaxation.patience(&packed.network, 0.0);
        let report = phase(&mut pairs, relaxation, patience, iterate, |_, _| {});

        let zeros = || packed.parameters.zeros_like();
        let gradient = self.gradient.get_or_insert_with(zeros);
        let examples: usize = pairs.iter().map(|(clamped, _)| clamped.labels.len()).sum();
        for t in (1..=report.iterations).rev() {
            pairs.par_iter_mut().for_each(|(clamped, trajectory)| {
                trajectory.back(packed, clamped, &order, cost, t)
            });
            let terms: Vec<_> = pairs
                .par_iter()
                .map(|(clamped, trajectory)| trajectory.terms(packed, clamped, &order, t))
                .collect();
            let into = if t == report.iterations {
                Into::Replace
            } else {
                Into::Add
            };
            gather(packed, &terms, 1.0 / examples as f64, into, gradient);
        }
        if report.iterations == 0 {
            *gradient = zeros();
        }
        self.gradient_norm = None;
        let trajectories: Vec<_> = pairs
            .into_iter()
            .map(|(_, trajectory)| trajectory)
            .collect();
        for (chunk, trajectory) in self.chunks.iter_mut().zip(trajectories) {
            chunk.after = After::End(trajectory.into_end());
        }
        Ok(report)
    }

    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        let gradient = self.gradient.as_mut();
        let gradient = gradient.context("no gradient was estimated")?;
        self.gradient_norm = None;
        reduce(gradient, share, sum)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        let gradient = self.gradient.as_ref();
        let gradient = gradient.context("no gradient was estimated")?;
        Ok(*self.gradient_norm.get_or_insert_with(|| gradient.norm()))
    }

    fn gradient(&self) -> Result<ParameterSet<f64>> {
        let gradient = self
            .gradient
            .as_ref()
            .context("no gradient was estimated")?;
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
            .context("no gradient was estimated")?;
        let optimizer = self.optimizer.as_mut().context("no optimizer is set")?;
        let count = self.packed.network.parameter_count();
        ensure!(
            learning_rates.len() == count,
            "{} learning rates for {count} parameter tensors",
            learning_rates.len()
        );
        (self.packed).step(optimizer, gradient, scale, learning_rates);
        Ok(())
    }

    fn states(&self, which: PhaseState) -> Result<Vec<ArrayD<f64>>> {
        ensure!(!self.chunks.is_empty(), "no batch is loaded");
        let layer = |l: usize| {
            let rows = self.gather(|chunk| chunk.state(which, l));
            Ok(self.export(l, &rows?))
        };
        self.packed.network.free_layers().map(layer).collect()
    }

    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        let kept = self.kept_layers().or_else(|| self.kept.clone());
        let free = self.packed.network.free_layers();
        Ok(kept.map(|kept| free.map(|l| self.export(l, &kept[l])).collect()))
    }

    fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        self.chunks.clear();
        self.kept = match state {
            None => None,
            Some(state) => {
                let free = self.packed.network.free_layers();
                ensure!(
                    state.len() == free.len(),
                    "{} layer states were given, but the network has {}",
                    state.len(),
                    free.len()
                );
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
        mut observe: impl FnMut(&PackedNetwork<T>, &mut [Chunk<T>], &PhaseReport) + Send,
    ) -> PhaseReport {
        let packed = &self.packed;
        let groups = packed.network.update_groups(relaxation.mode);
        let iterate = |chunk: &mut Chunk<T>, omega: f64| {
            let (clamped, omega) = (&chunk.clamped, T::of(omega));
            chunk.free.iterate(packed, clamped, &groups, omega, None)
        };
        let observe =
            |chunks: &mut [Chunk<T>], report: &PhaseReport| observe(packed, chunks, report);
        let patience = relaxation.patience(&packed.network, 0.0);
        phase(&mut self.chunks, relaxation, patience, iterate, observe)
    }

    /// [`Backend::nudged_phases`], with a look at the chunks after each iteration.
    pub(super) fn observed_nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
        mut observe: impl FnMut(&PackedNetwork<T>, &mut [Chunk<T>], &PhaseReport) + Send,
    ) -> Result<PhaseReport> {
        if nudging.form == NudgedPhase::Linear {
            return self.linear_response(nudging, cost, relaxation);
        }
        let (first, second) = nudging.pair()?;
        let packed = &self.packed;
        let output = packed.network.output_index();
        let mut groups = packed.network.update_groups(relaxation.mode);
        self.nudging_difference = second - first;
        let nudge = Nudge {
            first: T::of(first),
            second: T::of(second),
            cost,
        };
        let form = match nudging.form {
            NudgedPhase::Direct => Representation::Direct,
            NudgedPhase::SumDifference | NudgedPhase::Linear => Representation::SumDifference,
        };
        let is_clamped = nudging.output == OutputCondition::Clamped;
        if is_clamped {
            groups
                .iter_mut()
                .for_each(|group| group.retain(|&l| l != output));
        }
        let edges = packed.network.edges().len();
        self.chunks.par_iter_mut().for_each(|chunk| {
            let mut stack = Stack::new(form, chunk.free.states.layers().to_vec(), edges);
            if is_clamped {
                let at = chunk.free.states.layer(output).view();
                let slope = cost_slope(at, &chunk.clamped.labels, cost);
                stack.clamp_output(output, &slope, nudge.first, nudge.second);
            }
            chunk.after = After::Pair(Box::new(stack));
        });
        let nudge = (!is_clamped).then_some(&nudge);
        let iterate = |chunk: &mut Chunk<T>, omega: f64| {
            let After::Pair(stack) = &mut chunk.after else {
                unreachable!("it was just made")
            };
            stack.iterate(packed, &chunk.clamped, &groups, T::of(omega), nudge)
        };
        let observe =
            |chunks: &mut [Chunk<T>], report: &PhaseReport| observe(packed, chunks, report);
        let patience = relaxation.patience(&packed.network, nudging.stiffness());
        let report = phase(&mut self.chunks, relaxation, patience, iterate, observe);
        for chunk in &mut self.chunks {
            if let After::Pair(stack) = &mut chunk.after {
                stack.make_sum_difference();
            }
        }
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
        let packed = &self.packed;
        let groups = packed.network.update_groups(relaxation.mode);
        // To nudging by one, of which the half-difference of a pair is that of -1 and +1.
        self.nudging_difference = 2.0;
        self.chunks.par_iter_mut().for_each(|chunk| {
            let response = Response::new(packed, &chunk.clamped, &mut chunk.free, cost);
            chunk.after = After::Response(Box::new(response));
        });
        let iterate = |chunk: &mut Chunk<T>, omega: f64| {
            let After::Response(response) = &mut chunk.after else {
                unreachable!("it was just made")
            };
            response.iterate(packed, &chunk.clamped, &groups, T::of(omega))
        };
        let patience = relaxation.patience(&packed.network, 0.0);
        Ok(phase(
            &mut self.chunks,
            relaxation,
            patience,
            iterate,
            |_, _| {},
        ))
    }

    /// The state that the present batch leaves to the next, if its nudged phases have run.
    fn kept_layers(&self) -> Option<Vec<Array2<T>>> {
        let last: Option<Vec<Vec<Array2<T>>>> = self.chunks.par_iter().map(Chunk::last).collect();
        let last = last.filter(|last| !last.is_empty())?;
        let layers = (0..self.packed.network.layers().len()).map(|l| {
            let views: Vec<_> = last.iter().map(|s| s[l].view()).collect();
            ndarray::concatenate(Axis(0), &views).expect("chunks have the same channels")
        });
        Some(layers.collect())
    }
}

/// What a chunk contributes to the gradient by the usual formula, once its phases have run.
fn terms<'a, T: Real>(packed: &PackedNetwork<T>, chunk: &'a mut Chunk<T>) -> Option<Terms<'a, T>> {
    if !matches!(chunk.after, After::Pair(_)) {
        return terms_at_free_state(packed, chunk);
    }
    let After::Pair(pair) = &mut chunk.after else {
        unreachable!("it was just looked at")
    };
    Some(pair_terms(packed, &chunk.clamped, pair))
}

/// The same by the alternative formula, of which that of a linear response is a case.
fn terms_at_free_state<'a, T: Real>(
    packed: &PackedNetwork<T>,
    chunk: &'a mut Chunk<T>,
) -> Option<Terms<'a, T>> {
    let maxima = chunk.free.maxima(packed, &chunk.clamped);
    let Chunk {
        clamped,
        free,
        after,
    } = chunk;
    let layers = 0..packed.network.layers().len();
    let differences = match after {
        After::Pair(pair) => layers.map(|l| pair.states.half_difference(l)).collect(),
        After::Response(response) => {
            let of = |l: usize| (l > 0).then(|| response.tangent.layer(l).view());
            layers.map(of).collect()
        }
        After::Nothing | After::End(_) => return None,
    };
    let free = free.states.layers();
    Some(tangent_terms(packed, clamped, free, differences, &maxima))
}
