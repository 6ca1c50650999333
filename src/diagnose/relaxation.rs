//! How many iterations the phases of a batch need.

use crate::cpu::{NudgedTrace, PhaseTrace, TracingBackend};
use crate::data::Batch;
use crate::error::Result;
use crate::network::{Network, ParameterSet};
use crate::phase::{CostFunction, Nudging, Relaxation, Start};
use std::fmt::Write;

/// The phases of one batch, watched on the CPU.
pub struct RelaxationStudy {
    /// names of the free layers
    pub layers: Vec<String>,
    /// from zero
    pub free: PhaseTrace,
    /// from the last state of the free phase
    pub nudged: NudgedTrace,
    /// energies of the layers, as in [`Snapshot::energies`](crate::cpu::Snapshot), where the free and both nudged phases end
    /// when they go on for [`LONGER`] times as many iterations
    pub limits: [Vec<f64>; 3],
    /// iterations that the run gives the free and the nudged phases
    pub used: (usize, usize),
}

/// How much longer than shown a phase is followed for its limit: measured from the last value shown, every curve would
/// bend down at its end, converged or not.
pub const LONGER: usize = 3;

/// Relaxes a batch on a backend of the network from zero and then both nudged phases; all iterations of `free` and `nudged` are run,
/// whatever their tolerance.
///
/// # Errors
/// When images and labels are no batch for the network.
pub fn study_relaxation(
    network: &Network,
    backend: &mut dyn TracingBackend,
    parameters: &ParameterSet<f64>,
    batch: &Batch,
    (free, nudged): (&Relaxation, &Relaxation),
    (nudging, cost): (&Nudging, CostFunction),
    used: (usize, usize),
) -> Result<RelaxationStudy> {
    let followed = |relaxation: &Relaxation| Relaxation {
        iterations: LONGER * relaxation.iterations,
        tolerance: None,
        ..*relaxation
    };
    backend.set_parameters(parameters)?;
    backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
    let longer = backend.trace_free_phase(&followed(free));
    // The nudged phases go on from what is shown.
    backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
    backend.free_phase(&Relaxation {
        tolerance: None,
        ..*free
    })?;
    let nudged_longer = backend.trace_nudged_phases(nudging, cost, &followed(nudged))?;
    let layers = network
        .free_layers()
        .map(|l| network.layers()[l].name.clone());
    let (free, free_limit) = shown(longer, free.iterations);
    let (first, first_limit) = shown(nudged_longer.first, nudged.iterations);
    let (second, second_limit) = shown(nudged_longer.second, nudged.iterations);
    let mut difference = nudged_longer.difference;
    difference.truncate(nudged.iterations);
    Ok(RelaxationStudy {
        layers: layers.collect(),
        free,
        nudged: NudgedTrace {
            first,
            second,
            difference,
        },
        limits: [free_limit, first_limit, second_limit],
        used,
    })
}

/// The first `iterations` of a phase, and the layers' energies at its end.
fn shown(mut phase: PhaseTrace, iterations: usize) -> (PhaseTrace, Vec<f64>) {
    let limit = phase.snapshots.last().map(|s| s.energies.clone());
    phase.snapshots.truncate(iterations);
    (phase, limit.unwrap_or_default())
}

/// The tolerances of the table.
pub const TOLERANCES: [f64; 6] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/// The iteration, counted from 1, that a phase with this tolerance ends with, and the one from which on the values stay
/// below it; the second is `None` when the last value is above.
pub fn first_below(values: &[f64], tolerance: f64) -> Option<(usize, Option<usize>)> {
    let first = values.iter().position(|&v| v < tolerance)?;
    // The last value that is not below; NaN is not.
    let last_above = values
        .iter()
        .rposition(|v| !matches!(v.partial_cmp(&tolerance), Some(std::cmp::Ordering::Less)));
    let stays = last_above.map_or(1, |i| i + 2);
    Some((first + 1, (stays <= values.len()).then_some(stays)))
}

impl RelaxationStudy {
    /// Two tables: the iteration at which each tolerance is reached, by the relative change (what `--tolerance` asks), and
    /// by the residual of the slowest layer.
    pub fn tables(&self) -> String {
        let nudged = [&self.nudged.first, &self.nudged.second];
        let names = nudged.map(|phase| format!("beta {:+}", phase.beta));
        let mut columns = vec![("free", self.free.changes())];
        columns.extend(
            names
                .iter()
                .zip(nudged)
                .map(|(n, p)| (n.as_str(), p.changes())),
        );
        columns.push(("difference", self.nudged.difference.clone()));
        let mut text = String::from("relative change of the states in an iteration is below\n");
        text += &table(&columns);

        let slowest = |phase: &PhaseTrace| -> Vec<f64> {
            let largest = |residuals: &Vec<f64>| residuals.iter().copied().fold(0.0, f64::max);
            phase
                .snapshots
                .iter()
                .map(|s| largest(&s.residuals))
                .collect()
        };
        let mut columns = vec![("free", slowest(&self.free))];
        columns.extend(
            names
                .iter()
                .zip(nudged)
                .map(|(n, p)| (n.as_str(), slowest(p))),
        );
        text += "\nresidual |clip(p) - s| / |s| of the slowest layer is below\n";
        text += &table(&columns);
        text += "\n7 = at iteration 7 and from then on; 7..12 = first at 7, but for good only from 12;\n\
                 7.. = first at 7, but above at the end; >30 = not within 30 iterations\n";
        text
    }

    /// One line per phase and iteration, comma-separated.
    pub fn csv(&self) -> String {
        let mut text = String::from("phase,beta,iteration,energy,change,difference_change");
        for quantity in ["residual", "energy"] {
            for name in &self.layers {
                let _ = write!(text, ",{quantity} {name}");
            }
        }
        text.push('\n');
        let phases = [
            ("free", &self.free),
            ("first", &self.nudged.first),
            ("second", &self.nudged.second),
        ];
        for (name, phase) in phases {
            for (i, snapshot) in phase.snapshots.iter().enumerate() {
                let _ = write!(
                    text,
                    "{name},{},{},{},{:e},",
                    phase.beta,
                    i + 1,
                    snapshot.energy(),
                    snapshot.change
                );
                if name != "free" {
                    let _ = write!(text, "{:e}", self.nudged.difference[i]);
                }
                for residual in &snapshot.residuals {
                    let _ = write!(text, ",{residual:e}");
                }
                for energy in &snapshot.energies {
                    let _ = write!(text, ",{energy}");
                }
                text.push('\n');
            }
        }
        text
    }
}

fn table(columns: &[(&str, Vec<f64>)]) -> String {
    const WIDTH: usize = 14;
    let mut text = format!("{:<10}", "");
    for (name, _) in columns {
        let _ = write!(text, "{name:>WIDTH$}");
    }
    text.push('\n');
    for tolerance in TOLERANCES {
        let _ = write!(text, "{:<10}", format!("{tolerance:.0e}"));
        for (_, values) in columns {
            let cell = match first_below(values, tolerance) {
                None => format!(">{}", values.len()),
                Some((first, Some(stays))) if first == stays => first.to_string(),
                Some((first, Some(stays))) => format!("{first}..{stays}"),
                Some((first, None)) => format!("{first}.."),
            };
            let _ = write!(text, "{cell:>WIDTH$}");
        }
        text.push('\n');
    }
    text
}
