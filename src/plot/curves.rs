//! Learning curves of one or several runs, or of groups of runs that differ only in the seed.

use super::axis::Axis;
use super::canvas::Figure;
use super::figure::{Layout, Style};
use super::palette::{CATEGORIES, INK};
use super::panel::{Legend, Panel, Series};
use super::pen::Pen;
use crate::error::{Result, ensure};
use crate::run::{Measures, Record};

/// What one run, or several that belong together, recorded.
pub struct Curve {
    /// in the legend
    pub name: String,
    /// what its costs are: those of different names have panels of their own
    pub cost: String,
    /// by run; of more than one the mean is drawn as a line, and their range as a band
    pub runs: Vec<Vec<Record>>,
}

/// Curves whose colours can be told apart.
pub const MOST_CURVES: usize = CATEGORIES.len();

const ROW: i32 = 430;
/// Where logarithmic axes end: a single wrong image of 100,000, and a cost of no importance.
const LEAST_ERROR: f64 = 1e-3;
const LEAST_COST: f64 = 1e-6;

/// Which pass over images.
type Pass = fn(&Record) -> &Measures;
/// What a panel shows of one.
type Quantity = fn(&Measures) -> f64;

/// How a pass is drawn.
type Stroke = fn(plotters::style::RGBColor) -> Pen;

const PASSES: [(Pass, Stroke); 2] = [(|r| &r.train, Pen::dashed), (|r| &r.test, Pen::solid)];

/// Top-1 error and cost over the epochs: the test's as solid lines, the training's as dashed ones.
///
/// # Errors
/// When no run has an epoch to draw.
pub fn learning_curves(curves: &[Curve], style: &Style) -> Result<Figure> {
    ensure!(
        Figure,
        curves.len() <= MOST_CURVES,
        "{} runs in one picture cannot be told apart; plot at most {MOST_CURVES}",
        curves.len()
    );
    let all: Vec<(&Curve, _)> = curves.iter().zip(CATEGORIES).collect();
    let percent: Quantity = |m| 100.0 * m.top1_error;
    let name = "images classified wrongly (%)";
    let mut error = panel("Top-1 error", name, percent, LEAST_ERROR, &all, style);
    error.right = Some(error.y.complement("accuracy (%)", 100.0));
    let mut panels = vec![error];
    // Costs of different definitions have no axis in common.
    let mut kinds: Vec<&str> = Vec::new();
    for curve in curves {
        if !kinds.contains(&curve.cost.as_str()) {
            kinds.push(&curve.cost);
        }
    }
    for kind in &kinds {
        let those: Vec<_> = all
            .iter()
            .filter(|(c, _)| c.cost == *kind)
            .copied()
            .collect();
        let title = match kind.is_empty() {
            true => "Cost".into(),
            false => format!("Cost: {kind}"),
        };
        let axis = "mean cost per image";
        panels.push(panel(&title, axis, |m| m.cost, LEAST_COST, &those, style));
    }

    let mut legend: Vec<(Pen, String)> = Vec::new();
    for (curve, colour) in &all {
        let name = match curve.runs.len() {
            1 => curve.name.clone(),
            n => format!("{} (mean and range of {n} runs)", curve.name),
        };
        legend.push((Pen::solid(*colour), name));
    }
    legend.push((Pen::solid(INK), "test images".into()));
    legend.push((Pen::dashed(INK), "training images, augmented".into()));
    let title = match curves {
        [curve] => format!("Learning curves of {}", curve.name),
        _ => "Learning curves".into(),
    };
    let layout = Layout {
        title: &title,
        row: ROW,
        columns: Some(panels.len()),
        panels: &panels,
        legend: Legend(legend),
    };
    layout.draw(style)
}

fn panel(
    title: &str,
    axis: &str,
    of: Quantity,
    least: f64,
    curves: &[(&Curve, plotters::style::RGBColor)],
    style: &Style,
) -> Panel {
    let mut series = Vec::new();
    let mut values = Vec::new();
    let mut last = 1;
    for (curve, colour) in curves {
        for (pass, pen) in PASSES {
            let points = by_epoch(&curve.runs, |record| of(pass(record)));
            values.extend(points.iter().flat_map(|p| [p.low, p.high]));
            last = last.max(points.last().map_or(1, |p| p.epoch));
            let x = |p: &Spread| p.epoch as f64;
            if curve.runs.len() > 1 {
                let band = points.iter().map(|p| (x(p), p.low, p.high));
                series.push(Series::Band(*colour, band.collect()));
            }
            let line = points.iter().map(|p| (x(p), p.mean)).collect();
            series.push(Series::Line(pen(*colour), line));
        }
    }
    let y = match style.log {
        true => Axis::log(axis, values.into_iter(), least),
        false => Axis::from_zero(axis, values.into_iter()),
    };
    Panel::new(title, Axis::counts("epoch", last), y, series)
}

/// A quantity of several runs after one epoch.
struct Spread {
    epoch: usize,
    mean: f64,
    low: f64,
    high: f64,
}

/// For the epochs that all runs have come to: means of fewer would jump.
fn by_epoch(runs: &[Vec<Record>], of: impl Fn(&Record) -> f64) -> Vec<Spread> {
    let shortest = runs.iter().map(Vec::len).min().unwrap_or(0);
    let at = |i: usize| {
        let values: Vec<f64> = runs.iter().map(|run| of(&run[i])).collect();
        Spread {
            epoch: runs[0][i].epoch,
            mean: values.iter().sum::<f64>() / values.len() as f64,
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    };
    (0..shortest).map(at).collect()
}
