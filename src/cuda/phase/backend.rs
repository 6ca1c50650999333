//! [`Backend`] on a [`Device`].

use super::batch::Batch;
use super::gradient::GradientAt;
use super::iteration::{Phase, PhaseNudging};
use super::kept::Kept;
use super::states::Kind;
use super::{exchange, gradient, measure, output, truncated};
use crate::cuda::machine::abi::EqPhase;
use crate::cuda::machine::device::Device;
use crate::cuda::machine::kernels::Format;
use crate::cuda::parameters::Parameters;
use crate::cuda::recent::Recent;
use crate::cuda::setup::Setup;
use crate::cuda::tables::gradient::GradientPlan;
use crate::cuda::tables::layout::{Layout, padded_images};
use crate::error::{Error, Result};
use crate::network::{Network, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{
    Backend, BatchOutcome, CostFunction, GradientMemory, LayerStatistics, NudgedPhase, Nudging,
    OutputCondition, PhaseReport, PhaseState, Relaxation, Start, check_batch,
};
use ndarray::{Array4, ArrayD};
use std::ffi::c_void;
use std::sync::Arc;

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
        if !self.progress.loaded {
            return Err(Error::OutOfOrder("no batch is loaded"));
        }
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
            let batch = self
                .batches
                .present_mut()
                .ok_or(Error::OutOfOrder("no batch is loaded"))?;
            batch.compute_pre_activations(&self.setup, weights)?;
            self.progress.measured = true;
        }
        Ok(())
    }

    /// Keeps the second nudged state of the present batch, if its nudged phases have run.
    fn keep_second_state(&mut self) -> Result<()> {
        let Some(kind) = self.progress.nudged else {
            return Ok(());
        };
        let batch = self.batch()?;
        let images = batch.memory.images;
        let mut kept = match self.kept.take() {
            Some(kept) if kept.images == images => kept,
            _ => Kept::new(&self.setup, images)?,
        };
        kept.present = true;
        kept.take(&self.setup, self.batch()?, kind)?;
        self.kept = Some(kept);
        Ok(())
    }

    /// What the gradient of the present batch was estimated with.
    fn estimated(&self) -> Result<&GradientPlan> {
        let plan = match self.progress.gradient {
            Some(Estimated::Pair) => self.batch()?.gradient.as_ref(),
            Some(Estimated::Trajectory) => Some(&self.batch()?.trajectory()?.gradient),
            None => None,
        };
        plan.ok_or(Error::OutOfOrder("no gradient was estimated"))
    }

    /// The gradient's two factors: half the difference of the two states, and the state that the derivative is taken at.
    fn estimate(&mut self, at: GradientAt) -> Result<()> {
        let nudged = self.progress.nudged.filter(|&kind| kind != Kind::Onward);
        let kind = nudged.ok_or(Error::OutOfOrder("the nudged phases have not run"))?;
        // Of a response both formulas are one.
        let at = match kind {
            Kind::Response => GradientAt::FreeState,
            _ => at,
        };
        if at == GradientAt::FreeState {
            self.ensure_measured()?;
        }
        let weights = self.weights();
        let batch = self.batch()?;
        gradient::factors(&self.setup, &batch.memory, kind, at)?;
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
            let parts = gradient::ep_parts(setup, &batch.memory);
            let plan =
                GradientPlan::new(&setup.device, &setup.layout, arithmetic, examples, &parts)?;
            batch.gradient = Some(plan);
        }
        let plan = batch.gradient.as_ref().expect("it was just made");
        plan.run(&*self.setup.device, scale as f32, &self.parameters.gradient)?;
        self.progress.gradient = Some(Estimated::Pair);
        Ok(())
    }

    /// The linear response of the free state to nudging by one: what half the difference of a pair is for -1 and +1.
    fn linear_response(
        &mut self,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        self.ensure_measured()?;
        let batch = self.batch()?;
        let (setup, memory) = (&self.setup, &batch.memory);
        let free = output::free_output(setup, memory)?;
        let slope = output::cost_slope(setup, memory, cost, &free)?;
        let mut force: Vec<f32> = (slope.into_iter()).map(|slope| slope as f32).collect();
        force.resize(batch.memory.nudge.len(), 0.0);
        let weights = self.weights();
        let batch = self.batches.present_mut().expect("a batch is loaded");
        batch.memory.nudge.write(&force)?;
        batch.memory.ensure_nudged(setup)?;
        for l in setup.network().free_layers() {
            batch.memory.nudged()[l].sides[0].zero()?;
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
            limit: u32::try_from(relaxation.iterations).unwrap_or(u32::MAX),
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
        batch.compute_constant(&self.setup)?;
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
        measure::outcome(&self.setup, &self.batch()?.memory, cost)
    }

    fn statistics(&self) -> Result<Vec<LayerStatistics>> {
        measure::statistics(&self.setup, &self.batch()?.memory)
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
        let nudged = batch.memory.nudged();
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
            output::clamp(&self.setup, &self.batch()?.memory, kind, cost, strengths)?;
        }
        let nudging_of_phase = (!is_clamped).then(|| PhaseNudging {
            cost: output::cost_code(cost),
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
        let batch = self.batch()?;
        let trajectory = batch.trajectory()?;
        trajectory.copy_end(output, &trajectory.output)?;
        let last = exchange::decode(self.setup.format, &trajectory.output.read()?);
        let slope = output::cost_slope(&self.setup, &batch.memory, cost, &last)?;
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
        let batch = self
            .batches
            .present_mut()
            .ok_or(Error::OutOfOrder("no batch is loaded"))?;
        let plan = match self.progress.gradient {
            Some(Estimated::Pair) => batch.gradient.as_mut(),
            Some(Estimated::Trajectory) => batch.trajectory.as_mut().map(|t| &mut t.gradient),
            None => None,
        };
        let plan = plan.ok_or(Error::OutOfOrder("no gradient was estimated"))?;
        plan.reduce(device, share, gradient, sum)
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
        let batch = self
            .batches
            .present()
            .ok_or(Error::OutOfOrder("no batch is loaded"))?;
        let plan = match self.progress.gradient {
            Some(Estimated::Trajectory) => batch.trajectory.as_ref().map(|t| &t.gradient),
            _ => batch.gradient.as_ref(),
        };
        let plan = plan.ok_or(Error::OutOfOrder("no gradient was estimated"))?;
        let max_norm = max_norm.unwrap_or(f64::INFINITY);
        self.parameters.step(learning_rates, &plan.norm, max_norm)
    }

    fn states(&self, which: PhaseState) -> Result<Vec<ArrayD<f64>>> {
        let batch = self.batch()?;
        let free = self.setup.network().free_layers();
        if which == PhaseState::Free {
            let images = batch.memory.images;
            let layer =
                |l: usize| exchange::read(&self.setup, l, images, &batch.memory.free[l].sides[0]);
            return free.map(layer).collect();
        }
        let missing = Error::OutOfOrder("the nudged phases have not run");
        let Some(kind) = self.progress.nudged else {
            return Err(missing);
        };
        if kind == Kind::Onward && which == PhaseState::Second {
            let end = Kept::new(&self.setup, batch.memory.images)?;
            end.take(&self.setup, batch, kind)?;
            return end.export(&self.setup);
        }
        if !matches!(kind, Kind::Direct | Kind::Pair) {
            return Err(missing);
        }
        free.map(|l| exchange::read_nudged(&self.setup, &batch.memory, kind, which, l))
            .collect()
    }

    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>> {
        if let Some(kind) = self.progress.nudged {
            let batch = self.batch()?;
            let second = Kept::new(&self.setup, batch.memory.images)?;
            second.take(&self.setup, batch, kind)?;
            return Ok(Some(second.export(&self.setup)?));
        }
        let kept = self.kept.as_ref().filter(|kept| kept.present);
        kept.map(|kept| kept.export(&self.setup)).transpose()
    }

    fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()> {
        self.progress = Progress::default();
        self.kept = None;
        let setup = &self.setup;
        self.kept = state.map(|state| Kept::import(setup, &state)).transpose()?;
        Ok(())
    }
}
