//! Operations of single lanes: everything that is not worth a loop of its own.

use crate::number::float::*;
use crate::program::{Cmp, Func, Mode, Type};

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// Sign-extended when the type is signed, zero-extended otherwise.
fn integer(bits: u64, ty: Type) -> i128 {
    match ty {
        Type::S8 => i128::from(bits as i8),
        Type::S16 => i128::from(bits as i16),
        Type::S32 => i128::from(bits as i32),
        Type::S64 => i128::from(bits as i64),
        Type::B64 | Type::U64 => i128::from(bits),
        _ => i128::from(bits & ((1 << (8 * ty.bytes())) - 1)),
    }
}

fn cut(value: i128, bytes: usize) -> u64 {
    let bits = value as u64;
    if bytes == 8 {
        bits
    } else {
        bits & ((1 << (8 * bytes)) - 1)
    }
}

fn range(ty: Type) -> (i128, i128) {
    let bits = 8 * ty.bytes() as u32;
    if ty.signed() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

/// The result's bits. Predicates are 0 or 1.
pub fn evaluate(func: Func, mode: &Mode, v: [u64; 3]) -> u64 {
    match func {
        Func::Convert => return convert(mode, v[0]),
        Func::Pack16 => {
            let half = |x: u64| {
                let x = f32_of(x);
                // `relu`: NaN stays NaN.
                let x = if mode.saturate && x < 0.0 { 0.0 } else { x };
                u64::from(if mode.ty == Type::Bf16x2 {
                    f32_to_bfloat(x, mode.rounding)
                } else {
                    f64_to_half(x.into(), mode.rounding)
                })
            };
            // The first operand is the upper half.
            return half(v[0]) << 16 | half(v[1]);
        }
        Func::Slct => {
            let first = if mode.from == Type::F32 {
                f32_of(v[2]) >= 0.0
            } else {
                v[2] as i32 >= 0
            };
            return if first { v[0] } else { v[1] };
        }
        _ => {}
    }
    match mode.ty {
        Type::F32 => float32(func, mode, v.map(f32_of)),
        Type::F64 => float64(func, mode, v.map(f64::from_bits)),
        Type::F16 | Type::Bf16 => half(func, mode, v),
        Type::F16x2 | Type::Bf16x2 => {
            let part = |shift: u32| half(func, mode, v.map(|x| x >> shift & 0xffff)) & 0xffff;
            part(16) << 16 | part(0)
        }
        _ => integers(func, mode, v),
    }
}

fn compare<T: PartialOrd>(cmp: Cmp, a: T, b: T) -> bool {
    let order = a.partial_cmp(&b);
    let none = order.is_none();
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => !none && a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::Equ => none || a == b,
        Cmp::Neu => none || a != b,
        Cmp::Ltu => none || a < b,
        Cmp::Leu => none || a <= b,
        Cmp::Gtu => none || a > b,
        Cmp::Geu => none || a >= b,
        Cmp::Num => !none,
        Cmp::Nan => none,
    }
}

fn float32(func: Func, mode: &Mode, v: [f32; 3]) -> u64 {
    let [a, b, c] = if mode.flush { v.map(flush) } else { v };
    let round = |x: f64, rest: f64| round_to_f32(x, rest, mode.rounding);
    let near = mode.rounding == Rounding::Nearest;
    let result = match func {
        Func::Compare(cmp) => return compare(cmp, a, b).into(),
        Func::Add if near => a + b,
        Func::Sub if near => a - b,
        Func::Mul if near => a * b,
        Func::Add => fma32(a, 1.0, b, mode.rounding),
        Func::Sub => fma32(a, 1.0, -b, mode.rounding),
        Func::Mul => round(f64::from(a) * f64::from(b), 0.0),
        Func::Fma => fma32(a, b, c, mode.rounding),
        Func::Div => a / b,
        Func::Sqrt => a.sqrt(),
        Func::Rcp => 1.0 / a,
        Func::Rsqrt => (1.0 / f64::from(a).sqrt()) as f32,
        Func::Ex2 => f64::from(a).exp2() as f32,
        Func::Lg2 => f64::from(a).log2() as f32,
        Func::Sin => f64::from(a).sin() as f32,
        Func::Cos => f64::from(a).cos() as f32,
        Func::Tanh => f64::from(a).tanh() as f32,
        Func::Min | Func::Max if mode.special && (a.is_nan() || b.is_nan()) => f32::NAN,
        Func::Min => smaller(a, b),
        Func::Max => -smaller(-a, -b),
        Func::Abs => return u64::from(a.to_bits() & 0x7fff_ffff),
        Func::Neg => return u64::from(a.to_bits() ^ 0x8000_0000),
        _ => unreachable!("decoding admits no {func:?} of fp32"),
    };
    let result = if mode.flush { flush(result) } else { result };
    let result = if mode.saturate {
        saturate(result)
    } else {
        result
    };
    u64::from(if result.is_nan() {
        NAN32
    } else {
        result.to_bits()
    })
}

/// The number, where one operand is NaN; -0 is below +0.
fn smaller(a: f32, b: f32) -> f32 {
    match a.partial_cmp(&b) {
        None => {
            if a.is_nan() {
                b
            } else {
                a
            }
        }
        Some(std::cmp::Ordering::Equal) => f32::from_bits(a.to_bits() | b.to_bits() & 0x8000_0000),
        Some(std::cmp::Ordering::Less) => a,
        Some(std::cmp::Ordering::Greater) => b,
    }
}

fn saturate(x: f32) -> f32 {
    // NaN becomes +0.
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

fn float64(func: Func, mode: &Mode, [a, b, c]: [f64; 3]) -> u64 {
    let result = match func {
        Func::Compare(cmp) => return compare(cmp, a, b).into(),
        Func::Add => a + b,
        Func::Sub => a - b,
        Func::Mul => a * b,
        Func::Fma => a.mul_add(b, c),
        Func::Div => a / b,
        Func::Sqrt => a.sqrt(),
        Func::Rcp | Func::Rsqrt if mode.approximate => {
            // Of the operand and of the result the upper 32 bits count.
            let upper = |x: f64| f64::from_bits(x.to_bits() & !0xffff_ffff);
            let a = upper(if a.is_subnormal() {
                0f64.copysign(a)
            } else {
                a
            });
            upper(1.0 / if func == Func::Rcp { a } else { a.sqrt() })
        }
        Func::Rcp => 1.0 / a,
        Func::Min => a.min(b),
        Func::Max => a.max(b),
        Func::Abs => a.abs(),
        Func::Neg => return a.to_bits() ^ 1 << 63,
        _ => unreachable!("decoding admits no {func:?} of fp64"),
    };
    result.to_bits()
}

/// fp16 and bf16: sums, products and fma of halves are exact in fp64, so one rounding follows.
fn half(func: Func, mode: &Mode, v: [u64; 3]) -> u64 {
    let brain = matches!(mode.ty, Type::Bf16 | Type::Bf16x2);
    let value = |x: u64| {
        let bits = x as u32 & 0xffff;
        f64::from(if brain {
            bfloat_to_f32(bits)
        } else {
            half_to_f32(bits)
        })
    };
    let [a, b, c] = v.map(value);
    let result = match func {
        Func::Compare(cmp) => return compare(cmp, a, b).into(),
        Func::Abs => return v[0] & 0x7fff,
        Func::Neg => return (v[0] ^ 0x8000) & 0xffff,
        Func::Add => a + b,
        Func::Sub => a - b,
        Func::Mul => a * b,
        Func::Fma => a * b + c,
        Func::Min | Func::Max if mode.special && (a.is_nan() || b.is_nan()) => f64::NAN,
        Func::Min => smaller(a as f32, b as f32).into(),
        Func::Max => f64::from(-smaller(-(a as f32), -(b as f32))),
        Func::Ex2 => a.exp2(),
        Func::Tanh => a.tanh(),
        _ => unreachable!("decoding admits no {func:?} of halves"),
    };
    let result = if mode.saturate {
        saturate(result as f32).into()
    } else {
        result
    };
    u64::from(if brain {
        let odd = round_to_f32(result, 0.0, Rounding::Zero);
        let exact = f64::from(odd) == result || !result.is_finite();
        f32_to_bfloat(
            f32::from_bits(odd.to_bits() | u32::from(!exact)),
            Rounding::Nearest,
        )
    } else {
        f64_to_half(result, Rounding::Nearest)
    })
}

fn integers(func: Func, mode: &Mode, v: [u64; 3]) -> u64 {
    let ty = mode.ty;
    let bytes = ty.bytes();
    let bits = 8 * bytes as u32;
    let [a, b, c] = [integer(v[0], ty), integer(v[1], ty), integer(v[2], ty)];
    let amount = (v[1] as u32).min(bits);
    let result = match func {
        Func::Compare(cmp) => return compare(cmp, a, b).into(),
        Func::Add => a + b,
        Func::Sub => a - b,
        Func::Mul => a.wrapping_mul(b),
        Func::MulHi => a.wrapping_mul(b) >> bits,
        Func::Mad => a.wrapping_mul(b).wrapping_add(c),
        Func::MadHi => (a.wrapping_mul(b) >> bits) + c,
        Func::MulWide => return cut(a * b, 2 * bytes),
        Func::MadWide => return cut(a * b + i128::from(v[2]), 2 * bytes),
        Func::Div if b == 0 => -1,
        Func::Div => a / b,
        Func::Rem if b == 0 => a,
        Func::Rem => a % b,
        Func::Min => a.min(b),
        Func::Max => a.max(b),
        Func::Abs => a.abs(),
        Func::Neg => -a,
        Func::Not => !a,
        Func::Cnot => (a == 0).into(),
        Func::And => a & b,
        Func::Or => a | b,
        Func::Xor => a ^ b,
        Func::Lop3(table) => (0..8u32).filter(|i| table >> i & 1 != 0).fold(0, |all, i| {
            let pick = |x: i128, bit: u32| if i >> bit & 1 != 0 { x } else { !x };
            all | pick(a, 2) & pick(b, 1) & pick(c, 0)
        }),
        Func::Shl => a << amount,
        Func::Shr => a >> amount,
        Func::ShfLeft | Func::ShfRight => {
            let amount = v[2] as u32;
            let amount = if mode.special {
                amount.min(32)
            } else {
                amount & 31
            };
            let both = (v[1] & 0xffff_ffff) << 32 | v[0] & 0xffff_ffff;
            if func == Func::ShfLeft {
                i128::from((u128::from(both) << amount >> 32) as u32)
            } else {
                i128::from((u128::from(both) >> amount) as u32)
            }
        }
        Func::Bfe => {
            let (start, length) = (v[1] as u32 & 255, v[2] as u32 & 255);
            let length = length.min(bits);
            if length == 0 {
                0
            } else if start >= bits {
                if ty.signed() && a < 0 { -1 } else { 0 }
            } else {
                let field = a >> start & ((1 << length) - 1);
                let sign = a >> (start + length - 1).min(bits - 1) & 1;
                if ty.signed() && sign != 0 {
                    field | -1i128 << length.min(bits - start)
                } else {
                    field
                }
            }
        }
        Func::Popc => i128::from(cut(a, bytes).count_ones()),
        Func::Clz => i128::from(cut(a, bytes).leading_zeros() - (64 - bits)),
        Func::Brev => i128::from(cut(a, bytes).reverse_bits() >> (64 - bits)),
        Func::Prmt => {
            let pool = (v[1] & 0xffff_ffff) << 32 | v[0] & 0xffff_ffff;
            (0..4).fold(0, |all, i| {
                let selector = v[2] >> (4 * i) & 15;
                let byte = pool >> (8 * (selector & 7)) & 0xff;
                let byte = if selector & 8 == 0 {
                    byte
                } else {
                    (byte >> 7) * 0xff
                };
                all | i128::from(byte) << (8 * i)
            })
        }
        _ => unreachable!("decoding admits no {func:?} of integers"),
    };
    if matches!(func, Func::Popc | Func::Clz) {
        return result as u64;
    }
    let result = if mode.saturate {
        let (low, high) = range(ty);
        result.clamp(low, high)
    } else {
        result
    };
    cut(result, bytes)
}

/// `bfi`: the only function of four operands.
pub fn insert_bits(a: u64, b: u64, start: u32, length: u32, bits: u32) -> u64 {
    let (start, length) = (start & 255, length & 255);
    if start >= bits {
        return b;
    }
    let length = length.min(bits - start);
    let mask = (((1u128 << length) - 1) as u64) << start;
    b & !mask | a << start & mask
}

fn convert(mode: &Mode, bits: u64) -> u64 {
    let (from, to) = (mode.from, mode.ty);
    if !from.float() && !to.float() {
        let value = integer(bits, from);
        let (low, high) = range(to);
        let value = if mode.saturate {
            value.clamp(low, high)
        } else {
            value
        };
        return cut(value, to.bytes());
    }
    let value = match from {
        Type::F32 => f64::from(if mode.flush {
            flush(f32_of(bits))
        } else {
            f32_of(bits)
        }),
        Type::F64 => f64::from_bits(bits),
        Type::F16 => half_to_f32(bits as u32 & 0xffff).into(),
        Type::Bf16 => bfloat_to_f32(bits as u32 & 0xffff).into(),
        _ => {
            // 64-bit integers round once: through i128 to the type that is asked for.
            let value = integer(bits, from);
            return match to {
                Type::F32 => {
                    let near = value as f32;
                    let up = near as i128 > value;
                    let down = (near as i128) < value;
                    let result = match mode.rounding {
                        Rounding::Zero if value > 0 && up => near.next_down(),
                        Rounding::Zero if value < 0 && down => near.next_up(),
                        Rounding::Down if up => near.next_down(),
                        Rounding::Up if down => near.next_up(),
                        _ => near,
                    };
                    result.to_bits().into()
                }
                Type::F64 => (value as f64).to_bits(),
                Type::F16 => f64_to_half(value as f64, mode.rounding).into(),
                _ => f32_to_bfloat(value as f32, mode.rounding).into(),
            };
        }
    };
    let rounded = |x: f64| match mode.rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    };
    if !to.float() {
        if value.is_nan() {
            // 0, or the upper bit alone where the source or the destination has 64 bits.
            let wide = from == Type::F64 || to.bytes() == 8;
            return u64::from(wide) << (8 * to.bytes() - 1);
        }
        let (low, high) = range(to);
        return cut((rounded(value) as i128).clamp(low, high), to.bytes());
    }
    let value = if mode.integral { rounded(value) } else { value };
    // NaN becomes +0.
    let value = match mode.saturate {
        true if value > 0.0 => value.min(1.0),
        true => 0.0,
        false => value,
    };
    match to {
        Type::F32 => {
            let result = round_to_f32(value, 0.0, mode.rounding);
            let result = if mode.flush { flush(result) } else { result };
            u64::from(if result.is_nan() {
                NAN32
            } else {
                result.to_bits()
            })
        }
        Type::F64 => value.to_bits(),
        Type::F16 => f64_to_half(value, mode.rounding).into(),
        _ => f32_to_bfloat(round_to_f32(value, 0.0, mode.rounding), mode.rounding).into(),
    }
}
