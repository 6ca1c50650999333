//! How far gradient estimates are from the true gradient.

use super::axis::Axis;
use super::canvas::Figure;
use super::curves::with_heading;
use super::palette::in_order;
use super::panel::{Legend, Panel, Pen, Series};
use crate::diagnose::{Estimate, Iterations};
use crate::ep::Variant;
use anyhow::Result;

const PANELS: (i32, i32) = (1200, 700);
/// f64 has no digits below this.
const FLOOR: f64 = 1e-16;

/// What a panel shows of an estimate.
type Measure = fn(&Estimate) -> f64;

/// Angle and length against beta, a column of panels for each variant, a line for each number of iterations.
pub fn gradient_errors(title: &str, estimates: &[Estimate]) -> Result<Figure> {
    let mut lengths: Vec<Iterations> = Vec::new();
    let mut variants: Vec<Variant> = Vec::new();
    for estimate in estimates {
        if !lengths.contains(&estimate.iterations) {
            lengths.push(estimate.iterations);
        }
        if !variants.contains(&estimate.variant) {
            variants.push(estimate.variant);
        }
    }
    let pen = |i: usize| Pen::solid(in_order(i, lengths.len()));
    let quantities: [(&str, &str, Measure); 2] = [
        ("direction", "1 − cosine to the true gradient", |e| {
            e.all.one_minus_cosine
        }),
        ("length", "|1 − norm / true norm|", |e| {
            (1.0 - e.all.norm_ratio).abs()
        }),
    ];
    let x = Axis::log(
        "nudging strength β",
        estimates.iter().map(|e| e.beta),
        1e-12,
    );
    let mut panels = Vec::new();
    for (name, axis, of) in quantities {
        let y = Axis::log(axis, estimates.iter().map(of), FLOOR);
        for (c, &variant) in variants.iter().enumerate() {
            let line = |(i, length): (usize, &Iterations)| {
                let mine = |e: &&Estimate| e.variant == variant && e.iterations == *length;
                let points = estimates.iter().filter(mine).map(|e| (e.beta, of(e)));
                Series::Line(pen(i), points.collect())
            };
            panels.push(Panel {
                title: format!("{}: {name}", phases(variant)),
                subtitle: String::new(),
                x: x.clone(),
                y: if c == 0 { y.clone() } else { y.unlabelled() },
                series: lengths.iter().enumerate().map(line).collect(),
            });
        }
    }
    let entries = lengths.iter().enumerate().map(|(i, length)| {
        let name = match length {
            Iterations::Count { free, nudged } => format!("{free} + {nudged} iterations"),
            Iterations::Converged => "converged".into(),
        };
        (pen(i), name)
    });
    let legend = Legend(entries.collect());
    with_heading(PANELS, title, &legend, |area| {
        let parts = area.split_evenly((quantities.len(), variants.len()));
        panels.iter().zip(&parts).try_for_each(|(p, a)| p.draw(a))
    })
}

fn phases(variant: Variant) -> &'static str {
    match variant {
        Variant::Centered => "Centred (−β, +β)",
        Variant::Positive => "Positive (0, +β)",
        Variant::Negative => "Negative (−β, 0)",
    }
}
