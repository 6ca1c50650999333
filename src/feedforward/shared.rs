//! A batch whose images several machines share.

use crate::error::Result;

/// A batch of which this machine has some of the images. All machines ask the same of it in the same order.
pub trait SharedBatch {
    /// Images of the batch on all machines.
    fn images(&self) -> usize;

    /// Replaces each value, a mean over the images of this machine, by the mean over all images: the same bits on every machine.
    ///
    /// # Errors
    /// When a machine cannot be reached.
    fn average(&self, values: &mut [f64]) -> Result<()>;
}

impl dyn SharedBatch + '_ {
    /// Replaces means and biased variances over the images of this machine by those over all.
    ///
    /// Means of `x` and of `x^2 = var + mean^2` add up; in f64, for where a mean is large, their difference is small.
    ///
    /// # Errors
    /// When a machine cannot be reached.
    pub fn moments(&self, mean: &mut [f64], variance: &mut [f64]) -> Result<()> {
        let squares = mean.iter().zip(&*variance).map(|(m, v)| v + m * m);
        let mut both: Vec<f64> = mean.iter().copied().chain(squares).collect();
        self.average(&mut both)?;
        let (means, squares) = both.split_at(mean.len());
        mean.copy_from_slice(means);
        for ((variance, square), mean) in variance.iter_mut().zip(squares).zip(means) {
            *variance = (square - mean * mean).max(0.0);
        }
        Ok(())
    }
}
