//! How far gradient estimates are from the true gradient.

use super::axis::Axis;
use super::canvas::Figure;
use super::figure::{Layout, Style};
use super::panel::{Legend, Panel, Series};
use super::pen::{Pen, in_order};
use crate::diagnose::{Estimate, Iterations};
use crate::error::Result;
use crate::network::Network;
use crate::phase::Variant;

const ROW: i32 = 350;
/// Of the picture by tensor.
const SMALL_ROW: i32 = 190;
/// f64 has no digits below this.
const FLOOR: f64 = 1e-16;

/// What a panel shows of an estimate.
type Measure = fn(&Estimate) -> f64;

/// Angle and length against beta, a column of panels for each variant, a line for each number of iterations. `beta` is the
/// run's own.
///
/// # Errors
/// When there is no estimate to draw.
pub fn gradient_errors(
    title: &str,
    estimates: &[Estimate],
    beta: f64,
    style: &Style,
) -> Result<Figure> {
    let lengths = distinct(estimates.iter().map(|e| e.iterations));
    let variants = distinct(estimates.iter().map(|e| e.variant));
    let quantities: [(&str, &str, Measure); 2] = [
        ("direction", "1 − cosine to the true gradient", |e| {
            e.all.one_minus_cosine
        }),
        ("length", "|1 − norm / true norm|", |e| {
            (1.0 - e.all.norm_ratio).abs()
        }),
    ];
    let x = beta_axis(estimates.iter(), beta);
    let mut panels = Vec::new();
    for (name, axis, of) in quantities {
        let y = Axis::log(axis, estimates.iter().map(of), FLOOR);
        for (c, &variant) in variants.iter().enumerate() {
            let line = |(i, length): (usize, &Iterations)| {
                let mine = |e: &&Estimate| e.variant == variant && e.iterations == *length;
                let points = estimates.iter().filter(mine).map(|e| (e.beta, of(e)));
                Series::Line(pen(i, &lengths), points.collect())
            };
            let mut series: Vec<_> = lengths.iter().enumerate().map(line).collect();
            series.push(Series::Mark(beta));
            panels.push(Panel::new(
                format!("{}: {name}", phases(variant)),
                x.clone(),
                if c == 0 { y.clone() } else { y.unlabelled() },
                series,
            ));
        }
    }
    let layout = Layout {
        title,
        row: ROW,
        columns: Some(variants.len()),
        panels: &panels,
        legend: legend(&lengths, beta),
    };
    layout.draw(style)
}

/// Angle against beta, a panel for each tensor, of estimates of one variant.
///
/// # Errors
/// When there is no estimate to draw.
pub fn gradient_errors_by_tensor(
    title: &str,
    network: &Network,
    estimates: &[&Estimate],
    beta: f64,
    style: &Style,
) -> Result<Figure> {
    let lengths = distinct(estimates.iter().map(|e| e.iterations));
    let x = beta_axis(estimates.iter().copied(), beta);
    let tensors = estimates.iter().flat_map(|e| &e.tensors);
    let y = Axis::log("1 − cosine", tensors.map(|a| a.one_minus_cosine), FLOOR);
    let panels = network.parameter_titles().into_iter().enumerate();
    let panels = panels.map(|(t, title)| {
        let line = |(i, length): (usize, &Iterations)| {
            let mine = estimates.iter().filter(|e| e.iterations == *length);
            let points = mine.map(|e| (e.beta, e.tensors[t].one_minus_cosine));
            Series::Line(pen(i, &lengths), points.collect())
        };
        let mut series: Vec<_> = lengths.iter().enumerate().map(line).collect();
        series.push(Series::Mark(beta));
        Panel::new(title, x.clone(), y.clone(), series)
    });
    let panels: Vec<Panel> = panels.collect();
    let layout = Layout {
        title,
        row: SMALL_ROW,
        columns: None,
        panels: &panels,
        legend: legend(&lengths, beta),
    };
    layout.draw(style)
}

/// Holds the run's beta too, whether it was tried or not.
fn beta_axis<'a>(estimates: impl Iterator<Item = &'a Estimate>, beta: f64) -> Axis {
    let betas = estimates.map(|e| e.beta).chain([beta]);
    Axis::log("nudging strength β", betas, 1e-12)
}

/// From few iterations to many. The converged line often lies on the one before it, which shows between the dashes.
fn pen(i: usize, lengths: &[Iterations]) -> Pen {
    let pen = in_order(i, lengths.len());
    match lengths[i] {
        Iterations::Count { .. } => pen,
        Iterations::Converged => Pen::dashed(pen.colour),
    }
}

fn legend(lengths: &[Iterations], beta: f64) -> Legend {
    let entries = lengths.iter().enumerate().map(|(i, length)| {
        let name = match length {
            Iterations::Count { free, nudged } => format!("{free} + {nudged} iterations"),
            Iterations::Converged => "converged".into(),
        };
        (pen(i, lengths), name)
    });
    let mark = (Pen::mark(), format!("β of the run, {beta}"));
    Legend(entries.chain([mark]).collect())
}

/// In the order of their first appearance.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

fn phases(variant: Variant) -> &'static str {
    match variant {
        Variant::Centered => "Centred (−β, +β)",
        Variant::Positive => "Positive (0, +β)",
        Variant::Negative => "Negative (−β, 0)",
    }
}
