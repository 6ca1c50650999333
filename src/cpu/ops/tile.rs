//! The inner loop of convolutions: sums of a few pixels by a few vectors of channels, kept in registers.
//!
//! ```text
//! onto[pixel, c] += sum_k from[pixel's first entry + k] weights[k, c]           k over the entries of all runs
//! ```
//!
//! For each `k` a tile loads `V` vectors of weights, and multiplies them by one entry of each of `R` pixels: `R V` fused multiply-adds
//! for `R + V` loads. `R` and `V` are chosen so that all sums have a register. Each sum is taken in the order of `k`, whatever the
//! width of the vectors.

use super::bf16::Pair;
use super::simd::vectorised;
use pulp::{Simd, WithSimd};
use std::marker::PhantomData;
use std::ops::AddAssign;

/// Neighbouring entries that a pixel reads, counted from its first one. (Of a list of units: pixels, as in a position.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub offset: usize,
    pub len: usize,
}

/// Where a pixel of an image begins to read, and where it is written.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    pub read: usize,
    pub write: usize,
}

/// Images with their borders, of so many entries each.
pub struct Images<'a, E> {
    pub entries: &'a [E],
    pub image: usize,
}

/// Some runs of all pixels of a class, for the channels of one panel. What is read is `from`.
pub struct Stage<'a, F, E, T> {
    pub from: F,
    /// the images that are written, `onto_image` entries each
    pub onto: &'a mut [T],
    pub onto_image: usize,
    /// of one image
    pub positions: &'a [Position],
    pub runs: &'a [Run],
    /// a row of whole vectors for each entry of the runs
    pub weights: &'a [E],
    /// the first channel of the panel, and how many it has
    pub first: usize,
    pub columns: usize,
}

/// How a panel of weights is laid out: lanes of a vector, and the most vectors side by side.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub lanes: usize,
    pub vectors: usize,
}

/// Vectors of sums, and how products are added to them.
///
/// # Safety
/// Whoever has a value of such a type knows that the processor has the instructions.
pub(super) unsafe trait Sums: Copy {
    /// what is multiplied: an entry, or several whose products are added up
    type Operand: Copy;
    type Sum: Copy;
    type Vector: Copy;
    type Operands: Copy;
    const LANES: usize;
    const REGISTERS: usize;
    fn zero(self) -> Self::Vector;
    fn splat(self, x: Self::Operand) -> Self::Operands;
    /// # Safety
    /// `LANES` operands lie at `at`.
    unsafe fn load(self, at: *const Self::Operand) -> Self::Operands;
    fn mul_add(self, a: Self::Operands, b: Self::Operands, c: Self::Vector) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Adds the first `n` sums to what lies at `at`.
    ///
    /// # Safety
    /// `n <= LANES` numbers lie there.
    unsafe fn add_to(self, sums: Self::Vector, at: *mut Self::Sum, n: usize);
}

/// Channels of the widest panel: four vectors of AVX-512.
pub const MOST_COLUMNS: usize = 64;

const fn layout(lanes: usize, registers: usize) -> Layout {
    let vectors = if registers >= 32 { 4 } else { 2 };
    assert!(lanes * vectors <= MOST_COLUMNS);
    Layout { lanes, vectors }
}

impl<E: Copy, T: Copy> Stage<'_, Images<'_, E>, E, T> {
    #[inline(always)]
    fn run<K: Sums<Operand = E, Sum = T>>(self, k: K) {
        let pixels = self.from.count() * self.positions.len();
        // The larger tile has more products for each load; the smaller one may leave fewer of its pixels empty.
        let waste = |r: usize| pixels.next_multiple_of(r);
        macro_rules! tiles {
            ($large:literal, $small:literal, $vectors:literal) => {
                if waste($large) <= waste($small) {
                    self.tiles::<K, $large, $vectors>(k)
                } else {
                    self.tiles::<K, $small, $vectors>(k)
                }
            };
        }
        match (K::REGISTERS >= 32, self.columns.div_ceil(K::LANES)) {
            (true, 1) => tiles!(12, 8, 1),
            (true, 2) => tiles!(12, 8, 2),
            (true, 3) => tiles!(8, 6, 3),
            (true, _) => tiles!(6, 4, 4),
            (false, 1) => tiles!(8, 4, 1),
            (false, _) => tiles!(6, 4, 2),
        }
    }

    #[inline(always)]
    fn tiles<K: Sums<Operand = E, Sum = T>, const R: usize, const V: usize>(self, k: K) {
        self.check(V * K::LANES, 1);
        let Some(reach) = self.runs.iter().map(|run| run.offset + run.len).max() else {
            return;
        };
        let images = self.from.count();
        assert!(self.onto.len() >= images * self.onto_image);
        let mut reads = [std::ptr::null(); R];
        let mut writes = [std::ptr::null_mut(); R];
        let mut filled = 0;
        let last = images * self.positions.len();
        let mut seen = 0;
        for image in 0..images {
            let from = &self.from.entries[image * self.from.image..][..self.from.image];
            let onto = &mut self.onto[image * self.onto_image..][..self.onto_image];
            for position in self.positions {
                reads[filled] = from[position.read..][..reach].as_ptr();
                writes[filled] = onto[position.write + self.first..][..self.columns].as_mut_ptr();
                filled += 1;
                seen += 1;
                if filled == R || seen == last {
                    // The pixels that are missing are computed like the first one, and not written.
                    for r in filled..R {
                        reads[r] = reads[0];
                    }
                    // SAFETY: every run lies within `reach` entries of each pixel's first, and all rows of whole vectors in
                    // `weights`, as was checked; `columns` numbers lie at each place to be written, and the slices live.
                    unsafe {
                        let sums = tile::<K, R, V>(k, &reads, self.runs, self.weights.as_ptr());
                        for (sums, &write) in sums.iter().zip(&writes[..filled]) {
                            add_row(k, sums, write, self.columns);
                        }
                    }
                    filled = 0;
                }
            }
        }
    }
}

impl<F, E, T> Stage<'_, F, E, T> {
    /// Panics unless there is a row of so many weights for each entry of the runs, whose lengths count so many entries, and all columns
    /// are in it.
    pub(super) fn check(&self, row: usize, entries: usize) {
        let rows: usize = self.runs.iter().map(|run| run.len * entries).sum();
        assert!(self.columns <= row && self.weights.len() >= rows * row);
    }
}

impl<E> Images<'_, E> {
    fn count(&self) -> usize {
        self.entries.len() / self.image
    }
}

/// Adds a pixel's sums to its channels.
///
/// # Safety
/// `columns` numbers lie at `write`.
#[inline(always)]
pub(super) unsafe fn add_row<K: Sums, const V: usize>(
    k: K,
    sums: &[K::Vector; V],
    write: *mut K::Sum,
    columns: usize,
) {
    for (v, &sums) in sums.iter().enumerate() {
        let n = columns.saturating_sub(v * K::LANES).min(K::LANES);
        // SAFETY: `n` numbers lie there, says the caller; where they have ended `n` is zero.
        unsafe { k.add_to(sums, write.wrapping_add(v * K::LANES), n) };
    }
}

/// # Safety
/// All runs lie within what each of `reads` points into, and `weights` has a row of `V` vectors for each of their entries.
#[inline(always)]
unsafe fn tile<K: Sums, const R: usize, const V: usize>(
    k: K,
    reads: &[*const K::Operand; R],
    runs: &[Run],
    mut weights: *const K::Operand,
) -> [[K::Vector; V]; R] {
    let mut sums = [[k.zero(); V]; R];
    for run in runs {
        for i in run.offset..run.offset + run.len {
            // SAFETY: as above.
            unsafe {
                let mut row = [k.load(weights); V];
                for (v, w) in row.iter_mut().enumerate() {
                    *w = k.load(weights.add(v * K::LANES));
                }
                for (sums, read) in sums.iter_mut().zip(reads) {
                    let x = k.splat(*read.add(i));
                    for (sum, &w) in sums.iter_mut().zip(&row) {
                        *sum = k.mul_add(x, w, *sum);
                    }
                }
                weights = weights.add(V * K::LANES);
            }
        }
    }
    sums
}

/// Adds the first `n` lanes of a vector to what lies at `at`.
///
/// # Safety
/// A vector is `n` sums or more in order, and `n` numbers lie at `at`.
#[inline(always)]
unsafe fn add_first<V, T: Copy + AddAssign>(sums: V, at: *mut T, n: usize) {
    let sums: *const T = (&raw const sums).cast();
    for i in 0..n {
        // SAFETY: as above.
        unsafe { *at.add(i) += *sums.add(i) };
    }
}

/// Asks for the layout of panels of this type.
struct LayoutOf<T>(PhantomData<T>);

/// Entries of this type, in the vectors that `pulp` found.
#[derive(Clone, Copy)]
pub(super) struct Lanes<S, T>(S, PhantomData<T>);

impl<S, T> Lanes<S, T> {
    #[inline(always)]
    pub(super) fn new(simd: S) -> Self {
        Self(simd, PhantomData)
    }
}

macro_rules! lanes {
    ($t:ty, $vector:ident, $lanes:ident, $splat:ident, $mul_add:ident, $add:ident) => {
        // SAFETY: only `pulp` makes an `S`, where the processor has what it stands for.
        unsafe impl<S: Simd> Sums for Lanes<S, $t> {
            type Operand = $t;
            type Sum = $t;
            type Vector = S::$vector;
            type Operands = S::$vector;
            const LANES: usize = S::$lanes;
            const REGISTERS: usize = S::REGISTER_COUNT;

            #[inline(always)]
            fn zero(self) -> S::$vector {
                self.0.$splat(0.0)
            }

            #[inline(always)]
            fn splat(self, x: $t) -> S::$vector {
                self.0.$splat(x)
            }

            #[inline(always)]
            unsafe fn load(self, at: *const $t) -> S::$vector {
                // SAFETY: as many lie there, says the caller.
                unsafe { at.cast::<S::$vector>().read_unaligned() }
            }

            #[inline(always)]
            fn mul_add(self, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                self.0.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn add(self, a: S::$vector, b: S::$vector) -> S::$vector {
                self.0.$add(a, b)
            }

            #[inline(always)]
            unsafe fn add_to(self, sums: S::$vector, at: *mut $t, n: usize) {
                // SAFETY: `n` numbers lie there, says the caller; a vector is its lanes in order.
                unsafe {
                    if n == Self::LANES {
                        let at = at.cast::<S::$vector>();
                        at.write_unaligned(self.0.$add(at.read_unaligned(), sums));
                    } else {
                        add_first(sums, at, n);
                    }
                }
            }
        }

        impl WithSimd for Stage<'_, Images<'_, $t>, $t, $t> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.run(Lanes::<S, $t>::new(simd))
            }
        }

        impl WithSimd for LayoutOf<$t> {
            type Output = Layout;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Layout {
                layout(S::$lanes, S::REGISTER_COUNT)
            }
        }

        impl Multiplier<$t, $t> {
            pub const NUMBERS: Self = Self {
                layout: || vectorised(LayoutOf(PhantomData::<$t>)),
                run: |stage| vectorised(stage),
            };
        }
    };
}

lanes!(f32, f32s, F32_LANES, splat_f32s, mul_add_e_f32s, add_f32s);
lanes!(f64, f64s, F64_LANES, splat_f64s, mul_add_e_f64s, add_f64s);

/// How a type's products are added up: the layout of weights, and what adds a stage's products to the images that it writes.
#[derive(Clone, Copy)]
pub struct Multiplier<E: 'static, T: 'static> {
    pub layout: fn() -> Layout,
    pub run: fn(Stage<Images<E>, E, T>),
}

/// How pairs of `bf16` are made of numbers, and summed up in them.
#[derive(Clone, Copy)]
pub struct OfPairs<T: 'static> {
    /// see [`changes`](super::bf16::changes)
    pub changes: fn(&[T], &mut [T], &mut [Pair]),
    pub multiplier: Multiplier<Pair, T>,
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::{Images, Multiplier, Stage, Sums, add_first, layout};
    use crate::cpu::ops::bf16::{Pair, has_pairs};
    use std::arch::x86_64::{
        __m512, __m512bh, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };

    /// `AVX512_BF16`: two products a lane. Made only where [`has_pairs`].
    #[derive(Clone, Copy)]
    struct Avx512Bf16;

    // SAFETY: it is made in `run` alone, after the processor was asked.
    unsafe impl Sums for Avx512Bf16 {
        type Operand = Pair;
        type Sum = f32;
        type Vector = __m512;
        type Operands = __m512bh;
        const LANES: usize = 16;
        const REGISTERS: usize = 32;

        #[inline(always)]
        fn zero(self) -> __m512 {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn splat(self, [low, high]: Pair) -> __m512bh {
            let both = u32::from(low) | u32::from(high) << 16;
            // SAFETY: the processor has AVX-512; both types are 64 bytes without a meaning of their own.
            unsafe { std::mem::transmute(_mm512_set1_epi32(both.cast_signed())) }
        }

        #[inline(always)]
        unsafe fn load(self, at: *const Pair) -> __m512bh {
            // SAFETY: 16 pairs lie there, says the caller.
            unsafe { at.cast::<__m512bh>().read_unaligned() }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512bh, b: __m512bh, c: __m512) -> __m512 {
            // SAFETY: the processor has AVX512_BF16.
            unsafe { _mm512_dpbf16_ps(c, a, b) }
        }

        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the processor has AVX-512.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn add_to(self, sums: __m512, at: *mut f32, n: usize) {
            // SAFETY: the processor has AVX-512, and `n` numbers lie there, says the caller.
            unsafe {
                if n == Self::LANES {
                    _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), sums));
                } else {
                    add_first(sums, at, n);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn run(stage: Stage<Images<Pair>, Pair, f32>) {
        stage.run(Avx512Bf16);
    }

    impl Multiplier<Pair, f32> {
        /// For processors that [`has_pairs`].
        pub const PAIRS: Self = Self {
            layout: || layout(Avx512Bf16::LANES, Avx512Bf16::REGISTERS),
            run: |stage| {
                assert!(has_pairs(), "the processor has no AVX512_BF16");
                // SAFETY: it has.
                unsafe { run(stage) }
            },
        };
    }
}
