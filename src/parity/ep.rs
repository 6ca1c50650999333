//! Kind `ep`: phases, gradients and training steps of a Hopfield network.
//!
//! What is recomputed follows from the names in the file: `free.k7.layer.*` asks for the state after 7 iterations,
//! `train.adamw.*` for training steps with AdamW. `case.rs` holds what the metadata says, `hopfield.rs` how a file is compared.

mod train;

use super::compare::{Difference, relative};
use super::golden::Golden;
use super::hopfield::{Bound, Replay, plain};
use super::report::{Report, Row};
use super::tolerance::{Scale, Tolerances};
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::network::{Mode, ParameterSet};
use crate::optim::{MAX_NORM, clip_scale};
use crate::phase::{NudgedPhase, Nudging, OutputCondition, PhaseState, Start, Variant};
use std::collections::BTreeSet;

pub fn replay(
    golden: &Golden,
    device: Device,
    precision: Precision,
    tolerances: &Tolerances,
    report: &mut Report,
) -> Result<()> {
    let mut replay = Replay::new(golden, device, precision, tolerances, report)?;
    replay.free_states()?;
    replay.free_outcome()?;
    replay.other_modes()?;
    replay.relax_freely(replay.case.mode, replay.case.free_iterations)?;
    replay.nudged_phases()?;
    replay.variants()?;
    replay.training()
}

impl Replay<'_> {
    /// Distinct numbers N with a tensor called `{prefix}N` or `{prefix}N.…`, ascending.
    fn numbers(&self, prefix: &str) -> BTreeSet<usize> {
        let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse().ok();
        self.golden.names().filter_map(number).collect()
    }

    /// Free phase from zero.
    fn relax_freely(&mut self, mode: Mode, iterations: usize) -> Result<()> {
        let (x, y) = (&self.case.x, &self.case.y);
        self.backend.load_batch(x, y, Start::Zero)?;
        self.backend.free_phase(&plain(mode, iterations))?;
        Ok(())
    }

    /// `free.kK.layer.l` and `energy.kK`
    fn free_states(&mut self) -> Result<()> {
        let states = self.numbers("free.k");
        let energies = self.numbers("energy.k");
        for &k in states.union(&energies) {
            self.relax_freely(self.case.mode, k)?;
            if states.contains(&k) {
                self.compare_states(
                    &format!("free.k{k}"),
                    PhaseState::Free,
                    self.tolerances.states(),
                )?;
            }
            if energies.contains(&k) {
                let outcome = self.backend.outcome(self.case.cost)?;
                self.compare_measure(&format!("energy.k{k}"), &outcome.energy)?;
            }
        }
        Ok(())
    }

    /// `free.cost` and `free.prediction`
    fn free_outcome(&mut self) -> Result<()> {
        self.relax_freely(self.case.mode, self.case.free_iterations)?;
        let outcome = self.backend.outcome(self.case.cost)?;
        if self.golden.has("free.cost") {
            self.compare_measure("free.cost", &outcome.cost)?;
        }
        let name = "free.prediction";
        if self.golden.has(name) {
            let floats = |v: &[usize]| v.iter().map(|&v| v as f64).collect::<Vec<_>>();
            let golden = floats(&self.golden.labels(name)?);
            let difference = Difference::of_vectors(name, &floats(&outcome.prediction), &golden)?;
            let parts = [(name.to_string(), difference)];
            self.report.tensors(name, &parts, Scale::Exact, Some(0.0));
        }
        Ok(())
    }

    /// `mode.M.kK.layer.l`
    fn other_modes(&mut self) -> Result<()> {
        for word in self.words("mode.") {
            let Ok(mode) = word.parse::<Mode>() else {
                continue; // reported as unknown tensors
            };
            for k in self.numbers(&format!("mode.{word}.k")) {
                self.relax_freely(mode, k)?;
                self.compare_states(
                    &format!("mode.{word}.k{k}"),
                    PhaseState::Free,
                    self.tolerances.states(),
                )?;
            }
        }
        Ok(())
    }

    /// `first.layer.l`, `second.layer.l`, `grad.*`
    fn nudged_phases(&mut self) -> Result<()> {
        let variant = self.case.variant;
        let forms = self.tolerances.forms;
        let (gradient, norm) = self.estimate(variant, forms[0])?;
        for (name, which) in [("first", PhaseState::First), ("second", PhaseState::Second)] {
            if self.any(&format!("{name}.layer.")) {
                self.compare_states(name, which, self.tolerances.states())?;
            }
        }
        if self.any("grad.raw.") {
            self.compare_gradient("grad.raw", &gradient, forms[0], self.bound())?;
        }
        if self.golden.has("grad.norm") {
            let tolerance = self.judge_small(self.tolerances.gradient_norm);
            self.compare_scalar("grad.norm", "grad.norm", norm, tolerance)?;
        }
        if self.any("grad.clipped.") {
            let clipped = scaled(&gradient, clip_scale(norm, MAX_NORM));
            let parts = self.differences("grad.clipped", &clipped)?;
            let (scale, tolerance) = (self.tolerances.gradient_scale, self.tolerances.gradient);
            self.report
                .tensors("grad.clipped", &parts, scale, self.judge_small(tolerance));
        }
        if self.any("grad.raw.") {
            for &form in &forms[1..] {
                let (gradient, _) = self.estimate(variant, form)?;
                self.compare_gradient("grad.raw", &gradient, form, self.bound())?;
            }
        }
        Ok(())
    }

    fn bound(&self) -> Bound {
        Bound {
            tolerance: self.judge_small(self.tolerances.gradient),
            scale: self.tolerances.gradient_scale,
        }
    }

    /// `variant.V.grad.raw.P`: another estimate from the same free state
    fn variants(&mut self) -> Result<()> {
        let words = self.words("variant.");
        for word in words {
            let Ok(variant) = word.parse::<Variant>() else {
                continue; // reported as unknown tensors
            };
            let quantity = format!("variant.{word}.grad.raw");
            if !self.any(&format!("{quantity}.")) {
                continue; // whatever it is, it is reported as unknown
            }
            for &form in self.tolerances.forms {
                let (gradient, _) = self.estimate(variant, form)?;
                self.compare_gradient(&quantity, &gradient, form, self.bound())?;
            }
        }
        Ok(())
    }

    /// Runs the nudged phases from the present free state; the gradient and its global norm.
    fn estimate(
        &mut self,
        variant: Variant,
        form: NudgedPhase,
    ) -> Result<(ParameterSet<f64>, f64)> {
        let nudging = Nudging {
            beta: self.case.beta,
            variant,
            form,
            output: OutputCondition::Nudged,
        };
        let relaxation = plain(self.case.mode, self.case.nudged_iterations);
        (self.backend).nudged_phases(&nudging, self.case.cost, &relaxation)?;
        self.backend.estimate_gradient()?;
        let norm = self.backend.gradient_norm()?;
        Ok((self.backend.gradient()?, norm))
    }

    /// One number per example.
    fn compare_measure(&mut self, name: &str, ours: &[f64]) -> Result<()> {
        let difference = Difference::of_vectors(name, ours, &self.golden.vector(name)?)?;
        let parts = [(String::new(), difference)];
        let tolerance = Some(self.tolerances.measures);
        self.report
            .tensors(name, &parts, Scale::TensorMax, tolerance);
        Ok(())
    }

    fn compare_scalar(
        &mut self,
        name: &str,
        quantity: &str,
        ours: f64,
        tolerance: Option<f64>,
    ) -> Result<()> {
        let golden = self.golden.scalar(name)?;
        self.report.row(Row {
            quantity: quantity.to_string(),
            absolute: (ours - golden).abs(),
            relative: relative((ours - golden).abs(), golden.abs()),
            scale: Scale::TensorMax,
            tolerance,
            note: String::new(),
        });
        Ok(())
    }
}

fn scaled(parameters: &ParameterSet<f64>, factor: f64) -> ParameterSet<f64> {
    let mut scaled = parameters.clone();
    (scaled.tensors_mut().iter_mut()).for_each(|t| t.mapv_inplace(|v| v * factor));
    scaled
}
