//! Kind `ep`: phases, gradients and training steps of a Hopfield network.
//!
//! What is recomputed follows from the names in the file: `free.k7.layer.*` asks for the state after 7 iterations,
//! `train.adamw.*` for training steps with AdamW. `setup` holds what the metadata says.

mod setup;
mod train;

use super::compare::{Difference, relative};
use super::golden::Golden;
use super::report::{Report, Row, SMALL_TENSOR, global};
use super::tolerance::{Scale, Tolerances};
use crate::device::{Device, Precision};
use crate::network::{Mode, ParameterSet};
use crate::optim::{MAX_NORM, clip_scale};
use crate::phase::{
    Backend, NudgedPhase, Nudging, OutputCondition, PhaseState, Relaxation, Start, Variant,
};
use anyhow::Result;
use ndarray::ArrayD;
use setup::Setup;
use std::collections::BTreeSet;

/// The file being replayed, and the backend that recomputes it.
struct Replay<'a> {
    golden: &'a Golden,
    setup: Setup,
    tolerances: &'a Tolerances,
    backend: Box<dyn Backend>,
    report: &'a mut Report,
}

pub fn replay(
    golden: &Golden,
    device: Device,
    precision: Precision,
    tolerances: &Tolerances,
    report: &mut Report,
) -> Result<()> {
    let setup = Setup::read(golden)?;
    let mut backend = device.backend(&setup.network, precision)?;
    backend.set_parameters(&setup.parameters)?;
    report.title = format!("{} ({})", setup.title, backend.describe());
    let mut replay = Replay {
        golden,
        setup,
        tolerances,
        backend,
        report,
    };
    replay.free_states()?;
    replay.free_outcome()?;
    replay.other_modes()?;
    replay.relax_freely(replay.setup.mode, replay.setup.free_iterations)?;
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

    /// Distinct words W with a tensor called `{prefix}W.…`.
    fn words(&self, prefix: &str) -> BTreeSet<String> {
        let word = |name: &str| Some(name.strip_prefix(prefix)?.split('.').next()?.to_string());
        self.golden.names().filter_map(word).collect()
    }

    /// Whether any tensor's name starts with `prefix`.
    fn any(&self, prefix: &str) -> bool {
        self.golden.names().any(|name| name.starts_with(prefix))
    }

    /// Free phase from zero.
    fn relax_freely(&mut self, mode: Mode, iterations: usize) -> Result<()> {
        let (x, y) = (&self.setup.x, &self.setup.y);
        self.backend.load_batch(x, y, Start::Zero)?;
        self.backend.free_phase(&plain(mode, iterations))?;
        Ok(())
    }

    /// `free.kK.layer.l` and `energy.kK`
    fn free_states(&mut self) -> Result<()> {
        let states = self.numbers("free.k");
        let energies = self.numbers("energy.k");
        for &k in states.union(&energies) {
            self.relax_freely(self.setup.mode, k)?;
            if states.contains(&k) {
                self.compare_states(&format!("free.k{k}"), PhaseState::Free)?;
            }
            if energies.contains(&k) {
                let outcome = self.backend.outcome(self.setup.cost)?;
                self.compare_measure(&format!("energy.k{k}"), &outcome.energy)?;
            }
        }
        Ok(())
    }

    /// `free.cost` and `free.prediction`
    fn free_outcome(&mut self) -> Result<()> {
        self.relax_freely(self.setup.mode, self.setup.free_iterations)?;
        let outcome = self.backend.outcome(self.setup.cost)?;
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
                self.compare_states(&format!("mode.{word}.k{k}"), PhaseState::Free)?;
            }
        }
        Ok(())
    }

    /// `first.layer.l`, `second.layer.l`, `grad.*`
    fn nudged_phases(&mut self) -> Result<()> {
        let variant = self.setup.variant;
        let forms = self.tolerances.forms;
        let (gradient, norm) = self.estimate(variant, forms[0])?;
        for (name, which) in [("first", PhaseState::First), ("second", PhaseState::Second)] {
            if self.any(&format!("{name}.layer.")) {
                self.compare_states(name, which)?;
            }
        }
        if self.any("grad.raw.") {
            self.compare_gradient("grad.raw", &gradient, forms[0])?;
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
                self.compare_gradient("grad.raw", &gradient, form)?;
            }
        }
        Ok(())
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
                self.compare_gradient(&quantity, &gradient, form)?;
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
            beta: self.setup.beta,
            variant,
            form,
            output: OutputCondition::Nudged,
        };
        let relaxation = plain(self.setup.mode, self.setup.nudged_iterations);
        (self.backend).nudged_phases(&nudging, self.setup.cost, &relaxation)?;
        self.backend.estimate_gradient()?;
        let norm = self.backend.gradient_norm()?;
        Ok((self.backend.gradient()?, norm))
    }

    fn compare_states(&mut self, prefix: &str, which: PhaseState) -> Result<()> {
        let states = self.backend.states(which)?;
        let mut parts = Vec::new();
        for (l, state) in (1..).zip(&states) {
            let name = format!("{prefix}.layer.{l}");
            let golden = self.golden.floats(&name)?;
            parts.push((format!("layer.{l}"), Difference::of(&name, state, &golden)?));
        }
        let quantity = format!("{prefix}.layer");
        let (unit, layer) = (self.tolerances.unit, self.tolerances.layer);
        (self.report).tensors(&quantity, &parts, Scale::TensorMax, Some(unit));
        (self.report).tensors(&quantity, &parts, Scale::LayerNorm, Some(layer));
        Ok(())
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

    /// A whole gradient: its error, and its direction.
    fn compare_gradient(
        &mut self,
        prefix: &str,
        gradient: &ParameterSet<f64>,
        form: NudgedPhase,
    ) -> Result<()> {
        let parts = self.differences(prefix, gradient)?;
        let t = self.tolerances;
        let label = labelled(prefix, form);
        let tolerance = self.judge_small(t.gradient);
        let angle = match form {
            NudgedPhase::Direct => t.angle,
            NudgedPhase::SumDifference if self.setup.is_precision => t.angle_trained,
            NudgedPhase::SumDifference | NudgedPhase::Linear => t.angle_sum_difference,
        };
        self.report
            .tensors(&label, &parts, t.gradient_scale, tolerance);
        let whole = global(&parts);
        // A tensor without a gradient to speak of has no direction.
        let small = SMALL_TENSOR * whole.golden_norm();
        let worst = (parts.iter().filter(|(_, d)| d.golden_norm() > small))
            .map(|(name, d)| (d.cosine(), name))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        self.report.row(Row {
            quantity: format!("{label}: direction"),
            absolute: whole.max,
            relative: (1.0 - whole.cosine()).max(0.0),
            scale: Scale::Angle,
            tolerance: Some(angle),
            note: worst.map_or(String::new(), |(cosine, name)| {
                format!("{name} alone: cosine {cosine:.9}")
            }),
        });
        Ok(())
    }

    /// One difference per parameter.
    fn differences(
        &self,
        prefix: &str,
        ours: &ParameterSet<f64>,
    ) -> Result<Vec<(String, Difference)>> {
        let names = self.setup.network.parameter_names();
        let difference = |(parameter, tensor): (String, &ArrayD<f64>)| {
            let name = format!("{prefix}.{parameter}");
            let golden = self.golden.floats(&name)?;
            Ok((parameter, Difference::of(&name, tensor, &golden)?))
        };
        names
            .into_iter()
            .zip(ours.tensors())
            .map(difference)
            .collect()
    }

    /// The small gradient of a trained network is judged by its direction alone where the arithmetic does not resolve
    /// its elements.
    fn judge_small(&self, tolerance: f64) -> Option<f64> {
        let small = self.setup.is_precision && !self.tolerances.resolves_small_gradients;
        (!small).then_some(tolerance)
    }
}

/// Quantities of the direct form bear the tensor's name alone.
fn labelled(name: &str, form: NudgedPhase) -> String {
    match form {
        NudgedPhase::Direct => name.to_string(),
        NudgedPhase::SumDifference => format!("{name}, sum-difference"),
        NudgedPhase::Linear => format!("{name}, linear response"),
    }
}

/// `iterations` plain updates, no tolerance.
fn plain(mode: Mode, iterations: usize) -> Relaxation {
    Relaxation {
        mode,
        iterations,
        omega: 1.0,
        tolerance: None,
    }
}

fn scaled(parameters: &ParameterSet<f64>, factor: f64) -> ParameterSet<f64> {
    let mut scaled = parameters.clone();
    (scaled.tensors_mut().iter_mut()).for_each(|t| t.mapv_inplace(|v| v * factor));
    scaled
}
