//! How the values of each parameter tensor are distributed.

use super::axis::Axis;
use super::canvas::Figure;
use super::curves::with_heading;
use super::palette::CATEGORIES;
use super::panel::{Legend, Panel, Series};
use crate::network::ParameterSet;
use anyhow::{Result, ensure};

const WIDTH: i32 = 1200;
const COLUMNS: usize = 4;
const PANEL_HEIGHT: i32 = 205;
/// At most; a tensor with few values has fewer.
const BINS: usize = 40;

/// A histogram of every tensor; `titles` name them.
pub fn weights(title: &str, titles: &[String], parameters: &ParameterSet<f64>) -> Result<Figure> {
    let mut panels = Vec::new();
    for (name, tensor) in titles.iter().zip(parameters.tensors()) {
        let shape = tensor.shape().iter().map(ToString::to_string);
        let shape = shape.collect::<Vec<_>>().join("×");
        let values: Vec<f64> = tensor.iter().copied().collect();
        ensure!(
            values.iter().all(|v| v.is_finite()),
            "{name} holds values that are not finite"
        );
        panels.push(histogram(name.clone(), &shape, &values));
    }
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (WIDTH, PANEL_HEIGHT * rows as i32);
    with_heading(size, title, &Legend(Vec::new()), |area| {
        let parts = area.split_evenly((rows, COLUMNS));
        panels.iter().zip(&parts).try_for_each(|(p, a)| p.draw(a))
    })
}

fn histogram(title: String, shape: &str, values: &[f64]) -> Panel {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Equal values make one bar of some width.
    let (low, high) = if high > low {
        (low, high)
    } else {
        (low - 0.5, high + 0.5)
    };
    let bins = ((2.0 * n.sqrt()) as usize).clamp(4, BINS);
    let width = (high - low) / bins as f64;
    let mut counts = vec![0usize; bins];
    for value in values {
        counts[(((value - low) / width) as usize).min(bins - 1)] += 1;
    }
    let bars = counts.iter().enumerate().map(|(i, &count)| {
        let from = low + i as f64 * width;
        (from, from + width, 100.0 * count as f64 / n)
    });
    let bars: Vec<_> = bars.collect();
    Panel {
        title,
        subtitle: format!(
            "{shape}, mean {}, std {}",
            number(mean),
            number(variance.sqrt())
        ),
        x: Axis::over("value", low..high),
        y: Axis::from_zero("values (%)", bars.iter().map(|bar| bar.2)),
        series: vec![Series::Bars(CATEGORIES[0], bars)],
    }
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
