//! What several processes that train one network ask of each other.

use crate::data::Shard;
use crate::error::{Result, bail};
use crate::network::Network;
use crate::phase::GradientMemory;
use ndarray::Array4;
use std::fmt;
use std::sync::Arc;

/// The processes of a run, as one of them sees it. All ranks call the collective methods in the same order; each waits for all.
pub trait Ranks: fmt::Debug {
    /// This process, from 0, and how many there are.
    fn shard(&self) -> Shard;

    /// Replaces each value by its sum over the ranks, the same bits on every rank.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    fn sum(&self, values: &mut [f64]) -> Result<()>;

    /// The same for a gradient, where it lies.
    ///
    /// # Errors
    /// When a rank cannot be reached, or when these ranks do not reach that memory.
    fn sum_gradient(&self, memory: GradientMemory<'_>) -> Result<()> {
        match memory {
            GradientMemory::Host(values) => self.sum(values),
            GradientMemory::Device { .. } => {
                bail!(
                    Ranks,
                    "these processes exchange host memory, but the gradient is on a GPU"
                )
            }
        }
    }

    /// Replaces each value by the largest on any rank.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    fn max(&self, values: &mut [f64]) -> Result<()>;

    /// The values of all ranks, one rank after the other, on rank 0; nothing on the others. Each may give another number of them.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    fn gather(&self, values: &[f64]) -> Result<Vec<f64>>;

    /// The rank that an exchange waits for, where that can be told.
    fn awaited(&self) -> Awaited {
        Awaited::default()
    }

    /// Ends all processes, at once, with exit status 1. Returns where that is not possible: then this process ends, and whoever started
    /// it ends the others.
    fn abort(&self) {}
}

/// The rank that an exchange waits for, to be asked from another thread.
#[derive(Clone)]
pub struct Awaited(Arc<dyn Fn() -> Option<usize> + Send + Sync>);

impl Awaited {
    /// What `tell` says at the moment.
    pub fn by(tell: impl Fn() -> Option<usize> + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// The rank, if it is known.
    pub fn get(&self) -> Option<usize> {
        (self.0)()
    }
}

impl Default for Awaited {
    /// Never known.
    fn default() -> Self {
        Self::by(|| None)
    }
}

/// What a rank without rows computes: an empty image, of which nothing counts, so that it comes to every exchange.
pub(super) fn blank_image(network: &Network) -> Array4<f32> {
    let shape = network.input().shape;
    Array4::zeros((1, shape.channels, shape.height, shape.width))
}

/// The only process of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn shard(&self) -> Shard {
        Shard::WHOLE
    }

    fn sum(&self, _values: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn max(&self, _values: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<f64>> {
        Ok(values.to_vec())
    }
}

impl dyn Ranks + '_ {
    /// Rows of a batch on all ranks, of which this one has `own`.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    pub fn rows_of_all(&self, own: usize) -> Result<usize> {
        let mut rows = [own as f64];
        self.sum(&mut rows)?;
        Ok(rows[0] as usize)
    }

    /// Whether `mine` holds on any rank.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    pub fn any(&self, mine: bool) -> Result<bool> {
        Ok(self.any_of([mine])?[0])
    }

    /// The same for several questions, in one exchange.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    pub fn any_of<const N: usize>(&self, mine: [bool; N]) -> Result<[bool; N]> {
        let mut values = mine.map(|mine| f64::from(u8::from(mine)));
        self.max(&mut values)?;
        Ok(values.map(|value| value > 0.0))
    }

    /// Whether `value` is the same on every rank.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    pub fn agree(&self, value: f64) -> Result<bool> {
        let mut ends = [value, -value];
        self.max(&mut ends)?;
        Ok(ends[0] == -ends[1])
    }
}
