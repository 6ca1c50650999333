//! How long launches take by a model: from what their tiles ask of a multiprocessor.

use super::chip::Chip;
use super::hopper::Hopper;
use crate::cuda::tables::costs::BLOCKS_PER_MULTIPROCESSOR;

/// One launch, or all of an iteration.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// as [`super::Measurement`] names the same launch
    pub kernel: &'static str,
    /// of the layer, or the network's name
    pub shape: String,
    /// one after the other
    pub launches: Vec<Launch>,
    /// of all of them with the kernels for Hopper, by a simpler model
    pub hopper: Hopper,
}

/// A launch by the model.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// blocks
    pub tiles: usize,
    /// of a tile
    pub channels: usize,
    /// how often the GPU is filled
    pub waves: f64,
    /// useful ones, two for a multiply-add of live channels
    pub operations: f64,
    /// `mma` of warps, and all their instructions
    pub products: f64,
    /// see `products`
    pub instructions: f64,
    /// that threads ask device memory for, whatever caches there are
    pub asked_bytes: f64,
    /// L2 to multiprocessors, and device memory
    pub l2_bytes: f64,
    /// see `l2_bytes`
    pub memory_bytes: f64,
    /// name of the resource that takes longest
    pub limit: &'static str,
    /// from its beginning to the next launch
    pub seconds: f64,
    /// of the multiprocessors' time, how much the limiting one of their resources works
    pub busy: f64,
}

impl Estimate {
    /// Of all launches.
    pub fn seconds(&self) -> f64 {
        self.launches.iter().map(|launch| launch.seconds).sum()
    }

    /// Of all launches; two for a multiply-add of live channels.
    pub fn operations(&self) -> f64 {
        self.launches.iter().map(|launch| launch.operations).sum()
    }

    /// Of the rate of dense products.
    pub fn share(&self, chip: &Chip) -> f64 {
        self.operations() / self.seconds() / chip.dense.value
    }
}

/// What a tile asks of its multiprocessor, in clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Demand(pub [f64; 4]);

const RESOURCES: [&str; 4] = ["products", "instructions", "shared memory", "L2"];

impl Demand {
    pub fn largest(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

/// What the tiles of a launch (or of two) ask for together, and when the last one is done.
pub(super) struct Asked {
    pub tiles: usize,
    pub channels: usize,
    pub launches: f64,
    pub total: Demand,
    pub clocks: f64,
    pub l2_bytes: f64,
    pub asked_bytes: f64,
}

impl Asked {
    /// With so many operations and bytes of device memory.
    pub fn launch(self, (operations, memory_bytes): (f64, f64), chip: &Chip) -> Launch {
        let multiprocessors = chip.multiprocessors.value as usize;
        let total = self.total.0;
        let computing = self.clocks / chip.clock.value;
        let moving = memory_bytes / chip.memory.value;
        let busiest = (0..RESOURCES.len())
            .max_by(|&a, &b| total[a].total_cmp(&total[b]))
            .expect("there are resources");
        let busy = total[busiest] / (multiprocessors as f64 * self.clocks).max(1.0);
        Launch {
            tiles: self.tiles,
            channels: self.channels,
            waves: self.tiles as f64 / (multiprocessors * BLOCKS_PER_MULTIPROCESSOR) as f64,
            operations,
            // Of 16 x 8 x 16 multiply-adds each.
            products: (total[0] * chip.per_clock(chip.mma) / 4096.0).round(),
            instructions: total[1] * chip.issue.value,
            asked_bytes: self.asked_bytes,
            l2_bytes: self.l2_bytes,
            memory_bytes,
            limit: if moving > computing {
                "device memory"
            } else if busy < 0.5 {
                // No resource works half of the time: there are too few tiles, or they do not divide evenly.
                "few tiles"
            } else {
                RESOURCES[busiest]
            },
            seconds: computing.max(moving) + self.launches * chip.launch.value,
            busy,
        }
    }
}

/// Clocks until the last tile is done.
pub(super) fn makespan(work: &[f64], latency: f64, multiprocessors: usize) -> f64 {
    /// Tiles at work: how much of each is left, in clocks that it would take alone, and which share of them it works.
    #[derive(Clone, Default)]
    struct Multiprocessor {
        now: f64,
        tiles: Vec<(f64, f64)>,
    }
    impl Multiprocessor {
        /// Clocks of wall time for one clock of a tile.
        fn slowdown(&self) -> f64 {
            self.tiles
                .iter()
                .map(|(_, share)| share)
                .sum::<f64>()
                .max(1.0)
        }

        fn next_end(&self) -> f64 {
            let shortest = self
                .tiles
                .iter()
                .map(|(left, _)| *left)
                .fold(f64::INFINITY, f64::min);
            self.now + shortest * self.slowdown()
        }

        fn advance(&mut self, to: f64) {
            let passed = (to - self.now) / self.slowdown();
            for (left, _) in &mut self.tiles {
                *left -= passed;
            }
            self.now = to;
        }
    }
    let mut chip = vec![Multiprocessor::default(); multiprocessors];
    let mut waiting = work
        .iter()
        .map(|work| (work + latency, work / (work + latency)));
    for _ in 0..BLOCKS_PER_MULTIPROCESSOR {
        for multiprocessor in &mut chip {
            multiprocessor.tiles.extend(waiting.next());
        }
    }
    loop {
        let ends = chip.iter().enumerate().filter(|(_, m)| !m.tiles.is_empty());
        let Some((first, end)) = ends
            .map(|(i, m)| (i, m.next_end()))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
        else {
            break;
        };
        let multiprocessor = &mut chip[first];
        multiprocessor.advance(end);
        multiprocessor.tiles.retain(|(left, _)| *left > 1e-6);
        while multiprocessor.tiles.len() < BLOCKS_PER_MULTIPROCESSOR {
            match waiting.next() {
                Some(tile) => multiprocessor.tiles.push(tile),
                None => break,
            }
        }
    }
    chip.iter().map(|m| m.now).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tiles_share_a_multiprocessor_and_the_last_one_has_it_alone() {
        // All work: two at once take as long as one after the other.
        assert_eq!(makespan(&[100.0; 4], 0.0, 1), 400.0);
        assert_eq!(makespan(&[100.0; 5], 0.0, 2), 300.0);
        // Half latency: two fit beside each other.
        assert_eq!(makespan(&[100.0; 2], 100.0, 1), 200.0);
        assert_eq!(makespan(&[100.0; 3], 100.0, 1), 400.0);
        // The longer one goes on alone when the shorter one is done.
        assert_eq!(makespan(&[100.0, 50.0], 0.0, 1), 150.0);
    }
}
