//! How many bytes of pixels a tile fetches in a K step, from L1 and from L2.
//!
//! The taps of a run read the same pixels again, shifted: class pixel `i` reads `i step + offset`. Taps whose offsets differ by whole
//! steps follow one another in a slice of channels, and what one of them has brought is in L1 for the next, if the pixels of two
//! blocks fit there beside shared memory. A 3x3 kernel over a tile of 8 x 16 pixels reads 9 x 128 of them, but only 10 x 18 different ones:
//! per 32 channels 11 KB of 72 KB come from L2. With the weights' 72 KB, which a block reads once, that is 111 products and sums for a byte
//! instead of 64.

use super::chip::Chip;
use crate::cuda::machine::abi::*;
use crate::cuda::tables::costs::BLOCKS_PER_MULTIPROCESSOR;
use crate::cuda::tables::sweep::Tables;
use std::collections::{BTreeMap, BTreeSet};

/// Of a target's tile, on average over its K steps, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Traffic {
    pub runs: f64,
    pub taps: f64,
    /// pixels inside of the image: L1 hands them to shared memory
    pub delivered: f64,
    /// those that L1 has to fetch
    pub fetched: f64,
}

impl Traffic {
    /// Of the first tile, whose place in the image is like that of the others.
    pub fn of(tables: &Tables, target: usize, components: usize, chip: &Chip) -> Self {
        let target = &tables.targets[target];
        let piece = 2.0 * f64::from(EQ_MMA_DEPTH) * components as f64;
        let room = (chip.unified.value - chip.carveout.value) / BLOCKS_PER_MULTIPROCESSOR as f64;
        let (mut steps, mut delivered, mut fetched, mut taps) = (0.0, 0.0, 0.0, 0.0);
        let runs = &tables.runs[target.first_run as usize..][..target.runs as usize];
        for run in runs {
            let slices = f64::from(
                tables.sources[run.source as usize]
                    .channels
                    .div_ceil(EQ_MMA_DEPTH),
            );
            let (read, groups) = pixels(tables, target, run, EQ_MMA_ROWS as usize / components);
            let fits =
                |different: &usize| *different as f64 * components as f64 * chip.line.value <= room;
            let different = match groups.iter().all(fits) {
                true => groups.iter().sum(),
                false => read,
            };
            taps += f64::from(run.taps);
            steps += slices * f64::from(run.taps);
            delivered += slices * read as f64 * piece;
            fetched += slices * different as f64 * piece;
        }
        let per_step = |bytes: f64| if steps > 0.0 { bytes / steps } else { 0.0 };
        Self {
            runs: runs.len() as f64,
            taps,
            delivered: per_step(delivered),
            fetched: per_step(fetched),
        }
    }
}

/// Pixels that a tile reads for all taps of a run, and how many different ones those read together that differ by whole steps.
fn pixels(tables: &Tables, target: &EqTarget, run: &EqRun, of_tile: usize) -> (usize, Vec<usize>) {
    let source = &tables.sources[run.source as usize];
    let taps = &tables.taps[run.first_tap as usize..][..run.taps as usize];
    let (height, width) = (target.class_height as usize, target.class_width as usize);
    let mut read = 0;
    let mut groups: BTreeMap<[i32; 2], BTreeSet<[i32; 3]>> = BTreeMap::new();
    for tap in taps {
        let group = [
            tap.offset_y.rem_euclid(run.step_y.max(1)),
            tap.offset_x.rem_euclid(run.step_x.max(1)),
        ];
        let group = groups.entry(group).or_default();
        for pixel in 0..of_tile {
            let (image, within) = (pixel / (height * width), pixel % (height * width));
            let y = (within / width) as i32 * run.step_y + tap.offset_y;
            let x = (within % width) as i32 * run.step_x + tap.offset_x;
            if (0..source.height).contains(&y) && (0..source.width).contains(&x) {
                read += 1;
                group.insert([image as i32, y, x]);
            }
        }
    }
    (read, groups.values().map(BTreeSet::len).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One run of a 3x3 kernel on a layer of `side` x `side`.
    fn tables(side: i32, step: i32) -> Tables {
        let taps: Vec<EqTap> = (0..9)
            .map(|tap| EqTap {
                offset_y: tap / 3 - 1,
                offset_x: tap % 3 - 1,
                ..EqTap::default()
            })
            .collect();
        Tables {
            targets: vec![EqTarget {
                runs: 1,
                class_height: side / step,
                class_width: side / step,
                ..EqTarget::default()
            }],
            runs: vec![EqRun {
                taps: 9,
                step_y: step,
                step_x: step,
                ..EqRun::default()
            }],
            taps,
            sources: vec![EqSource {
                height: side,
                width: side,
                channels: 64,
                ..EqSource::default()
            }],
        }
    }

    #[test]
    fn a_pixel_comes_from_l2_once_for_all_taps_of_a_kernel() {
        // Eight rows of 16: one row of the halo is inside of the image.
        let traffic = Traffic::of(&tables(16, 1), 0, 1, &Chip::H100);
        let pixels = |rows: f64| rows * 64.0 / 9.0;
        assert_eq!(traffic.fetched, pixels(9.0 * 16.0));
        assert_eq!(
            traffic.delivered,
            pixels((16.0 + 2.0 * 15.0) * (8.0 * 3.0 - 1.0))
        );
        // Two images of 8 x 8 that see every other pixel: each parity by itself.
        let traffic = Traffic::of(&tables(16, 2), 0, 1, &Chip::H100);
        assert_eq!(traffic.fetched, pixels(2.0 * 256.0));
        // No room in L1: all of them from L2.
        let mut small = Chip::H100;
        small.unified.value = small.carveout.value;
        let traffic = Traffic::of(&tables(16, 1), 0, 1, &small);
        assert_eq!(traffic.fetched, traffic.delivered);
    }
}
