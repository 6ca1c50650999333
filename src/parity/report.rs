//! What a replay found: a row per quantity, and what could not be checked.

use super::compare::{Difference, larger, relative};
use super::tolerance::Scale;
use std::fmt;

/// The verdict on one quantity, which may span several tensors (the layers of a state, the parameters of a network).
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// what was compared
    pub quantity: String,
    /// largest absolute error over all its tensors
    pub absolute: f64,
    /// largest error measured by `scale`
    pub relative: f64,
    /// what the error is measured by
    pub scale: Scale,
    /// `None` for what is told but not judged
    pub tolerance: Option<f64>,
    /// tensor with the largest relative error, or what else there is to say
    pub note: String,
}

impl Row {
    /// Whether the error is within the tolerance, or not judged.
    pub fn passed(&self) -> bool {
        // NaN is not within any tolerance.
        self.tolerance.is_none_or(|t| self.relative <= t)
    }
}

/// One file's rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// the file's name
    pub title: String,
    rows: Vec<Row>,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// Without rows.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_string(),
            ..Self::default()
        }
    }

    /// Verdicts so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What the file holds but was not checked, or should hold but does not.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Adds a verdict.
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a failure that is not a number's.
    pub fn problem(&mut self, message: &str) {
        self.problems.push(message.to_string());
    }

    /// Something to tell that is not a failure by itself: if it matters, the numbers say so.
    pub fn note(&mut self, message: &str) {
        self.notes.push(message.to_string());
    }

    /// What was told.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A quantity of one or more tensors, each judged by its own `error / scale`; the worst one is named.
    pub fn tensors(
        &mut self,
        quantity: &str,
        parts: &[(String, Difference)],
        scale: Scale,
        tolerance: Option<f64>,
    ) {
        let global = global(parts).golden_norm();
        let mut row = Row {
            quantity: quantity.to_string(),
            absolute: 0.0,
            relative: 0.0,
            scale,
            tolerance,
            note: String::new(),
        };
        for (name, d) in parts {
            let error = match scale {
                Scale::TensorMax if d.golden_max == 0.0 => d.max,
                Scale::TensorMax | Scale::Exact => relative(d.max, d.golden_max),
                Scale::LayerNorm if d.golden_norm() == 0.0 => d.norm(),
                Scale::LayerNorm => relative(d.norm(), d.golden_norm()),
                Scale::TensorNorm => relative(d.norm(), d.golden_norm().max(SMALL_TENSOR * global)),
                Scale::GlobalNorm => relative(d.norm(), global),
                Scale::Angle => 1.0 - d.cosine(),
                Scale::LearningRate => unreachable!("judged by its own function"),
            };
            row.absolute = larger(row.absolute, d.max);
            if error.is_nan() || error > row.relative || row.note.is_empty() {
                row.note.clone_from(name);
            }
            row.relative = larger(row.relative, error);
        }
        self.row(row);
    }

    /// Rows that did not pass, and problems.
    pub fn failures(&self) -> usize {
        self.rows.iter().filter(|row| !row.passed()).count() + self.problems.len()
    }

    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.failures() == 0
    }
}

/// Part of the global norm below which a tensor's own norm is no scale.
pub const SMALL_TENSOR: f64 = 1e-4;

/// All tensors as one.
pub fn global(parts: &[(String, Difference)]) -> Difference {
    let join = |sum: Difference, (_, d): &(String, Difference)| sum.join(*d);
    parts.iter().fold(Difference::default(), join)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let longest = self.rows.iter().map(|row| row.quantity.len()).max();
        let width = longest.unwrap_or_default();
        if !self.rows.is_empty() {
            writeln!(
                f,
                "  {:<width$} {:>9} {:>9}  {:<11} {:>9}  {:<4}  worst",
                "quantity", "abs error", "rel error", "relative to", "tolerance", ""
            )?;
        }
        for row in &self.rows {
            let (tolerance, verdict) = match row.tolerance {
                Some(t) => (
                    format!("{t:.1e}"),
                    if row.passed() { "pass" } else { "FAIL" },
                ),
                None => ("-".into(), "info"),
            };
            writeln!(
                f,
                "  {:<width$} {:>9.2e} {:>9.2e}  {:<11} {tolerance:>9}  {verdict}  {}",
                row.quantity,
                row.absolute,
                row.relative,
                row.scale.label(),
                row.note
            )?;
        }
        for problem in &self.problems {
            writeln!(f, "  FAIL: {problem}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}
