//! `mma.m16n8k16`: 16x16 times 16x8, sums in fp32.
//!
//! Lane `l` holds, with `g = l / 4` and `t = l % 4` (two 16-bit values a register):
//!
//! ```text
//! a  (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..)     rows of a, columns of a
//! b  (2t.., g), (2t + 8.., g)                                       rows of b, column of b
//! c  (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
//! ```

use crate::float::{bfloat_to_f32, half_to_f32};

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

#[inline(always)]
fn element(bits: u32, upper: usize, brain: bool) -> f32 {
    let half = bits >> (16 * upper) & 0xffff;
    if brain {
        bfloat_to_f32(half)
    } else {
        half_to_f32(half)
    }
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
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4 * 2);
        for upper in 0..2 {
            for (part, values) in a.iter().enumerate() {
                left[g + part % 2 * 8][t + part / 2 * 8 + upper] =
                    element(values[lane], upper, brain);
            }
            for (part, values) in b.iter().enumerate() {
                right[t + part * 8 + upper][g] = element(values[lane], upper, brain);
            }
        }
    }
    let mut out = [[0f32; 8]; 16];
    for (lane, (g, t)) in (0..32).map(|lane| (lane, (lane / 4, lane % 4 * 2))) {
        for (part, values) in c.iter().enumerate() {
            out[g + part / 2 * 8][t + part % 2] = f32::from_bits(values[lane]);
        }
    }
    for (row, out) in left.iter().zip(&mut out) {
        match sums {
            Sums::Rounded => {
                let mut sum = [0f64; 8];
                for (column, right) in row.iter().zip(&right) {
                    for (sum, right) in sum.iter_mut().zip(right) {
                        *sum += f64::from(*column) * f64::from(*right);
                    }
                }
                for (out, sum) in out.iter_mut().zip(sum) {
                    *out = (f64::from(*out) + sum) as f32;
                }
            }
            Sums::Truncated => {
                for (j, out) in out.iter_mut().enumerate() {
                    for k in [0, 8] {
                        let products = std::array::from_fn(|i| row[k + i] * right[k + i][j]);
                        *out = truncated_sum(*out, products);
                    }
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

/// Products of two halves are exact in fp32.
fn truncated_sum(start: f32, products: [f32; 8]) -> f32 {
    let all = [start].into_iter().chain(products);
    if all.clone().any(|x| !x.is_finite()) {
        return all.sum();
    }
    let exponent = |x: f32| ((x.to_bits() >> 23 & 0xff) as i32).max(1) - 127;
    let Some(largest) = all.clone().filter(|&x| x != 0.0).map(exponent).max() else {
        return all.sum();
    };
    // Units of 2^(largest - 24), cut off towards zero.
    let unit = 2f64.powi(24 - largest);
    let sum: i64 = all.map(|x| (f64::from(x) * unit) as i64).sum();
    crate::float::round_to_f32(sum as f64 / unit, 0.0, crate::float::Rounding::Zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_loses_what_rounding_keeps() {
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
    }
}
