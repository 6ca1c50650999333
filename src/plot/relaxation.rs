//! A relaxation, iteration by iteration: energy, change and residual of the three phases, as a whole and by layer.

use super::axis::Axis;
use super::canvas::Figure;
use super::figure::{Layout, Style};
use super::palette::CATEGORIES;
use super::panel::{Legend, Panel, Series};
use super::pen::{Pen, in_order};
use crate::cpu::{PhaseTrace, Snapshot};
use crate::diagnose::RelaxationStudy;
use crate::error::Result;

const ROW: i32 = 320;
/// What rounding leaves in f64 is noise below this; the axes end here.
const FLOOR: f64 = 1e-14;

/// Four rows (energy, energy of each layer, change, residual of each layer) by three columns (free phase, both nudged phases).
///
/// # Errors
/// When it cannot be drawn.
pub fn relaxation(title: &str, study: &RelaxationStudy, style: &Style) -> Result<Figure> {
    let layers = study.layers.len();
    let [free, first, second] = &study.limits;
    let phases = [
        (&study.free, study.used.0, free),
        (&study.nudged.first, study.used.1, first),
        (&study.nudged.second, study.used.1, second),
    ];
    let state = Pen::solid(CATEGORIES[0]);
    let difference = Pen::dashed(CATEGORIES[1]);
    let layer = |i: usize| in_order(i, layers);

    let energies: Vec<Vec<f64>> = (phases.iter())
        .map(|(phase, _, limit)| distance(phase, limit))
        .collect();
    let energy = axis("½‖s‖² + E + βC, from its limit", energies.iter().flatten());
    let by_layer: Vec<Vec<Vec<f64>>> = phases
        .iter()
        .map(|(phase, _, limit)| {
            let layers = 0..layers;
            layers.map(|l| distance_of_layer(phase, limit, l)).collect()
        })
        .collect();
    let energy_of_layer = axis(
        "of a layer, from its limit",
        by_layer.iter().flatten().flatten(),
    );
    let changes: Vec<Vec<f64>> = phases.iter().map(|(phase, ..)| phase.changes()).collect();
    let all = changes.iter().flatten().chain(&study.nudged.difference);
    let change = axis("relative change in an iteration", all);
    let snapshots = phases.iter().flat_map(|(phase, ..)| &phase.snapshots);
    let residual = axis(
        "residual ‖clip(p) − s‖ / ‖s‖",
        snapshots.flat_map(|s| &s.residuals),
    );

    let mut panels = Vec::new();
    for (c, (phase, used, _)) in phases.iter().enumerate() {
        let count = phase.snapshots.len();
        let x = Axis::counts("iteration", count);
        let panel = |title: String, y: &Axis, mut lines: Vec<Series>| {
            if *used < count {
                lines.push(Series::Mark(*used as f64));
            }
            let y = if c == 0 { y.clone() } else { y.unlabelled() };
            Panel::new(title, x.clone(), y, lines)
        };
        let name = phase_name(phase, c > 0);
        let energies = vec![Series::Line(state, by_iteration(&energies[c]))];
        let mut lines = vec![Series::Line(state, by_iteration(&changes[c]))];
        if c > 0 {
            let values = by_iteration(&study.nudged.difference);
            lines.push(Series::Line(difference, values));
        }
        let residuals = (0..layers).map(|l| {
            let values: Vec<f64> = phase.snapshots.iter().map(|s| s.residuals[l]).collect();
            Series::Line(layer(l), by_iteration(&values))
        });
        let layer_energies = (0..layers)
            .map(|l| Series::Line(layer(l), by_iteration(&by_layer[c][l])))
            .collect();
        panels.push((c, panel(format!("{name}: energy"), &energy, energies)));
        let title = format!("{name}: energy by layer");
        panels.push((3 + c, panel(title, &energy_of_layer, layer_energies)));
        panels.push((6 + c, panel(format!("{name}: change"), &change, lines)));
        let title = format!("{name}: residual by layer");
        panels.push((9 + c, panel(title, &residual, residuals.collect())));
    }
    let mut legend = vec![
        (state, "all layers".to_string()),
        (
            difference,
            "difference of the two nudged states".to_string(),
        ),
        (
            Pen::mark(),
            "iterations that the run makes at most".to_string(),
        ),
    ];
    legend.extend(
        study
            .layers
            .iter()
            .enumerate()
            .map(|(l, name)| (layer(l), name.clone())),
    );
    panels.sort_by_key(|(place, _)| *place);
    let panels: Vec<Panel> = panels.into_iter().map(|(_, panel)| panel).collect();
    let layout = Layout {
        title,
        row: ROW,
        columns: Some(phases.len()),
        panels: &panels,
        legend: Legend(legend),
    };
    layout.draw(style)
}

fn phase_name(phase: &PhaseTrace, nudged: bool) -> String {
    if nudged {
        format!("Nudged, β = {:+}", phase.beta).replace('-', "−")
    } else {
        "Free".into()
    }
}

fn axis<'a>(name: &str, values: impl Iterator<Item = &'a f64>) -> Axis {
    Axis::log(name, values.copied(), FLOOR)
}

fn by_iteration(values: &[f64]) -> Vec<(f64, f64)> {
    let points = values.iter().enumerate();
    points.map(|(i, &v)| ((i + 1) as f64, v)).collect()
}

/// How far the energy still is from where a longer phase ends.
fn distance(phase: &PhaseTrace, limit: &[f64]) -> Vec<f64> {
    let limit: f64 = limit.iter().sum();
    let distance = |s: &Snapshot| (s.energy() - limit).abs();
    phase.snapshots.iter().map(distance).collect()
}

/// How far a layer's part of the energy, which may rise too, is from where it ends.
fn distance_of_layer(phase: &PhaseTrace, limit: &[f64], l: usize) -> Vec<f64> {
    let distance = |s: &Snapshot| (s.energies[l] - limit[l]).abs();
    phase.snapshots.iter().map(distance).collect()
}
