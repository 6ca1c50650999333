//! Memory that one batch leaves to the next.

use crate::cpu::ops::real::Real;
use ndarray::Array2;
use rayon::prelude::*;
use std::collections::HashMap;

/// Elements that a thread takes at a time.
const PART: usize = 1 << 14;

/// Memory of matrices that are no longer needed, by their length. A batch needs what the batch before needed, and fresh memory
/// costs as much time as a convolution: the system hands it over page by page.
///
/// No more matrices are taken back than were lent: whoever also gives what was made elsewhere does not make it grow from batch
/// to batch.
#[derive(Default)]
pub struct Recycler<T> {
    free: HashMap<usize, Vec<Vec<T>>>,
    /// by length, how many are in use
    lent: HashMap<usize, usize>,
}

impl<T: Real> Recycler<T> {
    pub fn zeros(&mut self, shape: (usize, usize)) -> Array2<T> {
        let len = shape.0 * shape.1;
        *self.lent.entry(len).or_default() += 1;
        let buffer = match self.free.get_mut(&len).and_then(Vec::pop) {
            Some(mut buffer) => {
                let parts = buffer.par_chunks_mut(PART);
                parts.for_each(|part| part.fill(T::zero()));
                buffer
            }
            None => vec![T::zero(); len],
        };
        Array2::from_shape_vec(shape, buffer).expect("it has that length")
    }

    /// Takes a matrix back, unless as many of its length as were lent have come back already.
    pub fn give(&mut self, matrix: Array2<T>) {
        let len = matrix.len();
        let Some(lent) = self.lent.get_mut(&len).filter(|lent| **lent > 0) else {
            return;
        };
        *lent -= 1;
        let buffer = matrix.into_raw_vec_and_offset().0;
        self.free.entry(len).or_default().push(buffer);
    }

    /// Numbers that wait to be used again.
    pub fn held(&self) -> usize {
        let buffers = self.free.iter();
        buffers.map(|(len, free)| len * free.len()).sum()
    }
}
