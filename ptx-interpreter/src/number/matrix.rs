//! `mma.m16n8k16`: 16x16 times 16x8, sums in fp32.
//!
//! Lane `l` holds, with `g = l / 4` and `t = l % 4` (two 16-bit values a register):
//!
//! ```text
//! a  (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..)     rows of a, columns of a
//! b  (2t.., g), (2t + 8.., g)                                       rows of b, column of b
//! c  (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
//! ```

use super::float::{Rounding, bfloat_to_f32, half_to_f32, round_to_f32};

/// How the sum of a row's products is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sums {
    /// The exact sum (to fp64), rounded once to the nearest.
    #[default]
    Rounded,
    /// As tensor cores do: eight products and the sum so far are shifted to the largest exponent, cut off below 24 bits,
    /// added, and cut off again.
    Truncated,
}

pub type Lanes = [u32; 32];

/// Both halves of each lane's register.
#[inline(always)]
fn halves(bits: &Lanes, brain: bool) -> [[f32; 32]; 2] {
    let convert = |bits: u32| {
        if brain {
            bfloat_to_f32(bits)
        } else {
            half_to_f32(bits)
        }
    };
    [
        bits.map(|bits| convert(bits & 0xffff)),
        bits.map(|bits| convert(bits >> 16)),
    ]
}

/// `d = a b + c`; `brain` for bf16 operands.
#[inline(always)]
pub fn multiply(
    a: [&Lanes; 4],
    b: [&Lanes; 2],
    c: [&Lanes; 4],
    brain: bool,
    sums: Sums,
) -> [Lanes; 4] {
    let mut left = [[0f32; 16]; 16];
    let mut right = [[0f32; 8]; 16];
    for (part, values) in a.iter().enumerate() {
        let values = halves(values, brain);
        for (upper, values) in values.iter().enumerate() {
            for (lane, &value) in values.iter().enumerate() {
                let (g, t) = (lane / 4, lane % 4 * 2);
                left[g + part % 2 * 8][t + part / 2 * 8 + upper] = value;
            }
        }
    }
    for (part, values) in b.iter().enumerate() {
        let values = halves(values, brain);
        for (upper, values) in values.iter().enumerate() {
            for (lane, &value) in values.iter().enumerate() {
                let (g, t) = (lane / 4, lane % 4 * 2);
                right[t + part * 8 + upper][g] = value;
            }
        }
    }
    let mut out = [[0f32; 8]; 16];
    for (lane, (g, t)) in (0..32).map(|lane| (lane, (lane / 4, lane % 4 * 2))) {
        for (part, values) in c.iter().enumerate() {
            out[g + part / 2 * 8][t + part % 2] = f32::from_bits(values[lane]);
        }
    }
    match sums {
        Sums::Rounded => {
            let right = right.map(|row| row.map(f64::from));
            for (row, out) in left.iter().zip(&mut out) {
                let mut sum = [0f64; 8];
                for (column, right) in row.iter().zip(&right) {
                    let column = f64::from(*column);
                    for (sum, right) in sum.iter_mut().zip(right) {
                        *sum = column.mul_add(*right, *sum);
                    }
                }
                for (out, sum) in out.iter_mut().zip(sum) {
                    *out = (f64::from(*out) + sum) as f32;
                }
            }
        }
        Sums::Truncated => {
            for (row, out) in left.iter().zip(&mut out) {
                for (row, right) in row.chunks_exact(8).zip(right.chunks_exact(8)) {
                    truncated_sums(out, row, right);
                }
            }
        }
    }
    let mut result = [[0; 32]; 4];
    for (part, values) in result.iter_mut().enumerate() {
        for (lane, value) in values.iter_mut().enumerate() {
            *value = out[lane / 4 + part / 2 * 8][lane % 4 * 2 + part % 2].to_bits();
        }
    }
    result
}

/// Adds eight products to each of eight sums. Products of two halves are exact in fp32.
#[inline(always)]
pub(crate) fn truncated_sums(sums: &mut [f32; 8], row: &[f32], right: &[[f32; 8]]) {
    let mut terms = [[0f32; 8]; 9];
    terms[8] = *sums;
    for (term, (left, right)) in terms.iter_mut().zip(row.iter().zip(right)) {
        for (term, right) in term.iter_mut().zip(right) {
            *term = left * right;
        }
    }
    // The largest exponent of each sum; the smallest one is that of numbers without a leading one.
    let mut largest = [1u32 << 23; 8];
    for term in &terms {
        for (largest, term) in largest.iter_mut().zip(term) {
            *largest = (*largest).max(term.to_bits() & 0x7f80_0000);
        }
    }
    // Units of 2^(largest - 24), cut off towards zero: integers below 2^25, whose sum is exact.
    let unit = largest.map(|bits| f64::from_bits((1023 + 24 + 127 - u64::from(bits >> 23)) << 52));
    let mut total = [0f64; 8];
    for term in &terms {
        for ((total, term), unit) in total.iter_mut().zip(term).zip(&unit) {
            *total += (f64::from(*term) * unit).trunc();
        }
    }
    let mut plain = true;
    let mut cut = [0f32; 8];
    for (((cut, total), unit), largest) in cut.iter_mut().zip(&total).zip(&unit).zip(&largest) {
        let sum = total / unit;
        // Bits that fp32 has no place for are cut off.
        *cut = f64::from_bits(sum.to_bits() & !0x1fff_ffff) as f32;
        plain &=
            *largest < 0x7f00_0000 && (sum == 0.0 || sum.abs() >= f64::from(f32::MIN_POSITIVE));
    }
    if plain {
        *sums = cut;
        return;
    }
    for (j, sum) in sums.iter_mut().enumerate() {
        let all = || terms[8..].iter().chain(&terms[..8]).map(|term| term[j]);
        *sum = if all().any(|x| !x.is_finite()) {
            all().sum()
        } else {
            round_to_f32(total[j] / unit[j], 0.0, Rounding::Zero)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_loses_what_rounding_keeps() {
        let truncated_sum = |start: f32, products: [f32; 8]| {
            let mut sums = [start; 8];
            truncated_sums(&mut sums, &products, &[[1.0; 8]; 8]);
            assert!(sums.iter().all(|&sum| sum == sums[0]));
            sums[0]
        };
        let products = [
            1.0,
            2f32.powi(-24),
            2f32.powi(-24),
            2f32.powi(-24),
            0.0,
            0.0,
            0.0,
            0.0,
        ];
        assert_eq!(truncated_sum(0.0, products), 1.0 + 2f32.powi(-23));
        let products = [1.0, -(2f32.powi(-30)), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(truncated_sum(0.0, products), 1.0);
        assert_eq!(truncated_sum(-0.25, [0.5; 8]), 3.75);
        let tiny = f32::from_bits(3);
        assert_eq!(truncated_sum(tiny, [tiny; 8]), f32::from_bits(27));
        assert_eq!(truncated_sum(1.0, [f32::INFINITY; 8]), f32::INFINITY);
        assert_eq!(truncated_sum(f32::MAX, [f32::MAX; 8]), f32::MAX);
    }
}
