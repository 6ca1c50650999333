//! What is kept by batch size.

use crate::error::Result;

/// Training, evaluation, and a last, smaller batch.
const SIZES: usize = 3;

/// Buffers and tables for the batch sizes that were used last.
pub struct Recent<T> {
    /// by number of images, the present one last
    kept: Vec<(usize, T)>,
}

impl<T> Recent<T> {
    pub fn new() -> Self {
        Self { kept: Vec::new() }
    }

    /// Makes those for a batch of so many images the present ones.
    pub fn select(&mut self, images: usize, make: impl FnOnce() -> Result<T>) -> Result<&mut T> {
        let found = self.kept.iter().position(|(size, _)| *size == images);
        let one = match found {
            Some(i) => self.kept.remove(i),
            None => {
                // Room first: memory for one more may not be there.
                if self.kept.len() == SIZES {
                    self.kept.remove(0);
                }
                (images, make()?)
            }
        };
        self.kept.push(one);
        Ok(self.present_mut().expect("it was just pushed"))
    }

    pub fn present(&self) -> Option<&T> {
        self.kept.last().map(|(_, one)| one)
    }

    pub fn present_mut(&mut self) -> Option<&mut T> {
        self.kept.last_mut().map(|(_, one)| one)
    }
}
