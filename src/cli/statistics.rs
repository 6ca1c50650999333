//! Means over seeds, and how far to trust them.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Of a few values: mean, sample standard deviation, and half the width of the 95 % confidence interval of the mean by
/// Student's t. The last two need more than one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub count: usize,
    pub mean: f64,
    pub deviation: Option<f64>,
    pub confidence: Option<f64>,
}

/// Probability of a value below the upper end of the interval.
const UPPER: f64 = 0.975;

impl Estimate {
    /// # Panics
    /// Without values.
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "no values have no mean");
        let count = values.len();
        let n = count as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (n - 1.0)).sqrt());
        let confidence = deviation.and_then(|deviation| {
            let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
            Some(t.inverse_cdf(UPPER) * deviation / n.sqrt())
        });
        Self {
            count,
            mean,
            deviation,
            confidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, with t = 12.7062 and 4.30265 from a table.
    #[test]
    fn a_mean_of_few_has_a_wide_interval() {
        let close =
            |a: Option<f64>, b: f64| assert!((a.unwrap() / b - 1.0).abs() < 1e-5, "{a:?} {b}");
        let three = Estimate::of(&[1.0, 2.0, 3.0]);
        assert_eq!((three.mean, three.deviation), (2.0, Some(1.0)));
        close(three.confidence, 4.30265 / 3f64.sqrt());
        let two = Estimate::of(&[1.0, 3.0]);
        close(two.deviation, 2f64.sqrt());
        close(two.confidence, 12.7062);
        let one = Estimate::of(&[4.0]);
        assert_eq!((one.mean, one.deviation, one.confidence), (4.0, None, None));
    }
}
