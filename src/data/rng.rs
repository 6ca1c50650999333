//! Random numbers that depend on *what* is drawn, not on *when* or *by which thread*.
//!
//! Every stream is a ChaCha8 generator keyed by (seed, epoch, purpose): each image of each epoch has its own. Nothing needs to be
//! carried from one batch to the next, so an epoch can be entered anywhere.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// The order of the examples in the epoch.
    Shuffle,
    /// The augmentation of the example with this index in the dataset.
    Augment(usize),
    /// The sign of the nudging. What counts instead of the epoch is the training step.
    Sign,
}

/// A stream of random numbers.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream for `purpose` in `epoch` of the run with `seed`.
    pub fn new(seed: u64, epoch: u64, purpose: Purpose) -> Self {
        let (tag, index) = match purpose {
            Purpose::Shuffle => (0u64, 0),
            Purpose::Augment(index) => (1, index as u64),
            Purpose::Sign => (2, 0),
        };
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, epoch, tag, index]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A uniform integer below `bound` (0 if the bound is 0). The bias, `bound / 2^64`, is beyond notice. Written out here
    /// because the results of a seed must not change with the version of a library.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u32
    }

    /// True with probability one half.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// A uniformly random order of `0..n`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u32 + 1) as usize);
        }
        order
    }
}
