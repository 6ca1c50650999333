//! What the field's framework records of layers and tensors: means of absolute values, and how many values are zero, over all
//! batches of a pass. [`Probe`](super::Probe) has our own measures, of one batch.

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

/// Sums over all values of a layer's states or of a tensor's gradients, batch after batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Magnitude {
    absolute: f64,
    zeros: f64,
    count: f64,
}

impl Magnitude {
    /// Of one batch.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a f64>) -> Self {
        let mut sums = Self::default();
        for value in values {
            sums.absolute += value.abs();
            sums.zeros += f64::from(*value == 0.0);
            sums.count += 1.0;
        }
        sums
    }

    fn scaled(self, factor: f64) -> Self {
        Self {
            absolute: factor * self.absolute,
            ..self
        }
    }

    /// Mean absolute value.
    fn mean(&self) -> f64 {
        self.absolute / self.count.max(1.0)
    }

    /// Fraction of the values that are zero.
    fn at_zero(&self) -> f64 {
        self.zeros / self.count.max(1.0)
    }
}

/// The sums of a pass so far; empty unless they were asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Magnitudes {
    /// free states, one entry per layer, the input first
    layers: Vec<Magnitude>,
    /// one entry per parameter tensor, biases first; none in a test
    gradients: Vec<Magnitude>,
}

impl Magnitudes {
    /// Of one batch: its images and the free states of the layers above.
    pub fn of_states(images: &ArrayD<f64>, states: &[ArrayD<f64>]) -> Self {
        let layers = std::iter::once(images).chain(states);
        Self {
            layers: layers.map(Magnitude::of).collect(),
            gradients: Vec::new(),
        }
    }

    /// The same with its gradient, which is used at `scale` times its length.
    pub fn with_gradient(self, gradient: &[ArrayD<f64>], scale: f64) -> Self {
        let gradients = gradient.iter().map(|g| Magnitude::of(g).scaled(scale));
        Self {
            gradients: gradients.collect(),
            ..self
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.gradients.is_empty()
    }

    /// Adds those of another batch.
    pub fn add(&mut self, other: &Self) {
        for (mine, other) in [
            (&mut self.layers, &other.layers),
            (&mut self.gradients, &other.gradients),
        ] {
            mine.resize(mine.len().max(other.len()), Magnitude::default());
            for (sums, other) in mine.iter_mut().zip(other) {
                sums.absolute += other.absolute;
                sums.zeros += other.zeros;
                sums.count += other.count;
            }
        }
    }

    /// All sums as one list, for adding up over machines.
    pub fn sums(&self) -> Vec<f64> {
        let all = self.layers.iter().chain(&self.gradients);
        all.flat_map(|m| [m.absolute, m.zeros, m.count]).collect()
    }

    /// Takes a list as [`sums`](Self::sums) gives it.
    pub fn set_sums(&mut self, sums: &[f64]) {
        let all = self.layers.iter_mut().chain(&mut self.gradients);
        for (m, sums) in all.zip(sums.chunks_exact(3)) {
            (m.absolute, m.zeros, m.count) = (sums[0], sums[1], sums[2]);
        }
    }

    /// What an epoch's record says of them.
    pub fn means(&self) -> Published {
        Published {
            mean_abs_states: self.layers.iter().map(Magnitude::mean).collect(),
            zero_states: self.layers.iter().map(Magnitude::at_zero).collect(),
            mean_abs_gradients: self.gradients.iter().map(Magnitude::mean).collect(),
        }
    }
}

/// The framework's statistics over a whole pass, with `--published-series`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// mean absolute value of a layer's free state; one per layer, the input first
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean_abs_states: Vec<f64>,
    /// fraction of its units that are exactly zero, which the framework calls saturation
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero_states: Vec<f64>,
    /// mean absolute value of a tensor's gradient after clipping; one per parameter tensor, biases first; none in a test
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean_abs_gradients: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn means_are_over_all_values_of_all_batches() {
        let batch = |values: &[f64], gradient: &[f64]| {
            let state = arr1(values).into_dyn();
            Magnitudes::of_states(&arr1(&[1.0, -1.0]).into_dyn(), &[state])
                .with_gradient(&[arr1(gradient).into_dyn()], 0.5)
        };
        let mut all = Magnitudes::default();
        assert!(all.is_empty());
        all.add(&batch(&[0.0, -3.0, 3.0], &[4.0, -2.0]));
        all.add(&batch(&[6.0], &[0.0, 0.0]));
        let means = all.means();
        assert_eq!(means.mean_abs_states, [1.0, 3.0]);
        assert_eq!(means.zero_states, [0.0, 0.25]);
        assert_eq!(means.mean_abs_gradients, [0.75]);
        // A machine with the same adds up to the same means.
        let twice: Vec<f64> = all.sums().iter().map(|v| 2.0 * v).collect();
        let mut both = all.clone();
        both.set_sums(&twice);
        assert_eq!(both.means(), means);
    }
}
