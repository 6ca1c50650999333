//! The cost `C(s_L, y)` between the output layer and the one-hot target, per example.

use crate::choice::choices;
use num_traits::Float;

choices! {
/// What is minimised, per example.
pub enum CostFunction {
    /// mean squared error: `1/2 |s_L - y|^2`
    Mse = "MSE",
    /// cross-entropy: `-log softmax(s_L)[label]`
    Ce = "CE",
}
}

impl CostFunction {
    /// Cost of one example; `output` has one entry per class.
    pub fn value<T: Float>(self, output: &[T], label: usize) -> f64 {
        let f = |v: T| v.to_f64().expect("a float converts to f64");
        match self {
            Self::Mse => {
                let square = |(c, &s): (usize, &T)| (f(s) - one_hot(c, label)).powi(2);
                0.5 * output.iter().enumerate().map(square).sum::<f64>()
            }
            Self::Ce => {
                let max = output.iter().fold(f64::NEG_INFINITY, |m, &s| m.max(f(s)));
                let sum: f64 = output.iter().map(|&s| (f(s) - max).exp()).sum();
                max + sum.ln() - f(output[label])
            }
        }
    }

    /// Writes `dC/ds_L` of one example into `gradient`: `s_L - y`, or `softmax(s_L) - y`.
    pub fn gradient<T: Float>(self, output: &[T], label: usize, gradient: &mut [T]) {
        match self {
            Self::Mse => gradient.copy_from_slice(output),
            Self::Ce => softmax(output, gradient),
        }
        gradient[label] = gradient[label] - T::one();
    }
}

fn one_hot(class: usize, label: usize) -> f64 {
    f64::from(u8::from(class == label))
}

fn softmax<T: Float>(output: &[T], probabilities: &mut [T]) {
    let max = output.iter().fold(T::neg_infinity(), |m, &s| m.max(s));
    let mut sum = T::zero();
    for (p, &s) in probabilities.iter_mut().zip(output) {
        *p = (s - max).exp();
        sum = sum + *p;
    }
    for p in probabilities.iter_mut() {
        *p = *p / sum;
    }
}
