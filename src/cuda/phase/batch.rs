//! A batch on a device: its memory, and what is planned for it when it is first asked for.

use super::constant::{ConstantPart, PreActivations};
use super::iteration::{Iteration, Phase};
use super::memory::Memory;
use super::plan::{self, IterationKey};
use super::states::Side;
use super::trajectory::Trajectory;
use super::unpooled::Unpooled;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::error::CudaError;
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::cuda::tables::gradient::GradientPlan;
use crate::cuda::tables::layout::padded;
use crate::error::{Error, Result};
use std::ffi::c_void;

/// Everything that depends on the batch size.
pub struct Batch {
    pub memory: Memory,
    constant: Option<ConstantPart>,
    pre_activations: Option<PreActivations>,
    pub iterations: Vec<(IterationKey, Iteration)>,
    unpooled: Option<Unpooled>,
    /// of a pair, or of a free state and its response
    pub gradient: Option<GradientPlan>,
    pub trajectory: Option<Trajectory>,
}

impl Batch {
    pub fn new(setup: &Setup, parameters: *const f32, images: usize) -> Result<Self> {
        Ok(Self {
            memory: Memory::new(setup, parameters, images)?,
            constant: None,
            pre_activations: None,
            iterations: Vec::new(),
            unpooled: None,
            gradient: None,
            trajectory: None,
        })
    }

    /// The constant part of the pre-activation of the layers that the input reaches.
    pub fn compute_constant(&mut self, setup: &Setup) -> Result<()> {
        let constant = planned(&mut self.constant, || {
            ConstantPart::plan(setup, &self.memory)
        })?;
        constant.compute(setup, self.memory.parameters.cast())
    }

    /// Pre-activations of all layers at the free state.
    pub fn compute_pre_activations(&mut self, setup: &Setup, weights: *const c_void) -> Result<()> {
        let plan = || PreActivations::plan(setup, &self.memory);
        planned(&mut self.pre_activations, plan)?.compute(setup, weights)
    }

    /// Position in `self.iterations` of what was planned so.
    pub fn iteration(&mut self, setup: &Setup, key: IterationKey) -> Result<usize> {
        if let Some(found) = (self.iterations.iter()).position(|(other, _)| *other == key) {
            return Ok(found);
        }
        let iteration = plan::iteration(setup, &self.memory, key)?;
        self.iterations.push((key, iteration));
        Ok(self.iterations.len() - 1)
    }

    /// The way that truncated backpropagation went.
    pub fn trajectory(&self) -> Result<&Trajectory> {
        let trajectory = self.trajectory.as_ref();
        trajectory.ok_or(Error::OutOfOrder("truncated backpropagation has not run"))
    }

    /// Runs a phase to its end; the states of its kind are on side 0 before and after.
    pub fn run_phase(&mut self, setup: &Setup, phase: &Phase) -> Result<EqPhase> {
        let &Phase {
            mode,
            kind,
            is_clamped,
            iterations,
            start,
            weights,
            nudging,
        } = phase;
        let key = IterationKey {
            mode,
            kind,
            is_clamped,
        };
        let plan = self.iteration(setup, key)?;
        let memory = &self.memory;
        memory.phase.write(&[start])?;
        let args = EqRelaxArgs {
            weights,
            phase: memory.phase.ptr(),
            form: kind.form().code(),
            within_phase: 1,
            ..EqRelaxArgs::default()
        };
        let output = setup.network().output_index();
        let plan = &mut self.iterations[plan].1;
        let classes = setup.network().classes();
        let nudge = nudging.map(|nudging| EqNudgeArgs {
            free_state: memory.free[output].sides[0].ptr(),
            sides: memory.states(kind)[output].read_sides_as(plan.side(output)),
            nudge: memory.nudge.ptr(),
            labels: memory.labels.ptr(),
            phase: memory.phase.ptr(),
            images: memory.images as u32,
            channels: padded(classes) as u32,
            classes: classes as u32,
            form: kind.form().code(),
            cost: nudging.cost,
            strengths: nudging.strengths,
            padding: 0,
        });
        let may_end = (start.tolerance >= 0.0).then_some(&memory.phase);
        let ended_alone = plan.run(setup, args, nudge, iterations, may_end)?;
        let end = memory.phase.read()?[0];
        if ended_alone && end.done == 0 {
            let problem = format!(
                "the loop ended before the phase did, after {} of {iterations} iterations; EQPROP_WHILE=off does without it",
                end.iterations
            );
            return Err(CudaError::Kernel {
                kernel: kernels::CONTINUE_PHASE.name,
                problem,
            }
            .into());
        }
        if end.iterations % 2 == 1 {
            let moved = (setup.network().free_layers()).filter(|&l| plan.side(l) != Side::Only);
            for state in moved.map(|l| &memory.states(kind)[l]) {
                let bytes = state.sides[0].len();
                state.sides[0].copy_from(0, &state.sides[1], 0, bytes)?;
            }
        }
        Ok(end)
    }

    /// Post states at the convolutions' resolution, by the maxima at mean and half-difference.
    pub fn unpool_for_gradient(&mut self, setup: &Setup, weights: *const c_void) -> Result<()> {
        let plan = || Unpooled::plan(setup, &self.memory);
        planned(&mut self.unpooled, plan)?.at_mean(setup, weights)
    }

    /// The same with the free state in the place of the mean.
    pub fn unpool_at_free_state(&mut self, setup: &Setup) -> Result<()> {
        let plan = || Unpooled::plan(setup, &self.memory);
        planned(&mut self.unpooled, plan)?.at_free_state(setup, &self.memory)
    }
}

/// What is in its place, made when it is first asked for.
fn planned<P>(place: &mut Option<P>, plan: impl FnOnce() -> Result<P>) -> Result<&P> {
    if place.is_none() {
        *place = Some(plan()?);
    }
    Ok(place.as_ref().expect("it was just made"))
}
