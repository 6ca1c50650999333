//! Convolutions of images that are mostly zero.
//!
//! What max pooling sends down is: of each window of four pixels one is not zero, and that one only if the unit above is not clipped to
//! zero. Only those units are multiplied. They are listed in the order of the bordered image, so that what a run of taps
//! ([`super::taps`]) reads is a piece of the list.

use super::simd::vectorised;
use super::taps::Taps;
use super::tile::{Lanes, Stage, Sums, add_row};
use crate::network::Shape;
use num_traits::Zero;
use pulp::{Simd, WithSimd};

/// The units of some images that are not zero.
#[derive(Clone, Default)]
pub struct Units<T> {
    /// where each lies among the entries of its bordered image
    places: Vec<u32>,
    values: Vec<T>,
    /// of all pixels of the bordered images, and of the end: where their units begin in the list
    starts: Vec<u32>,
}

impl<T: Copy + Zero> Units<T> {
    /// Takes images with a row per pixel.
    pub fn take(&mut self, taps: &Taps, from: &[T], listing: Listing<T>) {
        let Shape {
            channels, width, ..
        } = taps.from;
        let [rows, columns] = taps.bordered;
        let [top, left] = taps.before;
        let bound = from.len().max(rows * columns * channels);
        assert!(u32::try_from(bound).is_ok(), "a chunk's images are small");
        let Self {
            places,
            values,
            starts,
        } = self;
        // What is written behind the last of them is not kept.
        places.resize(from.len() + SLACK, 0);
        values.resize(from.len() + SLACK, T::zero());
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
                    let (places, values) = (&mut places[found..], &mut values[found..]);
                    found += (listing.find)(pixel, place, places, values);
                    place += channels as u32;
                }
                starts.resize(starts.len() + columns - left - width, found as u32);
            }
        }
        starts.push(found as u32);
    }
}

/// How units of a type are found, and how their products are added up.
#[derive(Clone, Copy)]
pub struct Listing<T: 'static> {
    /// Writes where units lie that are not zero (`place` is where the first one does) and their values, with up to [`SLACK`] more
    /// behind them; returns how many.
    pub find: fn(units: &[T], place: u32, places: &mut [u32], values: &mut [T]) -> usize,
    pub run: fn(Stage<Listed<T>, T, T>),
}

/// Room behind the last unit.
const SLACK: usize = 16;

/// [`Listing::find`] on any processor.
fn find<T: Copy + Zero + PartialEq>(
    units: &[T],
    place: u32,
    places: &mut [u32],
    values: &mut [T],
) -> usize {
    let mut found = 0;
    for (place, &unit) in (place..).zip(units) {
        // Written in any case: a branch on random units would cost more.
        places[found] = place;
        values[found] = unit;
        found += usize::from(unit != T::zero());
    }
    found
}

/// The same of `f32`, sixteen at a time where the processor has AVX-512.
fn find_f32(units: &[f32], place: u32, places: &mut [u32], values: &mut [f32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: it has.
        return unsafe { avx512::find(units, place, places, values) };
    }
    find(units, place, places, values)
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::SLACK;
    use std::arch::x86_64::{
        _CMP_NEQ_UQ, _mm512_add_epi32, _mm512_cmp_ps_mask, _mm512_loadu_ps,
        _mm512_maskz_compress_epi32, _mm512_maskz_compress_ps, _mm512_set1_epi32,
        _mm512_setr_epi32, _mm512_setzero_ps, _mm512_storeu_epi32, _mm512_storeu_ps,
    };

    #[target_feature(enable = "avx512f")]
    pub fn find(units: &[f32], place: u32, places: &mut [u32], values: &mut [f32]) -> usize {
        let (sixteens, rest) = units.as_chunks::<SLACK>();
        assert!(places.len() >= units.len() + SLACK && values.len() >= units.len() + SLACK);
        let mut at = _mm512_add_epi32(
            _mm512_set1_epi32(place.cast_signed()),
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        );
        let mut found = 0;
        for sixteen in sixteens {
            // SAFETY: `found` is no more than the units so far, and there is room for sixteen more behind all of them.
            unsafe {
                let units = _mm512_loadu_ps(sixteen.as_ptr());
                // NaN is not zero.
                let kept = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(units, _mm512_setzero_ps());
                let kept_places = _mm512_maskz_compress_epi32(kept, at);
                _mm512_storeu_epi32(places.as_mut_ptr().add(found).cast(), kept_places);
                let kept_units = _mm512_maskz_compress_ps(kept, units);
                _mm512_storeu_ps(values.as_mut_ptr().add(found), kept_units);
                found += kept.count_ones() as usize;
            }
            at = _mm512_add_epi32(at, _mm512_set1_epi32(SLACK as i32));
        }
        let place = place + (units.len() - rest.len()) as u32;
        found + super::find(rest, place, &mut places[found..], &mut values[found..])
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
            units:
                Units {
                    places,
                    values,
                    starts,
                },
            image,
            entries,
        } = self.from;
        let row = V * K::LANES;
        self.check(row, entries);
        let images = starts.windows(image + 1).step_by(image);
        assert!(self.onto.len() >= images.len() * self.onto_image);
        for (image, onto) in images.zip(self.onto.chunks_exact_mut(self.onto_image)) {
            for position in self.positions {
                let onto = &mut onto[position.write + self.first..][..self.columns];
                let mut sums = [[k.zero(); V]; CHAINS];
                let mut weights = self.weights;
                for run in self.runs {
                    let pixel = position.read + run.offset;
                    let units = image[pixel] as usize..image[pixel + run.len] as usize;
                    let units = (&places[units.clone()], &values[units]);
                    let (own, rest) = weights.split_at(run.len * entries * row);
                    weights = rest;
                    let first = (pixel * entries) as u32;
                    // SAFETY: `Units::take` lists only entries of the pixels between those starts, for each of which `own` has a row of
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
    (places, values): (&[u32], &[K::Operand]),
    first: u32,
    weights: &[K::Operand],
) {
    let add = |sums: &mut [K::Vector; V], place: u32, unit: K::Operand| {
        let row = (place - first) as usize * V * K::LANES;
        debug_assert!(row + V * K::LANES <= weights.len());
        let unit = k.splat(unit);
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the row is there, says the caller.
            let weights = unsafe { k.load(weights.as_ptr().add(row + v * K::LANES)) };
            *sum = k.mul_add(unit, weights, *sum);
        }
    };
    let (places, last_places) = places.as_chunks::<CHAINS>();
    let (values, last_values) = values.as_chunks::<CHAINS>();
    for (places, values) in places.iter().zip(values) {
        for (sums, (&place, &unit)) in sums.iter_mut().zip(places.iter().zip(values)) {
            add(sums, place, unit);
        }
    }
    let last = last_places.iter().zip(last_values);
    for (sums, (&place, &unit)) in sums.iter_mut().zip(last) {
        add(sums, place, unit);
    }
}

macro_rules! listing {
    ($t:ty, $find:expr) => {
        impl WithSimd for Stage<'_, Listed<'_, $t>, $t, $t> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.run(Lanes::<S, $t>::new(simd))
            }
        }

        impl Listing<$t> {
            pub const NUMBERS: Self = Self {
                find: $find,
                run: |stage| vectorised(stage),
            };
        }
    };
}

listing!(f32, find_f32);
listing!(f64, find);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::ops::filter::trial::{direction, numbers};
    use crate::cpu::ops::filter::{Bordered, Filter};
    use crate::cpu::ops::real::Real;
    use ndarray::Array2;

    /// The same with zeros but for one in so many.
    fn few<T: Real>(numbers: Array2<T>, kept: usize) -> Array2<T> {
        let of = |((r, c), &number): ((usize, usize), &T)| {
            let is_kept = (r * 7 + c * 3 + r * c).is_multiple_of(kept);
            if is_kept { number } else { T::zero() }
        };
        let kept = numbers.indexed_iter().map(of).collect();
        Array2::from_shape_vec(numbers.dim(), kept).expect("as many")
    }

    fn is_that_of_whole_images<T: Real>(channels: [usize; 2], stride: usize, kept: usize) {
        let images = 2;
        for is_transposed in [false, true] {
            let direction = || direction(channels, stride, is_transposed);
            let (mut whole, mut sparse) = (Filter::zeros(direction()), Filter::sparse(direction()));
            let kernel = numbers::<T>((9 * channels[0], channels[1]), 1);
            whole.fill(kernel.view());
            sparse.fill(kernel.view());
            let Taps { from, onto, .. } = direction().taps;
            let x = few(
                numbers::<T>((images * from.pixels(), from.channels), 2),
                kept,
            );
            let [whole, sparse] = [whole, sparse].map(|filter| {
                let mut sum = numbers((images * onto.pixels(), onto.channels), 3);
                filter.add(x.view(), sum.view_mut(), &mut Bordered::default());
                sum
            });
            let error = (&whole - &sparse).mapv(|v| v.wide().abs());
            let error = error.iter().copied().fold(0.0, f64::max);
            let bound = if size_of::<T>() == 4 { 2e-4 } else { 4e-13 };
            assert!(
                error < bound,
                "{channels:?}, stride {stride}, one in {kept}, transposed {is_transposed}: {error:e}"
            );
        }
    }

    #[test]
    fn products_of_listed_units_are_those_of_whole_images() {
        for channels in [[8, 16], [3, 5], [33, 70], [1, 1], [130, 20]] {
            for (stride, kept) in [(1, 4), (1, 1), (2, 4), (1, 1000)] {
                is_that_of_whole_images::<f32>(channels, stride, kept);
                is_that_of_whole_images::<f64>(channels, stride, kept);
            }
        }
    }

    #[test]
    fn all_ways_to_find_units_find_the_same() {
        let mut units = few(numbers::<f32>((1, 77), 5), 3)
            .into_raw_vec_and_offset()
            .0;
        units[3] = -0.0;
        units[40] = f32::NAN;
        let found = [find, find_f32].map(|find| {
            let (mut places, mut values) = (vec![0; 77 + SLACK], vec![0.0; 77 + SLACK]);
            let count = find(&units, 100, &mut places, &mut values);
            let bits = values[..count].iter().map(|v| v.to_bits());
            (places[..count].to_vec(), bits.collect::<Vec<_>>())
        });
        assert_eq!(found[0], found[1]);
        assert!(found[0].0.contains(&140) && !found[0].0.contains(&103));
        assert!(found[0].0.len() > 20);
    }
}
