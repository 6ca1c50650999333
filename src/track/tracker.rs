//! What keeps the series of a run.

use super::histogram::Histogram;
use crate::error::Result;

/// Something that keeps the series of a run.
pub trait Tracker {
    /// Takes the values of epoch `epoch`, counted from 1.
    ///
    /// # Errors
    /// When they cannot be written.
    fn log(&mut self, epoch: usize, values: &[(String, f64)]) -> Result<()>;

    /// Whether it keeps distributions too.
    fn takes_histograms(&self) -> bool {
        false
    }

    /// Takes the distributions of the parameters after epoch `epoch`.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn log_histograms(&mut self, _epoch: usize, _histograms: &[(String, Histogram)]) -> Result<()> {
        Ok(())
    }

    /// The session is over, with the exit status that the process will have. Without this call it ended by an error.
    ///
    /// # Errors
    /// When what is left cannot be written.
    fn finish(&mut self, exit_code: u8) -> Result<()>;
}
