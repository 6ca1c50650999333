//! [`Backend`] on a [`Device`].

use super::batch::Batch;
use super::gradient::ep_parts;
use super::iteration::{Phase, PhaseNudging};
use crate::cuda::setup::Setup;
use super::states::Kind;
use super::trajectory::Trajectory;
use super::truncated;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::{self, Format};
use crate::cuda::parameters::Parameters;
use crate::cuda::recent::Recent;
use crate::cuda::tables::gradient::GradientPlan;
use crate::cuda::tables::layout::{Layout, padded, padded_images, padded_units};
use crate::network::{Layer, Network, ParameterSet, Shape};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{
    Backend, BatchOutcome, CostFunction, GradientMemory, LayerStatistics, NudgedPhase, Nudging,
    OutputCondition, PhaseReport, PhaseState, Relaxation, Start, as_images, check_batch,
};
use anyhow::{Context, Result, ensure};
use half::f16;
use ndarray::{Array4, ArrayD, IxDyn};
use std::ffi::c_void;
use std::sync::Arc;

/// A state that the next batch starts from, in the operand format. The buffers outlive what they hold: allocating them
/// for each batch would make the GPU wait.
struct Kept {
    images: usize,
    layers: Vec<Buffer<u8>>,
    /// whether a batch may start from it
    present: bool,
}

/// How far the present batch has come.
#[derive(Default)]
struct Progress {
    loaded: bool,
    /// pre-activations belong to the free state
    measured: bool,
    nudged: Option<Kind>,
    nudging_difference: f64,
    gradient: Option<Estimated>,
}

/// What the last gradient was estimated from, and by whose plan.
#[derive(Clone, Copy, PartialEq)]
enum Estimated {
    /// mean and half-difference of two states, which are on side 1 of the nudged ones; or the free state and its response
    Pair,
    /// the way back through a trajectory
    Trajectory,
}

/// Where a gradient estimate takes the derivative of `dE/dtheta` along the difference of the two states.
#[derive(Clone, Copy, PartialEq)]
enum GradientAt {
    /// half-way, which makes it their difference
    Mean,
    FreeState,
}

/// Training on a GPU, or on the emulation of one.
pub struct CudaBackend {
    setup: Setup,
    parameters: Parameters,
    batches: Recent<Batch>,
    progress: Progress,
    kept: Option<Kept>,
}

impl CudaBackend {
    /// All parameters are zero.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(network: &Network, device: Arc<dyn Device>, format: Format) -> Result<Self> {
        let setup = Setup::new(device, network.clone(), Layout::new(network), format);
        Ok(Self {
            parameters: Parameters::new(&setup.device, &setup.layout, format)?,
            batches: Recent::new(),
            progress: Progress::default(),
            kept: None,
            setup,
        })
    }

    pub(in crate::cuda) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(in crate::cuda) fn batch(&self) -> Result<&Batch> {
        ensure!(self.progress.loaded, "no batch is loaded");
        Ok(self.batches.present().expect("a loaded batch has buffers"))
    }

    /// Weights as the relaxation reads them.
    pub(in crate::cuda) fn weights(&self) -> *const c_void {
        self.parameters.operands()
    }

    /// Pre-activations at the free state: both the energy and a pair's phases need them.
    fn ensure_measured(&mut self) -> Result<()> {
        if !self.progress.measured {
            let weights = self.weights();
            let batch = self.batches.present_mut().context("no batch is loaded")?;
            batch.compute_pre_activations(&self.setup, weights)?;
            self.progress.measured = true;
        }
        Ok(())
    }

    /// Elementwise arguments over the nudged states of layer `l`.
    fn state_args(&self, batch: &Batch, kind: Kind, l: usize) -> EqStateArgs {
        let format = self.setup.format;
        let nudged = &batch.memory.nudged.as_ref().expect("the nudged phases have run")[l];
        EqStateArgs {
            free_state: batch.memory.free[l].sides[0].ptr(),
            first: nudged.component(0, 0, format),
            second: nudged.component(0, 1, format),
            count: nudged.units as u64,
            pair: u32::from(kind == Kind::Pair),
            ..EqStateArgs::default()
        }
    }

    /// Buffers for a state of so many images.
    fn new_kept(&self, images: usize) -> Result<Kept> {
        let layer = |l: usize| {
            let units = if l == 0 {
                0
            } else {
                images * self.setup.units(l)
            };
            Buffer::new(&self.setup.device, units * self.setup.format.bytes())
        };
        let layers: Result<Vec<_>> = (0..self.setup.network().layers().len()).map(layer).collect();
        Ok(Kept {
            images,
            layers: layers?,
            present: true,
        })
    }

    /// Writes the state that the present batch leaves to the next: the second nudged one, or the end of a trajectory, or the free state
    /// where it has but a response.
    fn write_second_state(&self, kind: Kind, kept: &Kept) -> Result<()> {
        let batch = self.batch()?;
        for l in self.setup.network().free_layers() {
            if kind == Kind::Onward {
                self.trajectory()?.copy_end(l, &kept.layers[l])?;
                continue;
            }
            if kind == Kind::Response {
                let free = &batch.memory.free[l].sides[0];
                kept.layers[l].copy_from(0, free, 0, free.len())?;
                continue;
            }
            let args = EqStateArgs {
                out_first: kept.layers[l].ptr(),
                ..self.state_args(batch, kind, l)
            };
            kernels::second_state(&*self.setup.device, self.setup.format, &args)?;
        }
        Ok(())
    }

    /// Keeps the second nudged state of the present batch, if its nudged phases have run.
    fn keep_second_state(&mut self) -> Result<()> {
        let Some(kind) = self.progress.nudged else {
            return Ok(());
        };
        let images = self.batch()?.memory.images;
        let mut kept = match self.kept.take() {
            Some(kept) if kept.images == images => kept,
            _ => self.new_kept(images)?,
        };
        kept.present = true;
        self.write_second_state(kind, &kept)?;
        self.kept = Some(kept);
        Ok(())
    }

    /// The way that truncated backpropagation went in the present batch.
    fn trajectory(&self) -> Result<&Trajectory> {
        let trajectory = self.batch()?.trajectory.as_ref();
        trajectory.context("truncated backpropagation has not run")
    }

    /// What the gradient of the present batch was estimated with.
    fn estimated(&self) -> Result<&GradientPlan> {
        let plan = match self.progress.gradient {
            Some(Estimated::Pair) => self.batch()?.gradient.as_ref(),
            Some(Estimated::Trajectory) => Some(&self.trajectory()?.gradient),
            None => None,
        };
        plan.context("no gradient was estimated")
    }

    /// The gradient's two factors: half the difference of the two states, and the state that the derivative is taken at.
    fn estimate(&mut self, at: GradientAt) -> Result<()> {
        let nudged = self.progress.nudged.filter(|&kind| kind != Kind::Onward);
        let kind = nudged.context("the nudged phases have not run")?;
        // Of a response both formulas are one.
        let at = match kind {
            Kind::Response => GradientAt::FreeState,
            _ => at,
        };
        if at == GradientAt::FreeState {
            self.ensure_measured()?;
        }
        let weights = self.weights();
        let format = self.setup.format;
        let batch = self.batch()?;
        let nudged = batch.memory.nudged.as_ref().expect("the nudged phases have run");
        for l in self.setup.network().free_layers() {
            if kind == Kind::Response {
                let [response, operands] = &nudged[l].sides;
                let bytes = nudged[l].units * format.bytes();
                operands.copy_from(bytes, response, 0, bytes)?;
            } else {
                let args = EqStateArgs {
                    out_first: nudged[l].component(1, 0, format),
                    out_second: nudged[l].component(1, 1, format),
                    ..self.state_args(batch, kind, l)
                };
                kernels::mean_and_half(&*self.setup.device, format, &args)?;
            }
            if at == GradientAt::FreeState {
                let free = &batch.memory.free[l].sides[0];
                nudged[l].sides[1].copy_from(0, free, 0, free.len())?;
            }
        }
        let examples = batch.memory.images;
        let scale = -2.0 / (self.progress.nudging_difference * examples as f64);
        let batch = self.batches.present_mut().expect("a batch is loaded");
        match at {
            GradientAt::Mean => batch.unpool_for_gradient(&self.setup, weights)?,
            GradientAt::FreeState => batch.unpool_at_free_state(&self.setup)?,
        }
        if batch.gradient.is_none() {
            let setup = &self.setup;
            let arithmetic = (setup.format, setup.relax);
            let parts = ep_parts(setup, &batch.memory);
            let plan =
                GradientPlan::new(&setup.device, &setup.layout, arithmetic, examples, &parts)?;
            batch.gradient = Some(plan);
        }
        let plan = batch.gradient.as_ref().expect("it was just made");
        plan.run(&*self.setup.device, scale as f32, &self.parameters.gradient)?;
        self.progress.gradient = Some(Estimated::Pair);
        Ok(())
    }

    /// Sets the output to `s_L - strength dC/ds_L` of the free state, on both sides, for nothing updates it. `strengths` are those of the
    /// two states, or of their mean and half their difference. The output is small: this is computed on the host.
    fn clamp_output(&self, kind: Kind, cost: CostFunction, strengths: [f64; 2]) -> Result<()> {
        let batch = self.batch()?;
        let network = self.setup.network();
        let output = network.output_index();
        let free = self.decode(&batch.memory.free[output].sides[0].read()?);
        let slope = self.cost_slope(cost, &free)?;
        let state = &batch.memory.nudged.as_ref().expect("they are allocated")[output];
        // The mean of a pair is relative to the free state.
        let start = if kind == Kind::Pair { 0.0 } else { 1.0 };
        let mut values = Vec::with_capacity(2 * free.len());
        for strength in strengths {
            let clamped = free.iter().zip(&slope);
            values.extend(clamped.map(|(s, g)| start * s - strength * g));
        }
        let bytes = self.encode(&values);
        state.sides.iter().try_for_each(|side| side.write(&bytes))
    }

    /// `dC/ds_L` at an output, in its layout. The output is small: this is computed on the host.
    fn cost_slope(&self, cost: CostFunction, output: &[f64]) -> Result<Vec<f64>> {
        let classes = self.setup.network().classes();
        let channels = padded(classes);
        let mut slope = vec![0.0; output.len()];
        let rows = output.chunks(channels).zip(slope.chunks_mut(channels));
        for ((output, slope), label) in rows.zip(self.batch()?.memory.labels.read()?) {
            cost.gradient(&output[..classes], label as usize, &mut slope[..classes]);
        }
        Ok(slope)
    }

    /// The linear response of the free state to nudging by one: what half the difference of a pair is for -1 and +1.
    fn linear_response(
        &mut self,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        self.ensure_measured()?;
        let batch = self.batch()?;
        let output = self.setup.network().output_index();
        let free = self.decode(&batch.memory.free[output].sides[0].read()?);
        let mut force: Vec<f32> = (self.cost_slope(cost, &free)?.into_iter())
            .map(|slope| slope as f32)
            .collect();
        force.resize(batch.memory.nudge.len(), 0.0);
        let weights = self.weights();
        let setup = &self.setup;
        let batch = self.batches.present_mut().expect("a batch is loaded");
        batch.memory.nudge.write(&force)?;
        batch.memory.ensure_nudged(setup)?;
        for l in setup.network().free_layers() {
            batch.memory.nudged.as_ref().expect("they were just allocated")[l].sides[0].zero()?;
        }
        batch.memory.write_masks(setup, Format::F32, |memory, l| {
            memory.pre_activation[l].ptr::<c_void>()
        })?;
        batch.memory.freeze_maxima()?;
        let patience = relaxation.patience(setup.network(), 0.0);
        let phase = phase(relaxation, patience, Kind::Response, weights, None);
        let end = batch.run_phase(setup, &phase)?;
        self.progress.nudged = Some(Kind::Response);
        self.progress.nudging_difference = 2.0;
        self.progress.gradient = None;
        Ok(report(&end))
    }

    fn decode(&self, bytes: &[u8]) -> Vec<f64> {
        let value16 = |b: &[u8]| f64::from(f16::from_le_bytes([b[0], b[1]]));
        let value32 = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        match self.setup.format {
            Format::F32 => bytes.chunks_exact(4).map(value32).collect(),
            Format::F16 => bytes.chunks_exact(2).map(value16).collect(),
        }
    }

    fn encode(&self, values: &[f64]) -> Vec<u8> {
        self.setup.format.encode(values.iter().map(|&v| v as f32))
    }

    /// `(N, C, H, W)`, or `(N, classes)` for the output, from the layout of a state.
    fn export(&self, l: usize, images: usize, values: &[f64]) -> ArrayD<f64> {
        let shape = self.setup.shape(l);
        let mut out = ArrayD::zeros(IxDyn(&[images, shape.channels, shape.height, shape.width]));
        for_each_unit(shape, images, |index, at| out[&index[..]] = values[at]);
        if l == self.setup.network().output_index() {
            let flat = IxDyn(&[images, shape.channels]);
            return out
                .into_shape_with_order(flat)
                .expect("the output has one pixel");
        }
        out
    }

    /// The inverse of [`Self::export`].
    fn import(&self, l: usize, state: &ArrayD<f64>) -> Result<Vec<f64>> {
        let shape = self.setup.shape(l);
        let state = as_images(l, shape, state)?;
        let images = state.dim().0;
        let mut values = vec![0.0; images * padded_units(shape)];
        for_each_unit(shape, images, |index, at| values[at] = state[index]);
        Ok(values)
    }

    fn export_layers(&self, images: usize, layers: &[Buffer<u8>]) -> Result<Vec<ArrayD<f64>>> {
        let free = self.setup.network().free_layers();
        free.map(|l| Ok(self.export(l, images, &self.decode(&layers[l].read()?))))
            .collect()
    }
}

/// Visits the units of a state: index `(n, c, y, x)` and position in the padded NHWC layout.
fn for_each_unit(shape: Shape, images: usize, mut visit: impl FnMut([usize; 4], usize)) {
    let channels = padded(shape.channels);
    for n in 0..images {
        for y in 0..shape.height {
            for x in 0..shape.width {
                let pixel = (n * shape.height + y) * shape.width + x;
                for c in 0..shape.channels {
                    visit([n, c, y, x], pixel * channels + c);
                }
            }
        }
    }
}

fn cost_code(cost: CostFunction) -> u32 {
    match cost {
        CostFunction::Mse => EQ_COST_MSE,
        CostFunction::Ce => EQ_COST_CE,
    }
}

fn phase(
    relaxation: &Relaxation,
    patience: u32,
    kind: Kind,
    weights: *const c_void,
    nudging: Option<PhaseNudging>,
) -> Phase {
    Phase {
        mode: relaxation.mode,
        kind,
        is_clamped: matches!(kind, Kind::Direct | Kind::Pair) && nudging.is_none(),
        iterations: relaxation.iterations,
        start: EqPhase {
            omega: relaxation.omega,
            keep: 1.0 - relaxation.omega,
            tolerance: relaxation.tolerance.unwrap_or(-1.0),
            smallest: f64::INFINITY,
            previous: f64::INFINITY,
            patience,
            ..EqPhase::default()
        },
        weights,
        nudging,
    }
}

fn report(end: &EqPhase) -> PhaseReport {
    PhaseReport {
        iterations: end.iterations as usize,
        change: end.change,
        omega: end.omega,
    }
}

impl Backend for CudaBackend {
    fn describe(&self) -> String {
        let format = self.setup.format.name();
        format!("{}, {format}", self.setup.device.describe())
    }

    fn parameters(&self) -> Result<ParameterSet<f64>> {
        self.parameters.read()
    }

    fn set_parameters(&mut self, parameters: &ParameterSet<f64>) -> Result<()> {
        let tensors = parameters.tensors().to_vec();
        let parameters = ParameterSet::from_tensors(self.setup.network(), tensors)?;
        self.parameters.write(&parameters)?;
        self.progress.measured = false;
        Ok(())
    }

    fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()> {
        self.parameters.set_optimizer(config)
    }

    fn optimizer_state(&self) -> Result<OptimizerState> {
        self.parameters.optimizer_state()
    }

    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()> {
        self.parameters.set_optimizer_state(&state)
    }

    fn load_batch(&mut self, images: &Array4<f32>, labels: &[usize], start: Start) -> Result<()> {
        let network = self.setup.network();
        check_batch(network, images, labels)?;
        let n = labels.len();
        self.keep_second_state()?;
        let mut from_kept = false;
        if let (Start::Kept, Some(kept)) = (start, &mut self.kept) {
            from_kept = kept.present && kept.images == n;
            kept.present = false;
        }
        self.progress = Progress::default();
        let parameters = self.parameters.master();
        let setup = &self.setup;
        let batch = (self.batches).select(n, || Batch::new(setup, parameters, n))?;
        let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
        batch.memory.labels.write(&labels)?;
        let input = padded_images(images);
        batch.memory.input.write(&input)?;
        if let Some(operand) = &batch.memory.input_operand {
            operand.write(&Format::F16.encode(input.into_iter()))?;
        }
        batch.compute_drive(&self.setup)?;
        for l in self.setup.network().free_layers() {
            let state = &batch.memory.free[l].sides[0];
            match &self.kept {
                Some(kept) if from_kept => state.copy_from(0, &kept.layers[l], 0, state.len())?,
                _ => state.zero()?,
            }
        }
        self.progress.loaded = true;
        Ok(())
    }

    fn free_phase(&mut self, relaxation: &Relaxation) -> Result<PhaseReport> {
        self.batch()?;
        let weights = self.weights();
        self.progress = Progress {
            loaded: true,
            ..Progress::default()
        };
        let batch = self.batches.present_mut().expect("a batch is loaded");
        let patience = relaxation.patience(self.setup.network(), 0.0);
        let phase = phase(relaxation, patience, Kind::Free, weights, None);
        let end = batch.run_phase(&self.setup, &phase)?;
        Ok(report(&end))
    }

    fn outcome(&mut self, cost: CostFunction) -> Result<BatchOutcome> {
        self.ensure_measured()?;
        let batch = self.batch()?;
        let (network, device) = (self.setup.network(), &self.setup.device);
        let measured = &batch.memory.outcome;
        let args = EqOutcomeArgs {
            layers: measured.layers.ptr(),
            output: batch.memory.free[network.output_index()].sides[0].ptr(),
            labels: batch.memory.labels.ptr(),
            energy: measured.energy.ptr(),
            cost: measured.cost.ptr(),
            prediction: measured.prediction.ptr(),
            in_top5: measured.in_top5.ptr(),
            layer_count: measured.layers.len() as u32,
            classes: network.classes() as u32,
            classes_padded: padded(network.classes()) as u32,
            cost_function: cost_code(cost),
        };
        kernels::outcome(&**device, self.setup.format, batch.memory.images, &args)?;
        Ok(BatchOutcome {
            energy: measured.energy.read()?,
            cost: measured.cost.read()?,
            prediction: (measured.prediction.read()?.iter())
                .map(|&c| c as usize)
                .collect(),
            in_top5: (measured.in_top5.read()?.iter())
                .map(|&hit| hit != 0)
                .collect(),
        })
    }

    fn statistics(&self) -> Result<Vec<LayerStatistics>> {
        let batch = self.batch()?;
        let network = self.setup.network();
        let norm = Buffer::<f64>::new(&self.setup.device, batch.memory.images)?;
        let saturated = Buffer::<u32>::new(&self.setup.device, batch.memory.images)?;
        let mut statistics = Vec::new();
        for l in network.free_layers() {
            let Layer {
                shape, activation, ..
            } = network.layers()[l];
            let bounds = activation.bounds();
            let (low, high) = bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
            let args = EqStatisticsArgs {
                state: batch.memory.free[l].sides[0].ptr(),
                norm: norm.ptr(),
                saturated: saturated.ptr(),
                units: self.setup.units(l) as u32,
                channels: padded(shape.channels) as u32,
                live_channels: shape.channels as u32,
                low: low as f32,
                high: high as f32,
                padding: 0,
            };
            kernels::statistics(&*self.setup.device, self.setup.format, batch.memory.images, &args)?;
            let saturated: u64 = saturated.read()?.into_iter().map(u64::from).sum();
            statistics.push(LayerStatistics {
                norm: norm.read()?.iter().sum::<f64>() / batch.memory.images as f64,
                saturation: bounds
                    .map(|_| saturated as f64 / (batch.memory.images * shape.units()) as f64),
            });
        }
        Ok(statistics)
    }

    fn nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        self.batch()?;
        let kind = match nudging.form {
            NudgedPhase::Direct => Kind::Direct,
            NudgedPhase::SumDifference => Kind::Pair,
            NudgedPhase::Linear if nudging.output == OutputCondition::Clamped => {
                return Err(self.unsupported("a linear response with a clamped output"));
            }
            NudgedPhase::Linear => return self.linear_response(cost, relaxation),
        };
        let (first, second) = nudging.pair()?;
        if kind == Kind::Pair {
            self.ensure_measured()?;
        }
        let weights = self.weights();
        let batch = self.batches.present_mut().expect("a batch is loaded");
        batch.memory.ensure_nudged(&self.setup)?;
        let nudged = batch.memory.nudged.as_ref().expect("they were just allocated");
        for l in self.setup.network().free_layers() {
            let state = &nudged[l].sides[0];
            if kind == Kind::Pair {
                state.zero()?;
            } else {
                let free = &batch.memory.free[l].sides[0];
                state.copy_from(0, free, 0, free.len())?;
                state.copy_from(free.len(), free, 0, free.len())?;
            }
        }
        let is_clamped = nudging.output == OutputCondition::Clamped;
        let strengths = match kind {
            Kind::Pair => [(second + first) / 2.0, (second - first) / 2.0],
            _ => [first, second],
        };
        if is_clamped {
            self.clamp_output(kind, cost, strengths)?;
        }
        let nudging_of_phase = (!is_clamped).then(|| PhaseNudging {
            cost: cost_code(cost),
            strengths: strengths.map(|s| s as f32),
        });
        let patience = relaxation.patience(self.setup.network(), nudging.stiffness());
        let phase = phase(relaxation, patience, kind, weights, nudging_of_phase);
        let batch = self.batches.present_mut().expect("a batch is loaded");
        let end = batch.run_phase(&self.setup, &phase)?;
        self.progress.nudged = Some(kind);
        self.progress.nudging_difference = second - first;
        self.progress.gradient = None;
        Ok(report(&end))
    }

    fn estimate_gradient(&mut self) -> Result<()> {
        self.estimate(GradientAt::Mean)
    }

    fn estimate_gradient_at_free_state(&mut self) -> Result<()> {
        self.estimate(GradientAt::FreeState)
    }

    fn truncated_backpropagation(
        &mut self,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        self.ensure_measured()?;
        let weights = self.weights();
        let batch = self.batches.present_mut().expect("a batch is loaded");
        let patience = relaxation.patience(self.setup.network(), 0.0);
        let onward = phase(relaxation, patience, Kind::Onward, weights, None);
        let end = truncated::forwards(batch, &self.setup, &onward)?;
        let output = self.setup.network().output_index();
        let trajectory = self.trajectory()?;
        trajectory.copy_end(output, &trajectory.output)?;
        let slope = self.cost_slope(cost, &self.decode(&trajectory.output.read()?))?;
        let gradient = &self.parameters.gradient;
        let batch = self.batches.present_mut().expect("a batch is loaded");
        truncated::backwards(batch, &self.setup, weights, &slope, gradient)?;
        self.progress.nudged = Some(Kind::Onward);
        self.progress.gradient = Some(Estimated::Trajectory);
        Ok(report(&end))
    }

    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        let device = &self.setup.device;
        let gradient = &self.parameters.gradient;
        let batch = self.batches.present_mut().context("no batch is loaded")?;
        let plan = match self.progress.gradient {
            Some(Estimated::Pair) => batch.gradient.as_mut(),
            Some(Estimated::Trajectory) => batch.trajectory.as_mut().map(|t| &mut t.gradient),
            None => None,
        };
        let plan = plan.context("no gradient was estimated")?;
        plan.rescale(device, share as f32, gradient)?;
        match device.stream() {
            Some(stream) => sum(GradientMemory::Device {
                address: gradient.ptr::<u8>() as u64,
                count: gradient.len(),
                stream,
            })?,
            None => {
                let mut values: Vec<f64> = gradient.read()?.into_iter().map(f64::from).collect();
                sum(GradientMemory::Host(&mut values))?;
                let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
                gradient.write(&values)?;
            }
        }
        plan.rescale(device, 1.0, gradient)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        let plan = self.estimated()?;
        plan.measure_norm(&*self.setup.device)?;
        Ok(plan.norm.read()?[0])
    }

    fn gradient(&self) -> Result<ParameterSet<f64>> {
        self.estimated()?;
        self.parameters.read_gradient()
    }

    fn step(&mut self, learning_rates: &[f64], max_norm: Option<f64>) -> Result<()> {
        self.estimated()?.measure_norm(&*self.setup.device)?;
        let batch = self.batches.present().context("no batch is loaded")?;
        let plan = match self.progress.gradient {
            Some(Estimated::Trajectory) => batch.trajectory.as_ref().map(|t| &t.gradient),
            _ => batch.gradient.as_ref(),
        };
        let plan = plan.context("no gradient was estimated")?;
        let max_norm = max_norm.unwrap_or(f64::INFINITY);
        self.parameters.step(learning_rates, &plan.norm, max_norm)
    }

    fn states(&self, which: PhaseState) -> Result<Vec<ArrayD<f64>>> {
        let batch = self.batch()?;
        let free = self.setup.network().free_layers();
        if which == PhaseState::Free {
            let layer = |l: usize| {
                let values = self.decode(&batch.memory.free[l].sides[0].read()?);
                Ok(self.export(l, batch.memory.images, &values))
            };
            return free.map(layer).collect();
        }
        let missing = "the nudged phases have not run";
        let kind = self.progress.nudged.context(missing)?;
        if kind == Kind::Onward && which == PhaseState::Second {
            let end = self.new_kept(batch.memory.images)?;
            self.write_second_state(kind, &end)?;
            return self.export_layers(end.images, &end.layers);
        }
        ensure!(matches!(kind, Kind::Direct | Kind::Pair), missing);
        let nudged = batch.memory.nudged.as_ref().expect("the nudged phases have run");
        let layer = |l: usize| {
            let both = self.decode(&nudged[l].sides[0].read()?);
            let (a, b) = both.split_at(nudged[l].units);
            let values = if kind == Kind::Pair {
                let s0 = self.decode(&batch.memory.free[l].sides[0].read()?);
                let sign = if which == PhaseState::First {
                    -1.0
                } else {
                    1.0
                };
                (0..s0.len()).map(|i| s0[i] + a[i] + sign * b[i]).collect()
            } else if which == PhaseState::First {
                a.to_vec()
            } else {
                b.to_vec()
            };
            Ok(self.export(l, batch.memory.images, &values))
        };
        free.map(layer).collect()
    }

    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        if let Some(kind) = self.progress.nudged {
            let second = self.new_kept(self.batch()?.memory.images)?;
            self.write_second_state(kind, &second)?;
            return Ok(Some(self.export_layers(second.images, &second.layers)?));
        }
        let kept = self.kept.as_ref().filter(|kept| kept.present);
        kept.map(|kept| self.export_layers(kept.images, &kept.layers))
            .transpose()
    }

    fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        self.progress = Progress::default();
        self.kept = None;
        let Some(state) = state else {
            return Ok(());
        };
        let free = self.setup.network().free_layers();
        ensure!(
            state.len() == free.len(),
            "{} layer states were given, but the network has {}",
            state.len(),
            free.len()
        );
        let device = &self.setup.device;
        let images = state[0].shape().first().copied().unwrap_or(0);
        let mut layers = vec![Buffer::new(device, 0)?];
        for (l, state) in free.zip(&state) {
            let values = self.import(l, state)?;
            ensure!(
                state.shape()[0] == images,
                "the state of layer {l} has {} examples, that of layer 1 has {images}",
                state.shape()[0]
            );
            layers.push(Buffer::from_slice(device, &self.encode(&values))?);
        }
        self.kept = Some(Kept {
            images,
            layers,
            present: true,
        });
        Ok(())
    }
}
