//! Convolutions of images that are mostly zero.
//!
//! What max pooling sends down is: of each window of four pixels one is not zero, and that one only if the unit above is not clipped to
//! zero. Only those units are multiplied. They are listed in the order of the bordered image, so that what a run of taps
//! ([`super::taps`]) reads is a piece of the list.

use super::real::Real;
use super::taps::Taps;
use super::tile::{Stage, Sums, add_row};
use crate::network::Shape;

/// The units of some images that are not zero.
#[derive(Clone, Default)]
pub struct Units<T> {
    /// where each lies among the entries of its bordered image, and its value
    list: Vec<(u32, T)>,
    /// of all pixels of the bordered images, and of the end: where their units begin in the list
    starts: Vec<u32>,
}

impl<T: Real> Units<T> {
    /// Takes images with a row per pixel.
    pub fn find(&mut self, taps: &Taps, from: &[T]) {
        let Shape {
            channels, width, ..
        } = taps.from;
        let [rows, columns] = taps.bordered;
        let [top, left] = taps.before;
        let bound = from.len().max(rows * columns * channels);
        assert!(u32::try_from(bound).is_ok(), "a chunk's images are small");
        let Self { list, starts } = self;
        // One more than there can be: what is written last need not be kept.
        list.resize(from.len() + 1, (0, T::zero()));
        starts.clear();
        let mut found = 0;
        for image in from.chunks_exact(taps.from.units()) {
            let mut lines = image.chunks_exact(width * channels);
            for row in 0..rows {
                let line = (row >= top).then(|| lines.next()).flatten();
                let Some(line) = line else {
                    starts.resize(starts.len() + columns, found as u32);
                    continue;
                };
                starts.resize(starts.len() + left, found as u32);
                let mut place = ((row * columns + left) * channels) as u32;
                for pixel in line.chunks_exact(channels) {
                    starts.push(found as u32);
                    // Written in any case: a branch on random units would cost more.
                    for &unit in pixel {
                        list[found] = (place, unit);
                        found += usize::from(unit != T::zero());
                        place += 1;
                    }
                }
                starts.resize(starts.len() + columns - left - width, found as u32);
            }
        }
        starts.push(found as u32);
    }
}

/// The units of some images, `image` pixels of `entries` each with their borders.
pub struct Listed<'a, T> {
    pub units: &'a Units<T>,
    pub image: usize,
    pub entries: usize,
}

/// Sums that are taken side by side, because each addition waits for the one before: as many on every processor, so that all round alike.
const CHAINS: usize = 4;

impl<T: Copy> Stage<'_, Listed<'_, T>, T, T> {
    #[inline(always)]
    pub(super) fn run<K: Sums<Operand = T, Sum = T>>(self, k: K) {
        match (K::REGISTERS >= 32, self.columns.div_ceil(K::LANES)) {
            (_, 1) => self.pixels::<K, 1>(k),
            (true, 3) => self.pixels::<K, 3>(k),
            (true, 4..) => self.pixels::<K, 4>(k),
            _ => self.pixels::<K, 2>(k),
        }
    }

    #[inline(always)]
    fn pixels<K: Sums<Operand = T, Sum = T>, const V: usize>(self, k: K) {
        let Listed {
            units: Units { list, starts },
            image,
            entries,
        } = self.from;
        let row = V * K::LANES;
        self.check(row, entries);
        let images = (starts.len() - 1) / image;
        for (image, onto) in (starts.windows(image + 1).step_by(image))
            .zip(self.onto.chunks_exact_mut(self.onto_image))
            .take(images)
        {
            for position in self.positions {
                let onto = &mut onto[position.write + self.first..][..self.columns];
                let mut sums = [[k.zero(); V]; CHAINS];
                let mut weights = self.weights;
                for run in self.runs {
                    let pixel = position.read + run.offset;
                    let units = image[pixel]..image[pixel + run.len];
                    let units = &list[units.start as usize..units.end as usize];
                    let (own, rest) = weights.split_at(run.len * entries * row);
                    weights = rest;
                    let first = (pixel * entries) as u32;
                    // SAFETY: `Units::find` lists only entries of the pixels between those starts, for each of which `own` has a row of
                    // `V` vectors.
                    unsafe { add_products(k, &mut sums, units, first, own) };
                }
                let [a, b, c, d] = sums;
                let mut sums = a;
                for v in 0..V {
                    sums[v] = k.add(k.add(a[v], b[v]), k.add(c[v], d[v]));
                }
                // SAFETY: `onto` has as many numbers as there are columns.
                unsafe { add_row(k, &sums, onto.as_mut_ptr(), self.columns) };
            }
        }
    }
}

/// Adds the products of units with their rows of weights, the first of which is that of entry `first`.
///
/// # Safety
/// The place of each unit is `first` or more, and has a row of `V` vectors in `weights`.
#[inline(always)]
unsafe fn add_products<K: Sums, const V: usize>(
    k: K,
    sums: &mut [[K::Vector; V]; CHAINS],
    units: &[(u32, K::Operand)],
    first: u32,
    weights: &[K::Operand],
) {
    let add = |sums: &mut [K::Vector; V], &(place, unit): &(u32, K::Operand)| {
        let row = (place - first) as usize * V * K::LANES;
        debug_assert!(row + V * K::LANES <= weights.len());
        let unit = k.splat(unit);
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the row is there, says the caller.
            let weights = unsafe { k.load(weights.as_ptr().add(row + v * K::LANES)) };
            *sum = k.mul_add(unit, weights, *sum);
        }
    };
    let fours = units.chunks_exact(CHAINS);
    let rest = fours.remainder();
    for four in fours {
        for (sums, unit) in sums.iter_mut().zip(four) {
            add(sums, unit);
        }
    }
    for (sums, unit) in sums.iter_mut().zip(rest) {
        add(sums, unit);
    }
}
