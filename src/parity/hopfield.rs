//! The replay of a Hopfield network's file, whatever its kind: the backend that recomputes it, and what is compared.

use super::case::Case;
use super::compare::Difference;
use super::golden::Golden;
use super::report::{Report, Row, SMALL_TENSOR, global};
use super::tolerance::{Scale, Tolerances};
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::network::{Mode, ParameterSet};
use crate::phase::{Backend, NudgedPhase, PhaseState, Relaxation};
use ndarray::ArrayD;
use std::collections::BTreeSet;

/// The file being replayed, and the backend that recomputes it.
pub struct Replay<'a> {
    pub golden: &'a Golden,
    pub case: Case,
    pub tolerances: &'a Tolerances,
    pub backend: Box<dyn Backend>,
    pub report: &'a mut Report,
}

/// How far the tensors of a gradient may be off.
#[derive(Clone, Copy)]
pub struct Bound {
    pub scale: Scale,
    /// `None`: the direction alone is judged
    pub tolerance: Option<f64>,
}

impl<'a> Replay<'a> {
    /// Reads the configuration and prepares a backend with its parameters.
    pub fn new(
        golden: &'a Golden,
        device: Device,
        precision: Precision,
        tolerances: &'a Tolerances,
        report: &'a mut Report,
    ) -> Result<Self> {
        let case = Case::read(golden)?;
        let mut backend = device.backend(&case.network, precision)?;
        backend.set_parameters(&case.parameters)?;
        report.title = format!("{} ({})", case.title, backend.describe());
        Ok(Self {
            golden,
            case,
            tolerances,
            backend,
            report,
        })
    }

    /// Distinct words W with a tensor called `{prefix}W.…`.
    pub fn words(&self, prefix: &str) -> BTreeSet<String> {
        let word = |name: &str| Some(name.strip_prefix(prefix)?.split('.').next()?.to_string());
        self.golden.names().filter_map(word).collect()
    }

    /// Whether any tensor's name starts with `prefix`.
    pub fn any(&self, prefix: &str) -> bool {
        self.golden.names().any(|name| name.starts_with(prefix))
    }

    /// A state, whose tolerances are those of its worst unit and of each layer as a whole.
    pub fn compare_states(
        &mut self,
        prefix: &str,
        which: PhaseState,
        (unit, layer): (f64, f64),
    ) -> Result<()> {
        let states = self.backend.states(which)?;
        let mut parts = Vec::new();
        for (l, state) in (1..).zip(&states) {
            let name = format!("{prefix}.layer.{l}");
            let golden = self.golden.floats(&name)?;
            parts.push((format!("layer.{l}"), Difference::of(&name, state, &golden)?));
        }
        let quantity = format!("{prefix}.layer");
        (self.report).tensors(&quantity, &parts, Scale::TensorMax, Some(unit));
        (self.report).tensors(&quantity, &parts, Scale::LayerNorm, Some(layer));
        Ok(())
    }

    /// A whole gradient: its error, and its direction.
    pub fn compare_gradient(
        &mut self,
        prefix: &str,
        gradient: &ParameterSet<f64>,
        form: NudgedPhase,
        bound: Bound,
    ) -> Result<()> {
        let parts = self.differences(prefix, gradient)?;
        let t = self.tolerances;
        let label = labelled(prefix, form);
        let angle = match form {
            NudgedPhase::Direct => t.angle,
            NudgedPhase::SumDifference if self.case.is_precision => t.angle_trained,
            NudgedPhase::SumDifference | NudgedPhase::Linear => t.angle_sum_difference,
        };
        self.report
            .tensors(&label, &parts, bound.scale, bound.tolerance);
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
    pub fn differences(
        &self,
        prefix: &str,
        ours: &ParameterSet<f64>,
    ) -> Result<Vec<(String, Difference)>> {
        let names = self.case.network.parameter_names();
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
    pub fn judge_small(&self, tolerance: f64) -> Option<f64> {
        let small = self.case.is_precision && !self.tolerances.resolves_small_gradients;
        (!small).then_some(tolerance)
    }
}

/// Quantities of the direct form bear the tensor's name alone.
pub fn labelled(name: &str, form: NudgedPhase) -> String {
    match form {
        NudgedPhase::Direct => name.to_string(),
        NudgedPhase::SumDifference => format!("{name}, sum-difference"),
        NudgedPhase::Linear => format!("{name}, linear response"),
    }
}

/// `iterations` plain updates, no tolerance.
pub fn plain(mode: Mode, iterations: usize) -> Relaxation {
    Relaxation {
        mode,
        iterations,
        omega: 1.0,
        tolerance: None,
    }
}
