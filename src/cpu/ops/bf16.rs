//! Numbers rounded to `bf16`, 8 bits of `f32`'s 24, and products of pairs of them that are added up in `f32`.
//!
//! A `bf16` is the upper half of an `f32`: the same range, so that no small difference of two states is lost to underflow. Where the
//! processor has `AVX512_BF16`, one instruction multiplies and adds twice as many of them as of `f32`; elsewhere numbers are
//! rounded all the same, and multiplied as `f32`, in which products of two `bf16` are exact.

use super::simd::vectorised;

/// Two neighbouring numbers, the first in the lower half.
pub type Pair = [u16; 2];

/// The nearest `bf16`, the even one of two; NaN stays NaN.
#[inline(always)]
fn bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { 0x7fc0 } else { rounded as u16 }
}

/// The nearest number that `bf16` has.
#[inline(always)]
pub fn rounded(x: f32) -> f32 {
    f32::from_bits(u32::from(bits(x)) << 16)
}

/// Two numbers, rounded.
pub fn pair(low: f32, high: f32) -> Pair {
    [bits(low), bits(high)]
}

/// Rounds the changes from `known` to `source` to pairs, and adds them, rounded, to `known`. Where their count is odd, zero is the last
/// one's partner.
pub fn changes(source: &[f32], known: &mut [f32], target: &mut [Pair]) {
    assert_eq!(source.len().div_ceil(2), target.len());
    let target = target.as_flattened_mut();
    vectorised(
        #[inline(always)]
        || {
            for ((t, &x), known) in target.iter_mut().zip(source).zip(known) {
                *t = bits(x - *known);
                *known += f32::from_bits(u32::from(*t) << 16);
            }
        },
    );
    if let Some(partner) = target.get_mut(source.len()) {
        *partner = 0;
    }
}

/// Whether this processor multiplies pairs.
#[cfg(target_arch = "x86_64")]
pub fn has_pairs() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_crate_half() {
        let mut values = vec![0.0, -0.0, f32::INFINITY, f32::MIN_POSITIVE, 1e-42, f32::MAX];
        values.extend((0..4096).map(|i| f32::from_bits(0x3f80_0000 + 37 * i)));
        for x in values {
            assert_eq!(bits(x), half::bf16::from_f32(x).to_bits(), "{x}");
        }
        assert!(rounded(f32::NAN).is_nan());
        let mut pairs = [[9; 2]; 2];
        changes(&[1.0, -2.0, 3.0], &mut [0.0; 3], &mut pairs);
        assert_eq!(pairs[0], pair(1.0, -2.0));
        assert_eq!(pairs, [[0x3f80, 0xc000], [0x4040, 0]]);

        // What was rounded off comes with the next change.
        let (source, mut known) = ([1.0 / 3.0, -2.0, 1e-3], [0.0; 3]);
        for digits in 1..=3 {
            changes(&source, &mut known, &mut pairs);
            for (x, known) in source.iter().zip(known) {
                assert!(
                    (x - known).abs() <= x.abs() * 2f32.powi(-8 * digits),
                    "{x}, {known}"
                );
            }
        }
    }
}
