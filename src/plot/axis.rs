//! What an axis spans, and where its ticks are.

use plotters::coord::ranged1d::{
    KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter,
};
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    /// of base 10
    Log,
}

/// An axis with its name, which includes the unit.
#[derive(Debug, Clone)]
pub struct Axis {
    pub name: String,
    scale: Scale,
    range: Range<f64>,
    /// with a label
    ticks: Vec<f64>,
    /// a grid line only
    minor: Vec<f64>,
    /// of a linear axis' labels
    decimals: usize,
    /// A linear axis' labels are in units of this power of ten, which its name says.
    exponent: i32,
    /// label of the lowest end, where everything lies that a logarithm has no place for
    bottom: Option<String>,
    /// Labels are this number less the value: an accuracy beside an error.
    complement: Option<f64>,
}

/// Labelled ticks that an axis has at most.
const MOST_TICKS: f64 = 6.0;
/// A linear axis' numbers from here to its inverse are written out.
const LEAST_STEP: f64 = 1e-4;
/// Up to so many decades have labels between the powers of ten too.
const FEW_DECADES: f64 = 2.0;
/// Up to so many have more of them.
const ONE_DECADE: f64 = 1.0 + 1e-9;
/// A logarithmic axis between these has its numbers written out.
const WRITTEN_OUT: Range<f64> = 0.999e-3..1.001e3;

impl Axis {
    /// From 0 upwards, to a round number.
    pub fn from_zero(name: &str, values: impl Iterator<Item = f64>) -> Self {
        let largest = finite(values).fold(0.0, f64::max);
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let step = round_step(largest / MOST_TICKS, 0.0);
        Self::linear(name, 0.0..(largest / step).ceil() * step, step)
    }

    /// Over exactly these values.
    pub fn over(name: &str, range: Range<f64>) -> Self {
        let span = range.end - range.start;
        let range = if span > 0.0 {
            range
        } else {
            range.start - 0.5..range.start + 0.5
        };
        let step = round_step((range.end - range.start) / MOST_TICKS, 0.0);
        Self::linear(name, range, step)
    }

    /// Numbers of something that is counted from 1.
    pub fn counts(name: &str, last: usize) -> Self {
        let last = last.max(2) as f64;
        Self::linear(name, 1.0..last, round_step(last / MOST_TICKS, 1.0))
    }

    fn linear(name: &str, range: Range<f64>, step: f64) -> Self {
        // The end of a range of tenths is not quite the sum of its steps.
        let slack = 1e-9 * step;
        let first = ((range.start - slack) / step).ceil() as i64;
        let last = ((range.end + slack) / step).floor() as i64;
        let written_out = (LEAST_STEP..1.0 / LEAST_STEP).contains(&(step * (1.0 + 1e-9)));
        let exponent = match written_out {
            true => 0,
            false => range.start.abs().max(range.end.abs()).log10().floor() as i32,
        };
        let shown = step / 10f64.powi(exponent);
        Self {
            name: match exponent {
                0 => name.to_string(),
                _ => format!("{name} ({})", power_of_ten(exponent)),
            },
            scale: Scale::Linear,
            ticks: (first..=last).map(|k| k as f64 * step).collect(),
            minor: Vec::new(),
            decimals: (-shown.log10() - 1e-9).ceil().max(0.0) as usize,
            exponent,
            bottom: None,
            complement: None,
            range,
        }
    }

    /// Logarithmic, from the smallest to the largest positive value. Values below `floor`, and zeros, lie at the lowest
    /// end, which then says so.
    pub fn log(name: &str, values: impl Iterator<Item = f64>, floor: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, floor);
        let (mut zeros, mut small) = (false, false);
        for value in finite(values).filter(|&v| v >= 0.0) {
            match value {
                0.0 => zeros = true,
                v if v < floor => small = true,
                v => low = low.min(v),
            }
            high = high.max(value);
        }
        let low = if low.is_finite() { low } else { high };
        let (mut start, mut end) = (round_below(low), round_above(high));
        if start >= end {
            (start, end) = (round_below(start * 0.999), round_above(end * 1.001));
        }
        let bottom = match (small, zeros) {
            (true, _) => Some(format!("<{}", power_of_ten(decade(floor)))),
            (false, true) => Some("0".to_string()),
            (false, false) => None,
        };
        if bottom.is_some() {
            // A decade of its own, away from the smallest value that has a place.
            start = 10f64.powi(decade(start) - 1);
        }
        let (first, last) = (decade(start), decade(end));
        let decades = (end / start).log10();
        let every = (decades / MOST_TICKS).ceil().max(1.0) as i32;
        // Multiples of a power of ten that have a label, and those that have a line.
        let (labelled, lines): (&[i32], &[i32]) = match decades {
            d if d <= ONE_DECADE => (&[1, 2, 3, 5, 7], &[4, 6, 8, 9]),
            d if d <= FEW_DECADES => (&[1, 2, 5], &[]),
            _ => (&[1], &[]),
        };
        let inside = start * (1.0 - 1e-9)..=end * (1.0 + 1e-9);
        let (mut ticks, mut minor) = (Vec::new(), Vec::new());
        for k in first..=last {
            for factor in 1..10 {
                let value = f64::from(factor) * 10f64.powi(k);
                if !inside.contains(&value) {
                    continue;
                }
                match (labelled.contains(&factor), lines.contains(&factor)) {
                    (true, _) if k % every == 0 => ticks.push(value),
                    (false, false) => {}
                    _ => minor.push(value),
                }
            }
        }
        if bottom.is_some() && ticks.first() != Some(&start) {
            minor.retain(|&v| v != start);
            // What would touch the label of the lowest end.
            let near = |v: f64| (v / start).ln() < 0.7 * f64::from(every) * 10f64.ln();
            if let Some(first) = ticks.first().copied().filter(|&v| near(v)) {
                minor.push(first);
                ticks.remove(0);
            }
            ticks.insert(0, start);
        }
        Self {
            name: name.to_string(),
            scale: Scale::Log,
            range: start..end,
            ticks,
            minor,
            decimals: 0,
            exponent: 0,
            bottom,
            complement: None,
        }
    }

    /// The same axis with `whole` less the value as its labels, under another name.
    pub fn complement(&self, name: &str, whole: f64) -> Self {
        Self {
            name: name.to_string(),
            complement: Some(whole),
            ..self.clone()
        }
    }

    /// With at most so many labels.
    pub fn with_labels(&self, most: usize) -> Self {
        let every = self.ticks.len().div_ceil(most.max(1));
        // Counted from zero, where there is one.
        let zero = self.ticks.iter().position(|&v| v == 0.0).unwrap_or(0);
        let mut axis = self.clone();
        axis.ticks = Vec::new();
        for (i, &tick) in self.ticks.iter().enumerate() {
            match i.abs_diff(zero) % every.max(1) {
                0 => axis.ticks.push(tick),
                _ => axis.minor.push(tick),
            }
        }
        axis
    }

    /// How its ticks are labelled.
    pub fn labels(&self) -> Vec<String> {
        self.ticks.iter().map(|v| self.format_ext(v)).collect()
    }

    pub fn range(&self) -> &Range<f64> {
        &self.range
    }

    /// Whether `value` has a place on the axis, perhaps at its border.
    pub fn shows(&self, value: f64) -> bool {
        let least_of_log = if self.bottom.is_some() {
            0.0
        } else {
            f64::MIN_POSITIVE
        };
        value.is_finite() && (self.scale == Scale::Linear || value >= least_of_log)
    }

    /// Without name and labels, for panels whose neighbour on the left has the same axis.
    pub fn unlabelled(&self) -> Self {
        Self {
            name: String::new(),
            minor: self.minor.iter().chain(&self.ticks).copied().collect(),
            ticks: Vec::new(),
            ..self.clone()
        }
    }

    fn place(&self, value: f64) -> f64 {
        let Range { start, end } = self.range;
        let value = value.clamp(start, end);
        match self.scale {
            Scale::Linear => (value - start) / (end - start),
            Scale::Log => (value / start).ln() / (end / start).ln(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.place(*value)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.ticks.clone(),
            KeyPointWeight::Any => self.ticks.iter().chain(&self.minor).copied().collect(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        if let Some(bottom) = self.bottom.as_ref().filter(|_| *value <= self.range.start) {
            return bottom.clone();
        }
        if let Some(whole) = self.complement {
            let decimals = match self.scale {
                Scale::Linear => self.decimals,
                Scale::Log => (-value.log10() - 1e-9).ceil().max(0.0) as usize,
            };
            return fixed(whole - value, decimals);
        }
        match self.scale {
            Scale::Linear => fixed(value / 10f64.powi(self.exponent), self.decimals),
            Scale::Log
                if WRITTEN_OUT.contains(&self.range.start)
                    && WRITTEN_OUT.contains(&self.range.end) =>
            {
                short(*value)
            }
            Scale::Log if self.range.end / self.range.start <= 100.0 => short(*value),
            Scale::Log => power_of_ten(decade(*value)),
        }
    }
}

/// A typographic minus is as wide as the digits; and zero has no sign.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.trim_start_matches(['-', '0', '.']).is_empty() {
        text.trim_start_matches('-').to_string()
    } else {
        text.replace('-', "−")
    }
}

/// A power of ten, or 2 or 5 times one, written out where that is short.
fn short(value: f64) -> String {
    let exponent = decade(value);
    let factor = (value / 10f64.powi(exponent)).round();
    match (factor as i32, exponent) {
        (_, -3..=3) => fixed(value, (-exponent).max(0) as usize),
        (1, _) => power_of_ten(exponent),
        (factor, _) => format!("{factor}·{}", power_of_ten(exponent)),
    }
}

/// Exponent of the power of ten at or below a value, however its logarithm is rounded.
fn decade(value: f64) -> i32 {
    (value.log10() + 1e-9).floor() as i32
}

/// The largest of 1, 2, 5, 10, .. (and 0.5, 0.2, ..) that is not above `value`.
fn round_below(value: f64) -> f64 {
    let power = 10f64.powi(decade(value));
    let factors = [5.0, 2.0, 1.0];
    let factor = factors
        .into_iter()
        .find(|f| f * power <= value * (1.0 + 1e-9));
    factor.unwrap_or(1.0) * power
}

/// The smallest of them that is not below it.
fn round_above(value: f64) -> f64 {
    let power = 10f64.powi(decade(value));
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors
        .into_iter()
        .find(|f| f * power >= value * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// `10⁻³`
fn power_of_ten(exponent: i32) -> String {
    match exponent {
        0 => return "1".into(),
        1 => return "10".into(),
        _ => {}
    }
    let superscript = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    let digits: String = exponent.to_string().chars().map(superscript).collect();
    format!("10{digits}")
}

fn finite(values: impl Iterator<Item = f64>) -> impl Iterator<Item = f64> {
    values.filter(|v| v.is_finite())
}

/// The smallest of 1, 2, 5, 10, 20, .. (and 0.5, 0.2, ..) that is at least `step` and `least`.
fn round_step(step: f64, least: f64) -> f64 {
    let step = step.max(least).max(f64::MIN_POSITIVE);
    let decade = 10f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = factors
        .into_iter()
        .find(|f| f * decade >= step * (1.0 - 1e-9));
    fits.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let errors = Axis::from_zero("", [3.1, 52.6].into_iter());
        assert_eq!(errors.labels(), ["0", "10", "20", "30", "40", "50", "60"]);
        let costs = Axis::from_zero("", [0.34].into_iter());
        assert_eq!(costs.labels(), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(Axis::counts("", 8).labels(), ["2", "4", "6", "8"]);
        let weights = Axis::over("", -0.25..0.31);
        assert_eq!(
            weights.labels(),
            ["−0.2", "−0.1", "0.0", "0.1", "0.2", "0.3"]
        );
    }

    #[test]
    fn logarithmic_axes_hold_their_values_and_no_more() {
        let axis = Axis::log("", [3e-7, 0.02, f64::NAN].into_iter(), 1e-12);
        assert_eq!(axis.labels(), ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²"]);
        assert!((axis.range.start / 2e-7 - 1.0).abs() < 1e-9 && axis.range.end == 0.02);
        assert!(!axis.shows(0.0) && !axis.shows(-1.0));
        // A span of many decades has fewer labels.
        let long = Axis::log("", [1e-14, 1.0].into_iter(), 1e-14);
        assert_eq!(long.labels(), ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1"]);
        // Few decades have more.
        let short = Axis::log("", [0.012, 0.4].into_iter(), 1e-9);
        assert_eq!(
            short.labels(),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]
        );
        // And less than one has still more.
        let narrow = Axis::log("", [66.0, 93.0].into_iter(), 1e-9);
        assert_eq!(narrow.labels(), ["50", "70", "100"]);
        assert_eq!(narrow.minor.len(), 3);
        // Equal values still have an axis.
        let equal = Axis::log("", [0.1].into_iter(), 1e-9);
        assert!(equal.range.start < 0.1 && equal.range.end > 0.1);
    }

    #[test]
    fn zeros_have_a_place_of_their_own_on_a_logarithmic_axis() {
        let zeros = Axis::log("", [0.0, 3e-3, 1.0].into_iter(), 1e-14);
        assert!(zeros.shows(0.0));
        assert_eq!(zeros.place(0.0), 0.0);
        assert!(
            zeros.place(3e-3) > 0.2,
            "the smallest value is away from zero"
        );
        assert_eq!(zeros.labels()[0], "0");
        let small = Axis::log("", [0.0, 1e-20, 1e-3, 1.0].into_iter(), 1e-14);
        assert_eq!(small.labels()[0], "<10⁻¹⁴");
        assert_eq!(small.place(1e-20), 0.0);
        // No label touches that of the lowest end.
        let long = Axis::log("", [0.0, 2e-16, 1.0].into_iter(), 1e-16);
        assert_eq!(long.labels(), ["0", "10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1"]);
    }

    #[test]
    fn tiny_and_huge_numbers_are_in_units_of_a_power_of_ten() {
        let tiny = Axis::over("value", -3.2e-38..4.1e-38);
        assert_eq!(tiny.name, "value (10⁻³⁸)");
        assert_eq!(tiny.labels(), ["−2", "0", "2", "4"]);
        let huge = Axis::over("value", 0.0..3e7);
        assert_eq!(
            (huge.name.as_str(), huge.labels()[1].as_str()),
            ("value (10⁷)", "0.5")
        );
        assert_eq!(Axis::over("value", -0.001..0.001).name, "value");
    }

    #[test]
    fn an_accuracy_is_what_an_error_leaves() {
        let error = Axis::from_zero("error", [31.0].into_iter());
        let accuracy = error.complement("accuracy", 100.0);
        assert_eq!(error.labels(), ["0", "10", "20", "30", "40"]);
        assert_eq!(accuracy.labels(), ["100", "90", "80", "70", "60"]);
    }

    #[test]
    fn fewer_labels_are_evenly_spread() {
        let axis = Axis::over("", -0.25..0.31).with_labels(3);
        assert_eq!(axis.labels(), ["−0.2", "0.0", "0.2"]);
    }
}
