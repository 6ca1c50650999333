//! The two floating-point types of the CPU backend, and the matrix product that everything is built from.

use super::bf16;
use super::listed::Listing;
use super::tile::{Multiplier, OfPairs};
use ndarray::{ArrayView2, ArrayViewMut2};
use num_traits::{Float, NumAssign};
use std::iter::Sum;

/// What the CPU computes in: f32 or f64.
pub trait Real: Float + NumAssign + Sum + Default + Send + Sync + 'static {
    /// As users call it.
    const NAME: &'static str;
    /// How convolutions add up its products.
    const MULTIPLIER: Multiplier<Self, Self>;
    /// The same of images that are mostly zero.
    const LISTING: Listing<Self>;

    /// How they add up products of pairs of `bf16` in it, if this processor does.
    fn pairs() -> Option<OfPairs<Self>>;

    /// The nearest value.
    fn of(value: f64) -> Self;

    /// The same value.
    fn wide(self) -> f64;
}

impl Real for f32 {
    const NAME: &'static str = "fp32";
    const MULTIPLIER: Multiplier<f32, f32> = Multiplier::<f32, f32>::NUMBERS;
    const LISTING: Listing<f32> = Listing::<f32>::NUMBERS;

    fn pairs() -> Option<OfPairs<f32>> {
        #[cfg(target_arch = "x86_64")]
        if bf16::has_pairs() {
            return Some(OfPairs {
                changes: bf16::changes,
                multiplier: Multiplier::PAIRS,
            });
        }
        None
    }

    fn of(value: f64) -> Self {
        value as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const NAME: &'static str = "fp64";
    const MULTIPLIER: Multiplier<f64, f64> = Multiplier::<f64, f64>::NUMBERS;
    const LISTING: Listing<f64> = Listing::<f64>::NUMBERS;

    fn pairs() -> Option<OfPairs<f64>> {
        None
    }

    fn of(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }
}

/// Whether a product replaces its destination or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    Replace,
    Add,
}

/// `c = a b` or `c += a b`, on one thread: the callers are parallel over examples.
pub fn matmul<T: Real>(mut c: ArrayViewMut2<T>, a: ArrayView2<T>, b: ArrayView2<T>, into: Into) {
    let (m, k) = a.dim();
    let n = b.ncols();
    assert_eq!((m, n), c.dim(), "product has another shape");
    assert_eq!(k, b.nrows(), "inner dimensions differ");
    let (c_strides, c_pointer) = ([c.strides()[0], c.strides()[1]], c.as_mut_ptr());
    // SAFETY: the views are live and the sizes were compared above; `c` is borrowed mutably, so it cannot
    // overlap `a` or `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c_pointer,
            c_strides[1],
            c_strides[0],
            into == Into::Add,
            a.as_ptr(),
            a.strides()[1],
            a.strides()[0],
            b.as_ptr(),
            b.strides()[1],
            b.strides()[0],
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Tells `gemm` not to copy right-hand sides: ours are in panels, which it may read in place.
pub fn configure_matmul() {
    gemm::set_lhs_packing_threshold_single_thread(usize::MAX);
}
