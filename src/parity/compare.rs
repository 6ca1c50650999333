//! How far two tensors are apart.

use super::golden::GoldenError;
use ndarray::ArrayD;

/// Sums over one pair of tensors, ours and the golden one, from which every measure is made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Difference {
    /// largest `|ours - golden|`; NaN as soon as one of the values is
    pub max: f64,
    /// largest `|golden|`
    pub golden_max: f64,
    error_square: f64,
    ours_square: f64,
    golden_square: f64,
    product: f64,
    pub count: usize,
}

impl Difference {
    pub fn of(name: &str, ours: &ArrayD<f64>, golden: &ArrayD<f64>) -> Result<Self, GoldenError> {
        if ours.shape() != golden.shape() {
            return Err(GoldenError::Tensor {
                name: name.to_string(),
                message: format!(
                    "has shape {:?}; expected {:?}",
                    golden.shape(),
                    ours.shape()
                ),
            });
        }
        Ok(Self::between(ours.iter().copied(), golden.iter().copied()))
    }

    pub fn of_vectors(name: &str, ours: &[f64], golden: &[f64]) -> Result<Self, GoldenError> {
        if ours.len() != golden.len() {
            return Err(GoldenError::Tensor {
                name: name.to_string(),
                message: format!("holds {} numbers; expected {}", golden.len(), ours.len()),
            });
        }
        Ok(Self::between(ours.iter().copied(), golden.iter().copied()))
    }

    fn between(ours: impl Iterator<Item = f64>, golden: impl Iterator<Item = f64>) -> Self {
        let mut sum = Self::default();
        for (a, b) in ours.zip(golden) {
            let error = a - b;
            sum.max = larger(sum.max, error.abs());
            sum.golden_max = larger(sum.golden_max, b.abs());
            sum.error_square += error * error;
            sum.ours_square += a * a;
            sum.golden_square += b * b;
            sum.product += a * b;
            sum.count += 1;
        }
        sum
    }

    /// The difference of the concatenated tensors.
    pub fn join(self, other: Self) -> Self {
        Self {
            max: larger(self.max, other.max),
            golden_max: larger(self.golden_max, other.golden_max),
            error_square: self.error_square + other.error_square,
            ours_square: self.ours_square + other.ours_square,
            golden_square: self.golden_square + other.golden_square,
            product: self.product + other.product,
            count: self.count + other.count,
        }
    }

    /// `|ours - golden|`
    pub fn norm(&self) -> f64 {
        self.error_square.sqrt()
    }

    /// `|golden|`
    pub fn golden_norm(&self) -> f64 {
        self.golden_square.sqrt()
    }

    /// Root mean square of `ours - golden`.
    pub fn rms(&self) -> f64 {
        (self.error_square / self.count.max(1) as f64).sqrt()
    }

    /// `<ours, golden> / (|ours| |golden|)`; two zero tensors have the same direction.
    pub fn cosine(&self) -> f64 {
        if self.ours_square == 0.0 && self.golden_square == 0.0 {
            1.0
        } else {
            self.product / (self.ours_square.sqrt() * self.golden_square.sqrt())
        }
    }
}

/// The maximum, except that NaN wins: a comparison with NaN must fail.
pub fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// `error / scale`, where no error is none whatever the scale.
pub fn relative(error: f64, scale: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / scale }
}
