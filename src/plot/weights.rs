//! How the values of each parameter tensor are distributed.

use super::axis::Axis;
use super::canvas::Figure;
use super::figure::{Layout, Style};
use super::palette::CATEGORIES;
use super::panel::{Legend, Panel, Series};
use crate::error::{Result, ensure};
use crate::network::ParameterSet;

const ROW: i32 = 205;
/// At most; a tensor with few values has fewer.
const BINS: usize = 40;
/// A tensor with fewer values has no distribution: each of them is shown.
const FEW: usize = 50;

/// A histogram of every tensor; `titles` name them.
///
/// # Errors
/// When it cannot be drawn.
pub fn weights(
    title: &str,
    titles: &[String],
    parameters: &ParameterSet<f64>,
    style: &Style,
) -> Result<Figure> {
    let mut panels = Vec::new();
    for (name, tensor) in titles.iter().zip(parameters.tensors()) {
        let shape = tensor.shape().iter().map(ToString::to_string);
        let shape = shape.collect::<Vec<_>>().join("×");
        // What decays without ever being used ends among the subnormal numbers of f32: nothing.
        let flushed = |&v: &f64| match v.abs() < f64::from(f32::MIN_POSITIVE) {
            true => 0.0,
            false => v,
        };
        let values: Vec<f64> = tensor.iter().map(flushed).collect();
        ensure!(
            Figure,
            values.iter().all(|v| v.is_finite()),
            "{name} holds values that are not finite"
        );
        let panel = match values.len() < FEW {
            true => single_values(&values),
            false => histogram(&values, style.log),
        };
        let (mean, deviation) = moments(&values);
        panels.push(Panel {
            title: name.clone(),
            subtitle: format!("{shape}, mean {}, std {}", number(mean), number(deviation)),
            ..panel
        });
    }
    let layout = Layout {
        title,
        row: ROW,
        columns: None,
        panels: &panels,
        legend: Legend(Vec::new()),
    };
    layout.draw(style)
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// Least and largest; equal values have some room around them.
fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match (high > low, low) {
        (true, _) => (low, high),
        (false, 0.0) => (-1.0, 1.0),
        (false, value) => (value - value.abs() / 2.0, value + value.abs() / 2.0),
    }
}

/// A dot for each value, at its place in the tensor.
fn single_values(values: &[f64]) -> Panel {
    let (low, high) = range(values);
    let margin = 0.05 * (high - low);
    let dots = values.iter().enumerate().map(|(i, &v)| (v, i as f64));
    Panel::new(
        "",
        Axis::over("value", low - margin..high + margin),
        Axis::over("index", -1.0..values.len() as f64).with_labels(4),
        vec![Series::Dots(CATEGORIES[0], dots.collect())],
    )
}

fn histogram(values: &[f64], log: bool) -> Panel {
    let n = values.len() as f64;
    let (low, high) = range(values);
    let bins = ((2.0 * n.sqrt()) as usize).clamp(4, BINS);
    let width = (high - low) / bins as f64;
    let mut counts = vec![0usize; bins];
    for value in values {
        counts[(((value - low) / width) as usize).min(bins - 1)] += 1;
    }
    let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let bars = bars.map(|(i, &count)| {
        let from = low + i as f64 * width;
        (from, from + width, 100.0 * count as f64 / n)
    });
    let bars: Vec<_> = bars.collect();
    let heights = bars.iter().map(|bar| bar.2);
    let y = match log {
        // A bar of a single value is to be seen.
        true => Axis::log("values (%)", heights.chain([50.0 / n]), 0.1 / n),
        false => Axis::from_zero("values (%)", heights),
    };
    let series = vec![Series::Bars(CATEGORIES[0], bars)];
    Panel::new("", Axis::over("value", low..high), y.with_labels(5), series)
}

/// Three digits.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        v if v < 1e-3 => return format!("{value:.2e}").replace('-', "−"),
        v => (2.0 - v.log10().floor()).max(0.0) as usize,
    };
    format!("{value:.decimals$}").replace('-', "−")
}
