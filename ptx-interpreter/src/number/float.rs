//! Rounding as PTX asks for it, and half precision.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    Zero,
    Down,
    Up,
}

/// NaN as the chip writes it.
pub const NAN32: u32 = 0x7fff_ffff;
pub const NAN16: u16 = 0x7fff;

/// `x + rest`, with `rest` below half a unit of `x`'s last place, as an fp32 number.
pub fn round_to_f32(x: f64, rest: f64, rounding: Rounding) -> f32 {
    let near = x as f32;
    if rounding == Rounding::Nearest && rest == 0.0 || x.is_nan() || x.is_infinite() {
        return near;
    }
    // Sign of (near - exact): the difference of a number and its rounding is exact.
    let (above, below) = if near.is_infinite() {
        (near > 0.0, near < 0.0)
    } else {
        let difference = f64::from(near) - x;
        (difference > rest, difference < rest)
    };
    match rounding {
        Rounding::Nearest => {
            // x lies in the middle of two fp32 numbers: the rest decides.
            let other = if above {
                near.next_down()
            } else {
                near.next_up()
            };
            let middle = (f64::from(near) + f64::from(other)) / 2.0;
            let towards_other = if above { rest < 0.0 } else { rest > 0.0 };
            if x == middle && towards_other {
                other
            } else {
                near
            }
        }
        Rounding::Zero if x > 0.0 && above => near.next_down(),
        Rounding::Zero if x < 0.0 && below => near.next_up(),
        Rounding::Down if above => near.next_down(),
        Rounding::Up if below => near.next_up(),
        _ => near,
    }
}

/// Sum of two numbers and what it lost, exactly.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// `a b + c` with one rounding.
pub fn fma32(a: f32, b: f32, c: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::Nearest {
        return a.mul_add(b, c);
    }
    let product = f64::from(a) * f64::from(b);
    let (sum, rest) = two_sum(product, f64::from(c));
    if sum == 0.0 && rest == 0.0 && product != 0.0 {
        // An exact zero of two numbers is negative when rounding down.
        return if rounding == Rounding::Down {
            -0.0
        } else {
            0.0
        };
    }
    round_to_f32(sum, if rest.is_nan() { 0.0 } else { rest }, rounding)
}

pub fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0f32.copysign(x)
    } else {
        x
    }
}

/// fp16 to fp32, exact.
#[inline(always)]
pub fn half_to_f32(bits: u32) -> f32 {
    let magnitude = bits & 0x7fff;
    // 2^112 moves the exponent's bias from 15 to 127; subnormals are normalised by the multiplication.
    let scaled = (f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000)).to_bits();
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled | special | (bits & 0x8000) << 16)
}

/// fp32 to fp16, to the nearest, ties to even.
#[inline(always)]
pub fn f32_to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = bits >> 16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // Below 2^-14: adding 1/2 puts the last place of a subnormal at the end of the significand.
    let subnormal = (f32::from_bits(magnitude) + 0.5)
        .to_bits()
        .wrapping_sub(0x3f00_0000);
    let normal =
        (magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1))).wrapping_sub(0x3800_0000) >> 13;
    let finite = if magnitude < 0x3880_0000 {
        subnormal
    } else {
        normal
    };
    let rounded = if magnitude >= 0x477f_f000 {
        0x7c00
    } else {
        finite
    };
    if magnitude > 0x7f80_0000 {
        return NAN16;
    }
    (sign | rounded) as u16
}

/// A number as fp16. Double rounding is harmless only to the nearest from exact values, so this starts from f64.
pub fn f64_to_half(x: f64, rounding: Rounding) -> u16 {
    if x.is_nan() {
        return NAN16;
    }
    // To odd first: fp32 has two more bits than needed, so the second rounding sees on which side x lies.
    let towards_zero = round_to_f32(x, 0.0, Rounding::Zero);
    let odd = if f64::from(towards_zero) == x || x.is_infinite() {
        towards_zero
    } else {
        f32::from_bits(towards_zero.to_bits() | 1)
    };
    let near = f32_to_half(odd);
    let value = f64::from(half_to_f32(near.into()));
    let negative = near & 0x8000 != 0;
    let (above, below) = (value > x, value < x);
    let smaller = |h: u16| if h & 0x7fff == 0 { 0x8000 | 1 } else { h - 1 };
    match rounding {
        Rounding::Zero if x > 0.0 && above => smaller(near),
        Rounding::Zero if x < 0.0 && below => near - 1,
        Rounding::Down if above => {
            if negative {
                near + 1
            } else {
                smaller(near)
            }
        }
        Rounding::Up if below => {
            if negative {
                near - 1
            } else {
                near + 1
            }
        }
        _ => near,
    }
}

pub fn bfloat_to_f32(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

pub fn f32_to_bfloat(x: f32, rounding: Rounding) -> u16 {
    if x.is_nan() {
        return NAN16;
    }
    let bits = x.to_bits();
    match rounding {
        Rounding::Nearest => ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16,
        _ => (bits >> 16) as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_a_round_trip() {
        for bits in 0..=u16::MAX {
            let value = half_to_f32(bits.into());
            if value.is_nan() {
                assert_eq!(f32_to_half(value), NAN16);
            } else {
                assert_eq!(f32_to_half(value), bits);
                assert_eq!(f64_to_half(value.into(), Rounding::Zero), bits);
            }
        }
    }

    #[test]
    fn halves_round_to_even_and_where_they_are_told() {
        // 1 + 2^-11 lies between 1 and the next half.
        let middle = 1.0 + 2f32.powi(-11);
        assert_eq!(f32_to_half(middle), 0x3c00);
        assert_eq!(f32_to_half(1.0 + 3.0 * 2f32.powi(-11)), 0x3c02);
        assert_eq!(f64_to_half(middle.into(), Rounding::Up), 0x3c01);
        assert_eq!(f64_to_half((-middle).into(), Rounding::Down), 0xbc01);
        assert_eq!(f64_to_half((-middle).into(), Rounding::Zero), 0xbc00);
        assert_eq!(f32_to_half(65519.0), 0x7bff);
        assert_eq!(f32_to_half(65520.0), 0x7c00);
        assert_eq!(f64_to_half(1e6, Rounding::Zero), 0x7bff);
        assert_eq!(f32_to_half(2f32.powi(-25)), 0);
        assert_eq!(f32_to_half(2f32.powi(-24) * 1.5), 2);
    }

    #[test]
    fn directed_fma_brackets_the_exact_value() {
        let (a, b) = (1.0 + f32::EPSILON, 1.0 + f32::EPSILON);
        // (1 + e)^2 = 1 + 2e + e^2: just above 1 + 2e.
        assert_eq!(fma32(a, b, 0.0, Rounding::Down), 1.0 + 2.0 * f32::EPSILON);
        assert_eq!(fma32(a, b, 0.0, Rounding::Up), 1.0 + 3.0 * f32::EPSILON);
        // The lost part lies beyond f64: 1 - 2^-100.
        let tiny = 2f32.powi(-50);
        assert_eq!(fma32(-tiny, tiny, 1.0, Rounding::Down), 1.0f32.next_down());
        assert_eq!(fma32(-tiny, tiny, 1.0, Rounding::Zero), 1.0f32.next_down());
        assert_eq!(fma32(-tiny, tiny, 1.0, Rounding::Up), 1.0);
        assert_eq!(fma32(tiny, tiny, 1.0, Rounding::Up), 1.0f32.next_up());
    }
}
