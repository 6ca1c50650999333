//! One instruction that neither branches nor waits, on all lanes of a warp.

use super::access;
use super::copy;
use super::lane;
use crate::finding::{Fault, Problem, fault, warp_fault};
use crate::machine::{Block, Context, FULL, Warp, lanes_of};
use crate::number::float::{NAN32, f32_to_half, half_to_f32};
use crate::number::matrix;
use crate::program::*;

#[inline(always)]
pub fn bits_where(test: impl Fn(usize) -> bool) -> u32 {
    let mut bits = 0;
    for i in 0..32 {
        bits |= u32::from(test(i)) << i;
    }
    bits
}

#[inline(always)]
fn ordered<T: Copy + PartialOrd>(cmp: Cmp, get: impl Fn(usize) -> (T, T)) -> u32 {
    match cmp {
        Cmp::Eq => bits_where(|i| get(i).0 == get(i).1),
        Cmp::Ne => bits_where(|i| get(i).0 < get(i).1 || get(i).0 > get(i).1),
        Cmp::Lt => bits_where(|i| get(i).0 < get(i).1),
        Cmp::Le => bits_where(|i| get(i).0 <= get(i).1),
        Cmp::Gt => bits_where(|i| get(i).0 > get(i).1),
        Cmp::Ge => bits_where(|i| get(i).0 >= get(i).1),
        Cmp::Equ => !bits_where(|i| get(i).0 < get(i).1 || get(i).0 > get(i).1),
        Cmp::Neu => !bits_where(|i| get(i).0 == get(i).1),
        Cmp::Ltu => !bits_where(|i| get(i).0 >= get(i).1),
        Cmp::Leu => !bits_where(|i| get(i).0 > get(i).1),
        Cmp::Gtu => !bits_where(|i| get(i).0 <= get(i).1),
        Cmp::Geu => !bits_where(|i| get(i).0 < get(i).1),
        Cmp::Num | Cmp::Nan => unreachable!("decoded as a test"),
    }
}

/// Bits of a result: every NaN is the chip's.
#[inline(always)]
fn number(x: f32) -> u32 {
    if x.is_nan() { NAN32 } else { x.to_bits() }
}

#[inline(always)]
fn logic(kind: Logic, a: u32, b: u32) -> u32 {
    match kind {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
        Logic::Not => !a,
        Logic::Move => a,
    }
}

macro_rules! binary {
    ($warp:ident, $mask:ident, $get:ident, $set:ident, $d:ident, $a:ident, $b:ident, |$x:ident, $y:ident| $value:expr) => {{
        let values = {
            let (a, b) = ($warp.$get(*$a), $warp.$get(*$b));
            std::array::from_fn(|i| {
                let ($x, $y) = (a[i], b[i]);
                $value
            })
        };
        $warp.$set(*$d, $mask, &values);
    }};
}

/// One instruction that neither branches nor waits.
#[inline(always)]
pub fn step(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    at: usize,
    op: &Op,
) -> Result<(), Fault> {
    match op {
        Op::Nop => {}
        Op::Int32(int, d, a, b) => match int {
            Int::Add => binary!(warp, mask, narrow, set32, d, a, b, |x, y| x.wrapping_add(y)),
            Int::Sub => binary!(warp, mask, narrow, set32, d, a, b, |x, y| x.wrapping_sub(y)),
            Int::Mul => binary!(warp, mask, narrow, set32, d, a, b, |x, y| x.wrapping_mul(y)),
            Int::And => binary!(warp, mask, narrow, set32, d, a, b, |x, y| x & y),
            Int::Or => binary!(warp, mask, narrow, set32, d, a, b, |x, y| x | y),
            Int::Xor => binary!(warp, mask, narrow, set32, d, a, b, |x, y| x ^ y),
            Int::Shl => binary!(warp, mask, narrow, set32, d, a, b, |x, y| if y < 32 {
                x << (y & 31)
            } else {
                0
            }),
            Int::ShrU => binary!(warp, mask, narrow, set32, d, a, b, |x, y| if y < 32 {
                x >> (y & 31)
            } else {
                0
            }),
            Int::ShrS => binary!(warp, mask, narrow, set32, d, a, b, |x, y| ((x as i32)
                >> y.min(31))
                as u32),
        },
        Op::Int64(int, d, a, b) => match int {
            Int::Add => binary!(warp, mask, wide, set64, d, a, b, |x, y| x.wrapping_add(y)),
            Int::Sub => binary!(warp, mask, wide, set64, d, a, b, |x, y| x.wrapping_sub(y)),
            Int::Mul => binary!(warp, mask, wide, set64, d, a, b, |x, y| x.wrapping_mul(y)),
            Int::And => binary!(warp, mask, wide, set64, d, a, b, |x, y| x & y),
            Int::Or => binary!(warp, mask, wide, set64, d, a, b, |x, y| x | y),
            Int::Xor => binary!(warp, mask, wide, set64, d, a, b, |x, y| x ^ y),
            Int::Shl | Int::ShrU | Int::ShrS => {
                let values = {
                    let (a, b) = (warp.wide(*a), warp.narrow(*b));
                    std::array::from_fn(|i| {
                        let (x, y) = (a[i], b[i]);
                        match int {
                            Int::Shl => {
                                if y < 64 {
                                    x << (y & 63)
                                } else {
                                    0
                                }
                            }
                            Int::ShrU => {
                                if y < 64 {
                                    x >> (y & 63)
                                } else {
                                    0
                                }
                            }
                            _ => ((x as i64) >> y.min(63)) as u64,
                        }
                    })
                };
                warp.set64(*d, mask, &values);
            }
        },
        Op::Mad32(d, a, b, c) => {
            let values = {
                let (a, b, c) = (warp.narrow(*a), warp.narrow(*b), warp.narrow(*c));
                std::array::from_fn(|i| a[i].wrapping_mul(b[i]).wrapping_add(c[i]))
            };
            warp.set32(*d, mask, &values);
        }
        Op::MulWide(signed, d, a, b) => {
            let values = {
                let (a, b) = (warp.narrow(*a), warp.narrow(*b));
                if *signed {
                    std::array::from_fn(|i| {
                        (i64::from(a[i] as i32) * i64::from(b[i] as i32)) as u64
                    })
                } else {
                    std::array::from_fn(|i| u64::from(a[i]) * u64::from(b[i]))
                }
            };
            warp.set64(*d, mask, &values);
        }
        Op::Float32(float, d, a, b) => {
            let f = f32::from_bits;
            match float {
                Float::Add => binary!(warp, mask, narrow, set32, d, a, b, |x, y| number(
                    f(x) + f(y)
                )),
                Float::Sub => binary!(warp, mask, narrow, set32, d, a, b, |x, y| number(
                    f(x) - f(y)
                )),
                Float::Mul => binary!(warp, mask, narrow, set32, d, a, b, |x, y| number(
                    f(x) * f(y)
                )),
                Float::Min => binary!(warp, mask, narrow, set32, d, a, b, |x, y| smaller(x, y)),
                Float::Max => {
                    let sign = 0x8000_0000;
                    binary!(warp, mask, narrow, set32, d, a, b, |x, y| smaller(
                        x ^ sign,
                        y ^ sign
                    ) ^ sign)
                }
            }
        }
        Op::Fma32(d, a, b, c) => {
            let values = {
                let (a, b, c) = (warp.narrow(*a), warp.narrow(*b), warp.narrow(*c));
                let f = f32::from_bits;
                let mut values = [0; 32];
                for i in 0..32 {
                    values[i] = number(f(a[i]).mul_add(f(b[i]), f(c[i])));
                }
                values
            };
            warp.set32(*d, mask, &values);
        }
        Op::Move { d, a, signed } => match (d.wide(), a.wide()) {
            (false, false) => {
                let values = *warp.narrow(*a);
                warp.set32(*d, mask, &values);
            }
            (true, true) => {
                let values = *warp.wide(*a);
                warp.set64(*d, mask, &values);
            }
            (false, true) => {
                let values = warp.wide(*a).map(|x| x as u32);
                warp.set32(*d, mask, &values);
            }
            (true, false) if *signed => {
                let values = warp.narrow(*a).map(|x| i64::from(x as i32) as u64);
                warp.set64(*d, mask, &values);
            }
            (true, false) => {
                let values = warp.narrow(*a).map(u64::from);
                warp.set64(*d, mask, &values);
            }
        },
        Op::Keep(d, a, kept) => {
            let values = warp.get(*a).map(|x| x & u64::from(*kept));
            warp.set(*d, mask, &values);
        }
        Op::Insert {
            d,
            a,
            b,
            start,
            length,
        } => {
            let (a, b) = (warp.get(*a), warp.get(*b));
            let (start, length) = (warp.get32(*start), warp.get32(*length));
            let bits = if d.wide() { 64 } else { 32 };
            let values =
                std::array::from_fn(|i| lane::insert_bits(a[i], b[i], start[i], length[i], bits));
            warp.set(*d, mask, &values);
        }
        Op::HalfToFloat(d, a) => {
            let values = warp.narrow(*a).map(|x| half_to_f32(x & 0xffff).to_bits());
            warp.set32(*d, mask, &values);
        }
        Op::FloatToHalf(d, a) => {
            let values = warp
                .narrow(*a)
                .map(|x| u32::from(f32_to_half(f32::from_bits(x))));
            warp.set32(*d, mask, &values);
        }
        Op::Lane { func, mode, d, a } => {
            let [a, b, c] = a.map(|reg| warp.get(reg));
            let mut values = [0; 32];
            for i in lanes_of(mask) {
                values[i] = lane::evaluate(*func, mode, [a[i], b[i], c[i]]);
            }
            warp.set(*d, mask, &values);
        }
        Op::Compare { cmp, how, d, a, b } => {
            let bits = match how {
                As::U32 | As::S32 | As::F32 => {
                    let (a, b) = (warp.narrow(*a), warp.narrow(*b));
                    match how {
                        As::U32 => ordered(*cmp, |i| (a[i], b[i])),
                        As::S32 => ordered(*cmp, |i| (a[i] as i32, b[i] as i32)),
                        _ => ordered(*cmp, |i| (f32::from_bits(a[i]), f32::from_bits(b[i]))),
                    }
                }
                As::U64 | As::S64 => {
                    let (a, b) = (warp.wide(*a), warp.wide(*b));
                    match how {
                        As::U64 => ordered(*cmp, |i| (a[i], b[i])),
                        _ => ordered(*cmp, |i| (a[i] as i64, b[i] as i64)),
                    }
                }
            };
            warp.set_predicate(*d, mask, bits);
        }
        Op::Test {
            func,
            mode,
            d,
            q,
            a,
            with,
        } => {
            let [a, b, c] = a.map(|reg| warp.get(reg));
            let bits = bits_where(|i| lane::evaluate(*func, mode, [a[i], b[i], c[i]]) != 0);
            let (mut yes, mut no) = (bits, !bits);
            if let Some((kind, p, negated)) = with {
                let p = warp.predicate(*p) ^ if *negated { FULL } else { 0 };
                (yes, no) = (logic(*kind, yes, p), logic(*kind, no, p));
            }
            warp.set_predicate(*d, mask, yes);
            if let Some(q) = q {
                warp.set_predicate(*q, mask, no);
            }
        }
        Op::Select { d, a, b, p } => {
            let p = warp.predicate(*p);
            if d.wide() {
                let (a, b) = (warp.wide(*a), warp.wide(*b));
                let values = std::array::from_fn(|i| if p >> i & 1 != 0 { a[i] } else { b[i] });
                warp.set64(*d, mask, &values);
            } else {
                let (a, b) = (warp.narrow(*a), warp.narrow(*b));
                let values = std::array::from_fn(|i| if p >> i & 1 != 0 { a[i] } else { b[i] });
                warp.set32(*d, mask, &values);
            }
        }
        Op::Predicate(kind, d, a, b) => {
            let bits = logic(*kind, warp.predicate(*a), warp.predicate(*b));
            warp.set_predicate(*d, mask, bits);
        }
        Op::Pack(d, parts) => {
            let bits = if d.wide() { 64 } else { 32 } / parts.len();
            let mut values = [0; 32];
            for (i, part) in parts.iter().enumerate() {
                let part = warp.get(*part);
                for (value, part) in values.iter_mut().zip(part) {
                    *value |= (part & ((1 << bits) - 1)) << (i * bits);
                }
            }
            warp.set(*d, mask, &values);
        }
        Op::Unpack(parts, a) => {
            let values = warp.get(*a);
            let bits = if a.wide() { 64 } else { 32 } / parts.len();
            for (i, part) in parts.iter().enumerate() {
                if let Some(part) = part {
                    warp.set(
                        *part,
                        mask,
                        &values.map(|v| v >> (i * bits) & ((1 << bits) - 1)),
                    );
                }
            }
        }
        Op::Load { space, ty, d, at } => {
            access::load(context, block, warp, mask, *space, *ty, d, *at)?
        }
        Op::Store { space, ty, a, at } => {
            access::store(context, block, warp, mask, *space, *ty, a, *at)?
        }
        Op::Atomic { .. } => access::atomic(context, block, warp, mask, op)?,
        Op::Trap => return warp_fault(Problem::Trap),
        Op::WarpSync(members) => {
            all_present(context, warp, mask, at, *members)?;
            warp.sub += 1;
        }
        Op::Shuffle { .. } => shuffle(context, warp, mask, at, op)?,
        Op::Vote {
            kind,
            d,
            q,
            a,
            negated,
            members,
        } => {
            all_present(context, warp, mask, at, *members)?;
            let given = (warp.predicate(*a) ^ if *negated { FULL } else { 0 }) & mask;
            if let Some(d) = d {
                warp.set32(*d, mask, &[given; 32]);
            }
            let holds = match kind {
                Vote::Ballot => false,
                Vote::Any => given != 0,
                Vote::All => given == mask,
                Vote::Uniform => given == 0 || given == mask,
            };
            if *kind != Vote::Ballot {
                warp.set_predicate(*q, mask, if holds { FULL } else { 0 });
            }
        }
        Op::ActiveMask(d) => warp.set32(*d, mask, &[mask; 32]),
        Op::Mma { d, a, b, c, brain } => {
            whole_warp(context, mask, at)?;
            let (a, b, c) = (
                a.map(|r| warp.narrow(r)),
                b.map(|r| warp.narrow(r)),
                c.map(|r| warp.narrow(r)),
            );
            let result = matrix::multiply(a, b, c, *brain, context.options.sums);
            for (d, values) in d.iter().zip(&result) {
                warp.set32(*d, mask, values);
            }
        }
        Op::LoadMatrix {
            d,
            transposed,
            at: address,
        } => {
            whole_warp(context, mask, at)?;
            access::load_matrix(context, block, warp, d, *transposed, *address)?;
        }
        Op::Copy { .. } => copy::begin(context, block, warp, mask, op)?,
        Op::Commit => lanes_of(mask).for_each(|lane| warp.committed[lane] += 1),
        Op::Await(pending) => copy::wait(context, block, warp, mask, *pending),
        Op::Branch(..) | Op::Table(..) | Op::Exit | Op::Barrier { .. } | Op::Hopper(_) => {
            unreachable!("handled where lanes are moved")
        }
    }
    Ok(())
}

/// The smaller of two numbers, the other one where one is NaN; -0 is below +0.
#[inline(always)]
fn smaller(x: u32, y: u32) -> u32 {
    let (a, b) = (f32::from_bits(x), f32::from_bits(y));
    if a == b {
        x | y
    } else if a < b || b.is_nan() {
        x
    } else {
        y
    }
}

fn whole_warp(context: &Context, mask: u32, at: usize) -> Result<(), Fault> {
    if mask == FULL {
        return Ok(());
    }
    warp_fault(Problem::AbsentLanes {
        instruction: context.opcode(at),
        missing: !mask,
    })
}

/// Every lane that the instruction names must execute it, and name itself.
fn all_present(
    context: &Context,
    warp: &Warp,
    mask: u32,
    at: usize,
    members: Reg,
) -> Result<(), Fault> {
    let members = warp.get32(members);
    for lane in lanes_of(mask) {
        let missing = members[lane] & !mask | !members[lane] & 1 << lane;
        if missing != 0 {
            return fault(
                lane,
                Problem::AbsentLanes {
                    instruction: context.opcode(at),
                    missing,
                },
            );
        }
    }
    Ok(())
}

fn shuffle(context: &Context, warp: &mut Warp, mask: u32, at: usize, op: &Op) -> Result<(), Fault> {
    let Op::Shuffle {
        kind,
        d,
        p,
        a,
        b,
        c,
        members,
    } = op
    else {
        unreachable!("only shuffles come here")
    };
    all_present(context, warp, mask, at, *members)?;
    let (a, b, c) = (warp.get32(*a), warp.get32(*b), warp.get32(*c));
    let (mut values, mut inside) = ([0; 32], 0);
    for lane in lanes_of(mask) {
        let own = lane as i32;
        let segment = (c[lane] >> 8 & 31) as i32;
        let limit = (c[lane] & 31) as i32;
        let delta = (b[lane] & 31) as i32;
        let (low, high) = (own & segment, own & segment | limit & !segment);
        let (from, valid) = match kind {
            Shuffle::Up => (own - delta, own - delta >= high),
            Shuffle::Down => (own + delta, own + delta <= high),
            Shuffle::Butterfly => (own ^ delta, own ^ delta <= high),
            Shuffle::Index => (low | delta & !segment, (low | delta & !segment) <= high),
        };
        let from = if valid { from as usize } else { lane };
        if mask >> from & 1 == 0 {
            return fault(
                lane,
                Problem::AbsentLanes {
                    instruction: context.opcode(at),
                    missing: 1 << from,
                },
            );
        }
        values[lane] = a[from];
        inside |= u32::from(valid) << lane;
    }
    warp.set32(*d, mask, &values);
    if let Some(p) = p {
        warp.set_predicate(*p, mask, inside);
    }
    Ok(())
}
