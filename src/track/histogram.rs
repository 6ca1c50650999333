//! How the values of a tensor are distributed.

/// Bins of equal width from the least to the largest value: TensorBoard's own number.
const BINS: usize = 30;

/// Counts of a tensor's values, with what TensorBoard keeps beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// the least value
    pub min: f64,
    /// the largest value
    pub max: f64,
    /// how many values there are
    pub count: f64,
    /// their sum
    pub sum: f64,
    /// the sum of their squares
    pub sum_of_squares: f64,
    /// right ends of the bins; the first begins at `min`, each other one where the one before it ends
    pub limits: Vec<f64>,
    /// values in each bin
    pub counts: Vec<f64>,
}

impl Histogram {
    /// Of finite values; `None` when there are none.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a f64> + Clone) -> Option<Self> {
        let all = || values.clone().into_iter().copied();
        let (min, max) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
        if !(min.is_finite() && max.is_finite()) {
            return None;
        }
        let width = (max - min) / BINS as f64;
        let bins = if width > 0.0 { BINS } else { 1 };
        let mut counts = vec![0.0; bins];
        let (mut count, mut sum, mut sum_of_squares) = (0.0, 0.0, 0.0);
        for value in all() {
            let bin = if bins > 1 { (value - min) / width } else { 0.0 };
            counts[(bin as usize).min(bins - 1)] += 1.0;
            count += 1.0;
            sum += value;
            sum_of_squares += value * value;
        }
        let mut limits: Vec<f64> = (1..=bins).map(|i| min + i as f64 * width).collect();
        limits[bins - 1] = max;
        Some(Self {
            min,
            max,
            count,
            sum,
            sum_of_squares,
            limits,
            counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bin() {
        let values: Vec<f64> = (0..=60).map(|i| f64::from(i) - 30.0).collect();
        let histogram = Histogram::of(&values).unwrap();
        assert_eq!((histogram.min, histogram.max), (-30.0, 30.0));
        assert_eq!((histogram.count, histogram.sum), (61.0, 0.0));
        assert_eq!(histogram.sum_of_squares, 2.0 * 9455.0);
        assert_eq!(histogram.limits[..2], [-28.0, -26.0]);
        assert_eq!(histogram.limits[29], 30.0);
        assert_eq!(histogram.counts[..2], [2.0, 2.0]);
        assert_eq!(
            histogram.counts[29], 3.0,
            "the largest value is in the last bin"
        );
        assert_eq!(histogram.counts.iter().sum::<f64>(), 61.0);
    }

    #[test]
    fn equal_values_are_in_one_bin_and_none_have_no_histogram() {
        let histogram = Histogram::of(&[0.5, 0.5]).unwrap();
        assert_eq!((histogram.limits, histogram.counts), (vec![0.5], vec![2.0]));
        assert_eq!(Histogram::of(&[]), None);
        assert_eq!(Histogram::of(&[f64::NAN]), None);
        assert_eq!(Histogram::of(&[f64::INFINITY, 1.0]), None);
    }
}
