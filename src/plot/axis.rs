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
}

/// Labelled ticks that an axis has at most.
const MOST_TICKS: f64 = 6.0;

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
        Self {
            name: name.to_string(),
            scale: Scale::Linear,
            ticks: (first..=last).map(|k| k as f64 * step).collect(),
            minor: Vec::new(),
            decimals: (-step.log10() - 1e-9).ceil().max(0.0) as usize,
            range,
        }
    }

    /// Logarithmic, over whole decades that hold all positive values; from `floor` if there are smaller ones.
    pub fn log(name: &str, values: impl Iterator<Item = f64>, floor: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, floor);
        for value in finite(values).filter(|&v| v > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        // A value on a decade's border needs no further decade, however its logarithm is rounded.
        let first = (low.min(high).max(floor).log10() + 1e-9).floor() as i32;
        let last = ((high.log10() - 1e-9).ceil() as i32).max(first + 1);
        let every = (f64::from(last - first) / MOST_TICKS).ceil() as i32;
        let decades = (first..=last).map(|k| (k, 10f64.powi(k)));
        let (labelled, plain): (Vec<_>, Vec<_>) = decades.partition(|(k, _)| k % every == 0);
        Self {
            name: name.to_string(),
            scale: Scale::Log,
            range: 10f64.powi(first)..10f64.powi(last),
            ticks: labelled.into_iter().map(|(_, v)| v).collect(),
            minor: plain.into_iter().map(|(_, v)| v).collect(),
            decimals: 0,
        }
    }

    pub fn range(&self) -> &Range<f64> {
        &self.range
    }

    /// Whether `value` has a place on the axis, perhaps at its border.
    pub fn shows(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
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
        match self.scale {
            Scale::Linear => {
                let text = format!("{:.*}", self.decimals, value);
                // A typographic minus is as wide as the digits; and zero has no sign.
                if text.trim_start_matches(['-', '0', '.']).is_empty() {
                    text.trim_start_matches('-').to_string()
                } else {
                    text.replace('-', "−")
                }
            }
            Scale::Log => power_of_ten(value.log10().round() as i32),
        }
    }
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

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|v| axis.format_ext(v)).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        let errors = Axis::from_zero("", [3.1, 52.6].into_iter());
        assert_eq!(labels(&errors), ["0", "10", "20", "30", "40", "50", "60"]);
        let costs = Axis::from_zero("", [0.34].into_iter());
        assert_eq!(labels(&costs), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(&Axis::counts("", 8)), ["2", "4", "6", "8"]);
        let weights = Axis::over("", -0.25..0.31);
        assert_eq!(
            labels(&weights),
            ["−0.2", "−0.1", "0.0", "0.1", "0.2", "0.3"]
        );
    }

    #[test]
    fn logarithmic_axes_hold_their_values_in_whole_decades() {
        let axis = Axis::log("", [3e-7, 0.0, 0.02, f64::NAN].into_iter(), 1e-12);
        assert_eq!(axis.range, 1e-7..0.1);
        assert_eq!(
            labels(&axis),
            ["10⁻⁷", "10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"]
        );
        assert_eq!(axis.place(1e-4), 0.5);
        // A span of many decades has fewer labels; a value below the floor does not stretch it.
        let long = Axis::log("", [1e-40, 1.0].into_iter(), 1e-14);
        assert_eq!(labels(&long), ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1"]);
        assert_eq!(
            Axis::log("", [0.01, 0.1].into_iter(), 1e-9).range,
            0.01..0.1
        );
    }
}
