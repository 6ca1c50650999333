//! Gradients by sweeps, as text.

use crate::laboratory::Point;
use std::fmt;

/// Rows of points: at the same sweeps, or one whole step each.
pub struct Table {
    title: String,
    /// none of steps, of which each row says its own
    columns: Option<Vec<usize>>,
    rows: Vec<(String, Vec<Point>)>,
}

/// Which of several values.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    Median,
    Worst,
}

impl Table {
    pub fn new(title: &str, columns: &[usize]) -> Self {
        Self {
            title: title.into(),
            columns: Some(columns.to_vec()),
            rows: Vec::new(),
        }
    }

    pub fn of_steps(title: &str) -> Self {
        Self {
            title: title.into(),
            columns: None,
            rows: Vec::new(),
        }
    }

    pub fn add(&mut self, name: &str, points: Vec<Point>) {
        self.rows.push((name.into(), points));
    }

    /// Of tables with the same rows; sweeps are their mean.
    pub fn over(tables: &[&Self], place: Place) -> Self {
        let first = tables[0];
        let row = |r: usize| {
            let point = |i: usize| {
                let all: Vec<Point> = tables.iter().map(|table| table.rows[r].1[i]).collect();
                let sweeps: usize = all.iter().map(|p| p.sweeps).sum();
                Point {
                    sweeps: (sweeps + all.len() / 2) / all.len(),
                    all: place.of(all.iter().map(|p| p.all)),
                    worst: place.of(all.iter().map(|p| p.worst)),
                }
            };
            let points = (0..first.rows[r].1.len()).map(point).collect();
            (first.rows[r].0.clone(), points)
        };
        Self {
            title: format!("{place:?}: {}", first.title),
            columns: first.columns.clone(),
            rows: (0..first.rows.len()).map(row).collect(),
        }
    }
}

impl Place {
    fn of(self, values: impl Iterator<Item = f64>) -> f64 {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        match self {
            Self::Median => sorted[sorted.len() / 2],
            Self::Worst => sorted[sorted.len() - 1],
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Some(columns) = &self.columns else {
            writeln!(
                f,
                "{:<58}{:>8}{:>9}{:>9}",
                self.title, "sweeps", "all", "worst"
            )?;
            for (name, points) in &self.rows {
                for Point { sweeps, all, worst } in points {
                    writeln!(f, "{name:<58}{sweeps:>8}{all:>9.1e}{worst:>9.1e}")?;
                }
            }
            return Ok(());
        };
        for (measure, value) in [
            ("all tensors", (|p| p.all) as fn(&Point) -> f64),
            ("the worst", |p| p.worst),
        ] {
            writeln!(f, "{}: 1 - cosine, {measure}", self.title)?;
            let head: String = columns.iter().map(|c| format!("{c:>9}")).collect();
            writeln!(f, "{:<36}{head}", "")?;
            for (name, points) in &self.rows {
                let cells: String = points
                    .iter()
                    .map(|p| format!("{:>9.1e}", value(p)))
                    .collect();
                writeln!(f, "{name:<36}{cells}")?;
            }
        }
        Ok(())
    }
}
