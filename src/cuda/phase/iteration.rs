//! The iterations of a phase: launches, recorded once and replayed.

use super::pool::PoolUp;
use super::states::{Kind, Side};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Recording, bytes_of};
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::cuda::tables::sweep::Sweep;
use crate::error::Result;
use crate::network::Mode;
use crate::phase::{SAFEGUARD_GROWTH, SAFEGUARD_NEGLIGIBLE, SETTLING_ITERATIONS};
use std::ffi::c_void;

/// Iterations in one recording of a phase. Where it is the body of a loop, launches of a body after the end return at once: more iterations
/// mean more of those, fewer mean more turns.
const RECORDED: usize = 8;
/// Of a phase that may end early, without a loop: after so many recordings the host asks whether it has ended. Meanwhile the GPU runs dry
/// for some 20 us.
const UNTIL_LOOK: usize = 4;
/// Recordings that a plan keeps: nudging has as many strengths as signs of beta.
const RECORDINGS: usize = 4;

/// The sweeps of one iteration, the same in every iteration of a phase.
pub struct Iteration {
    /// brings pooling up to date before the first iteration
    pub prelude: Vec<PoolUp>,
    pub groups: Vec<Group>,
    pub changes: Buffer<EqChange>,
    /// by layer
    in_place: Vec<bool>,
    /// by the arguments that they were recorded with, the last one used last
    recorded: Vec<(Vec<u8>, Recorded)>,
}

/// So many iterations as were recorded.
enum Recorded {
    /// once
    Turn(Box<dyn Recording>),
    /// until the phase is done
    Loop(Box<dyn Recording>),
}

pub struct Group {
    /// the output is in this group
    pub has_output: bool,
    pub refresh: Vec<PoolUp>,
    pub unpool: Vec<EqPoolArgs>,
    pub sweep: Sweep,
    pub first_change: usize,
}

impl Iteration {
    /// `changes` is the number of tiles that report a change.
    pub fn new(
        setup: &Setup,
        prelude: Vec<PoolUp>,
        groups: Vec<Group>,
        in_place: Vec<bool>,
        changes: usize,
    ) -> Result<Self> {
        Ok(Self {
            prelude,
            groups,
            in_place,
            changes: Buffer::new(&setup.device, changes)?,
            recorded: Vec::new(),
        })
    }

    /// Where layer `l` is before an iteration.
    pub fn side(&self, l: usize) -> Side {
        if self.in_place[l] {
            Side::Only
        } else {
            Side::Old
        }
    }

    /// Runs so many iterations; `args` brings weights, progress and form. Where `may_end` names the progress, the phase has a tolerance.
    /// Returns whether the device has counted the iterations on its own.
    pub fn run(
        &mut self,
        setup: &Setup,
        args: EqRelaxArgs,
        nudge: Option<EqNudgeArgs>,
        iterations: usize,
        may_end: Option<&Buffer<EqPhase>>,
    ) -> Result<bool> {
        self.begin(setup, args)?;
        let mut left = iterations;
        if left >= RECORDED {
            let mut key = (args.weights as usize).to_le_bytes().to_vec();
            key.push(may_end.is_some().into());
            key.extend(
                nudge
                    .iter()
                    .flat_map(|args| bytes_of(std::slice::from_ref(args))),
            );
            match self.recorded.iter().position(|(other, _)| *other == key) {
                Some(found) => self.recorded[found..].rotate_left(1),
                None => {
                    self.launch(setup, args, nudge.as_ref())?;
                    left -= 1;
                    if let Some(recorded) = self.record(setup, args, nudge.as_ref(), may_end)? {
                        if self.recorded.len() == RECORDINGS {
                            self.recorded.remove(0);
                        }
                        self.recorded.push((key, recorded));
                    } else {
                        self.launch_all(setup, args, nudge.as_ref(), left)?;
                        return Ok(false);
                    }
                }
            }
            let recording = match &self.recorded.last().expect("found or just made").1 {
                Recorded::Loop(recording) => return recording.replay().map(|()| true),
                Recorded::Turn(recording) => recording,
            };
            for replayed in 1..=left / RECORDED {
                recording.replay()?;
                if replayed % UNTIL_LOOK == 0
                    && let Some(progress) = may_end
                    && progress.read()?[0].done != 0
                {
                    return Ok(false);
                }
            }
            left %= RECORDED;
        }
        self.launch_all(setup, args, nudge.as_ref(), left)?;
        Ok(false)
    }

    /// Iterations as a loop, if the phase may end early and the device can do that; else once, if it can do that.
    fn record(
        &self,
        setup: &Setup,
        args: EqRelaxArgs,
        nudge: Option<&EqNudgeArgs>,
        may_end: Option<&Buffer<EqPhase>>,
    ) -> Result<Option<Recorded>> {
        let device = &setup.device;
        let mut body = || self.launch_all(setup, args, nudge, RECORDED);
        if let Some(progress) = may_end
            && let Some(recording) = device.clone().record_loop(&mut body, progress.ptr())?
        {
            return Ok(Some(Recorded::Loop(recording)));
        }
        Ok(device.record(&mut body)?.map(Recorded::Turn))
    }

    /// What comes before the first iteration.
    pub fn begin(&self, setup: &Setup, args: EqRelaxArgs) -> Result<()> {
        (self.prelude.iter()).try_for_each(|up| up.launch(setup, args))
    }

    fn launch_all(
        &self,
        setup: &Setup,
        args: EqRelaxArgs,
        nudge: Option<&EqNudgeArgs>,
        iterations: usize,
    ) -> Result<()> {
        (0..iterations).try_for_each(|_| self.launch(setup, args, nudge))
    }

    /// The launches of one iteration.
    pub fn launch(
        &self,
        setup: &Setup,
        args: EqRelaxArgs,
        nudge: Option<&EqNudgeArgs>,
    ) -> Result<()> {
        let device = &*setup.device;
        for group in &self.groups {
            (group.refresh.iter()).try_for_each(|up| up.launch(setup, args))?;
            for down in &group.unpool {
                kernels::pool_down(device, setup.format, down)?;
            }
            if let Some(nudge) = nudge.filter(|_| group.has_output) {
                kernels::nudge(device, setup.format, nudge)?;
            }
            let args = EqRelaxArgs {
                changes: self.changes.at(group.first_change),
                ..args
            };
            group.sweep.launch(device, args)?;
        }
        let advance = EqAdvanceArgs {
            changes: self.changes.ptr(),
            phase: args.phase.cast_mut(),
            growth: SAFEGUARD_GROWTH,
            negligible: SAFEGUARD_NEGLIGIBLE,
            settling: SETTLING_ITERATIONS,
            count: self.changes.len() as u32,
        };
        kernels::advance_phase(device, &advance)
    }
}

/// A phase as the device runs it.
pub struct Phase {
    pub mode: Mode,
    pub kind: Kind,
    /// the output stays as it is
    pub is_clamped: bool,
    pub iterations: usize,
    /// omega, tolerance and what the safeguard starts from
    pub start: EqPhase,
    pub weights: *const c_void,
    pub nudging: Option<PhaseNudging>,
}

/// Nudging of a phase, as `kernels/cost.cu` takes it.
#[derive(Debug, Clone, Copy)]
pub struct PhaseNudging {
    pub cost: u32,
    /// of the two states; of a pair mean and half-difference of the two
    pub strengths: [f32; 2],
}
