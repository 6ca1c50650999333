//! Learning curves of one or several runs.

use super::axis::Axis;
use super::canvas::{Area, Figure, px};
use super::palette::CATEGORIES;
use super::panel::{HEADING, Legend, Panel, Pen, Series, heading};
use crate::run::{Measures, Record};
use anyhow::{Result, ensure};

/// What one run recorded.
pub struct RunCurve {
    pub name: String,
    pub records: Vec<Record>,
}

/// Runs whose colours can be told apart.
pub const MOST_RUNS: usize = CATEGORIES.len();

const PANELS: (i32, i32) = (1200, 430);

/// Top-1 error and cost over the epochs: the test's as solid lines, the training's as dashed ones.
pub fn learning_curves(runs: &[RunCurve]) -> Result<Figure> {
    ensure!(
        runs.len() <= MOST_RUNS,
        "{} runs in one picture cannot be told apart; plot at most {MOST_RUNS}",
        runs.len()
    );
    let quantity = |title: &str, axis: &str, of: fn(&Measures) -> f64| {
        let line = |record: fn(&Record) -> &Measures, run: &RunCurve| {
            let point = |r: &Record| (r.epoch as f64, of(record(r)));
            run.records.iter().map(point).collect::<Vec<_>>()
        };
        let mut series = Vec::new();
        for (run, colour) in runs.iter().zip(CATEGORIES) {
            series.push(Series::Line(Pen::dashed(colour), line(|r| &r.train, run)));
            series.push(Series::Line(Pen::solid(colour), line(|r| &r.test, run)));
        }
        let records = runs.iter().flat_map(|run| &run.records);
        let values = records.flat_map(|r| [of(&r.train), of(&r.test)]);
        let last = runs.iter().flat_map(|r| &r.records).map(|r| r.epoch).max();
        Panel {
            title: title.into(),
            subtitle: String::new(),
            x: Axis::counts("epoch", last.unwrap_or(1)),
            y: Axis::from_zero(axis, values),
            series,
        }
    };
    let panels = [
        quantity("Top-1 error", "images classified wrongly (%)", |m| {
            100.0 * m.top1_error
        }),
        quantity("Cost", "mean cost per image", |m| m.cost),
    ];
    let entries = runs.iter().zip(CATEGORIES).flat_map(|(run, colour)| {
        let name = |what: &str| format!("{}, {what}", run.name);
        [
            (Pen::solid(colour), name("test")),
            (Pen::dashed(colour), name("training (augmented images)")),
        ]
    });
    let legend = Legend(entries.collect());
    let title = match runs {
        [run] => format!("Learning curves of {}", run.name),
        _ => "Learning curves".into(),
    };
    with_heading(PANELS, &title, &legend, |area| {
        let parts = area.split_evenly((1, panels.len()));
        panels.iter().zip(&parts).try_for_each(|(p, a)| p.draw(a))
    })
}

/// A figure of a heading, panels of the given size that `draw` makes, and a legend below.
pub fn with_heading(
    (width, height): (i32, i32),
    title: &str,
    legend: &Legend,
    draw: impl FnOnce(&Area) -> Result<()>,
) -> Result<Figure> {
    // How many rows the legend has depends on the width alone.
    let mut below = 0;
    Figure::new((width, 1), |area| {
        below = legend.height(area)?;
        Ok(())
    })?;
    Figure::new((width, HEADING + height + below), |area| {
        let (top, rest) = area.split_vertically(px(HEADING));
        let (panels, bottom) = rest.split_vertically(px(height));
        heading(&top, title)?;
        draw(&panels)?;
        legend.draw(&bottom)
    })
}
