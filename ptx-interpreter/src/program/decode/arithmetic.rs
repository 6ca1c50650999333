//! What is computed lane by lane.

use super::operands::{Context, Decoder, Register, Result};
use crate::number::float::Rounding;
use crate::program::instruction::*;
use crate::program::kernel::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::program::operand::Reg;
use crate::text::Operand;

fn comparison(name: &str) -> Option<Cmp> {
    use Cmp::*;
    Some(match name {
        "eq" => Eq,
        "ne" => Ne,
        "lt" | "lo" => Lt,
        "le" | "ls" => Le,
        "gt" | "hi" => Gt,
        "ge" | "hs" => Ge,
        "equ" => Equ,
        "neu" => Neu,
        "ltu" => Ltu,
        "leu" => Leu,
        "gtu" => Gtu,
        "geu" => Geu,
        "num" => Num,
        "nan" => Nan,
        _ => return None,
    })
}

impl<'a> Decoder<'a> {
    pub(super) fn arithmetic(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let ty = c.last_type()?;
        let name = c.parts[0];
        let bytes = ty.bytes();
        let wide_result = c.has("wide");
        let half = c.has("hi");
        let func = match name {
            "add" => Func::Add,
            "sub" => Func::Sub,
            "mul" | "mul24" if wide_result => Func::MulWide,
            "mul" if half && !ty.float() => Func::MulHi,
            "mul" => Func::Mul,
            "mad" if ty.float() => Func::Fma,
            "mad" if wide_result => Func::MadWide,
            "mad" if half => Func::MadHi,
            "mad" => Func::Mad,
            "fma" => Func::Fma,
            "div" => Func::Div,
            "rem" => Func::Rem,
            "min" => Func::Min,
            "max" => Func::Max,
            "abs" => Func::Abs,
            "neg" => Func::Neg,
            "not" => Func::Not,
            "cnot" => Func::Cnot,
            "and" => Func::And,
            "or" => Func::Or,
            "xor" => Func::Xor,
            "shl" => Func::Shl,
            "shr" => Func::Shr,
            "shf" if c.has("l") => Func::ShfLeft,
            "shf" => Func::ShfRight,
            "bfe" => Func::Bfe,
            "prmt" => Func::Prmt,
            "popc" => Func::Popc,
            "clz" => Func::Clz,
            "brev" => Func::Brev,
            "sqrt" => Func::Sqrt,
            "rsqrt" => Func::Rsqrt,
            "rcp" => Func::Rcp,
            "ex2" => Func::Ex2,
            "lg2" => Func::Lg2,
            "sin" => Func::Sin,
            "cos" => Func::Cos,
            "tanh" => Func::Tanh,
            "lop3" => match c.operand(4)? {
                Operand::Integer(table) => Func::Lop3(*table as u8),
                _ => return c.unknown(),
            },
            _ => return c.unknown(),
        };
        c.only(&[
            "lo", "hi", "wide", "rn", "rz", "rm", "rp", "ftz", "sat", "approx", "full", "NaN", "l",
            "r", "wrap", "clamp",
        ])?;
        let mode = c.mode(ty);
        let (is_half, single) = (ty.float() && bytes < 8 && ty != Type::F32, ty == Type::F32);
        let known = match func {
            Func::Compare(_) | Func::Convert => false,
            Func::Add | Func::Sub | Func::Mul | Func::Min | Func::Max | Func::Abs | Func::Neg => {
                true
            }
            Func::Fma => ty.float(),
            Func::Div | Func::Rcp | Func::Sqrt => ty.float() && !is_half || func == Func::Div,
            Func::Ex2 | Func::Tanh => single || is_half,
            Func::Lg2 | Func::Sin | Func::Cos => single,
            Func::Rsqrt => single || ty == Type::F64 && mode.approximate,
            _ => !ty.float(),
        };
        let directed = mode.rounding != Rounding::Nearest;
        let rounds_so = single && matches!(func, Func::Add | Func::Sub | Func::Mul | Func::Fma);
        if !known || directed && !rounds_so || func == Func::Prmt && !matches!(c.parts[1], "b32") {
            return c.unknown();
        }
        let d = self.target(c, 0)?;
        let operands = &c.statement.operands[1..];
        let expected = match func {
            Func::Lop3(_) => 4,
            Func::Fma | Func::Mad | Func::MadWide | Func::MadHi | Func::Bfe | Func::Prmt => 3,
            Func::ShfLeft | Func::ShfRight => 3,
            Func::Abs | Func::Neg | Func::Not | Func::Cnot | Func::Popc | Func::Clz => 1,
            Func::Brev | Func::Sqrt | Func::Rsqrt | Func::Rcp | Func::Ex2 | Func::Lg2 => 1,
            Func::Sin | Func::Cos | Func::Tanh => 1,
            _ => 2,
        };
        if operands.len() != expected {
            return c.error(format!(
                "{} has {} operands; it takes {}",
                c.statement.opcode,
                operands.len() + 1,
                expected + 1
            ));
        }
        let shift = matches!(func, Func::Shl | Func::Shr);
        let mut a = [d; 3];
        for (i, place) in a.iter_mut().enumerate() {
            let width = match (func, i) {
                (Func::Shl | Func::Shr, 1) => 4,
                (Func::Bfe, 1 | 2) | (Func::ShfLeft | Func::ShfRight, 2) => 4,
                (Func::MadWide, 2) => 2 * bytes,
                _ => bytes,
            };
            if let Some(operand) = operands.get(i) {
                *place = self.source(c, operand, width)?;
            }
        }
        let plain = !mode.flush && !mode.saturate && !mode.special && !directed;
        let (first, second) = (a[0], a[1]);
        let int = match func {
            Func::Add => Some(Int::Add),
            Func::Sub => Some(Int::Sub),
            Func::Mul => Some(Int::Mul),
            Func::And => Some(Int::And),
            Func::Or => Some(Int::Or),
            Func::Xor => Some(Int::Xor),
            Func::Shl => Some(Int::Shl),
            Func::Shr if ty.signed() => Some(Int::ShrS),
            Func::Shr => Some(Int::ShrU),
            _ => None,
        };
        let float = match func {
            Func::Add => Some(Float::Add),
            Func::Sub => Some(Float::Sub),
            Func::Mul => Some(Float::Mul),
            Func::Min => Some(Float::Min),
            Func::Max => Some(Float::Max),
            _ => None,
        };
        Ok(match (int, float) {
            (Some(int), _) if !ty.float() && bytes == 4 && plain => {
                Op::Int32(int, d, first, second)
            }
            (Some(int), _) if !ty.float() && bytes == 8 && plain && (int != Int::Mul || !shift) => {
                Op::Int64(int, d, first, second)
            }
            (_, Some(float)) if single && plain => Op::Float32(float, d, first, second),
            _ if func == Func::Fma && single && plain => Op::Fma32(d, a[0], a[1], a[2]),
            _ if func == Func::Mad && bytes == 4 && plain => Op::Mad32(d, a[0], a[1], a[2]),
            _ if func == Func::MulWide && bytes == 4 => Op::MulWide(ty.signed(), d, first, second),
            _ => Op::Lane { func, mode, d, a },
        })
    }

    pub(super) fn setp(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let ty = c.last_type()?;
        let Some(cmp) = c.parts.get(1).and_then(|p| comparison(p)) else {
            return c.unknown();
        };
        let named = |name: &Operand<'a>| self.predicate(c, name).map(|(p, _)| p);
        let (d, q) = match c.operand(0)? {
            Operand::Pair(d, q) => (
                named(&Operand::Name(d))?,
                if *q == "_" {
                    None
                } else {
                    Some(named(&Operand::Name(q))?)
                },
            ),
            name => (named(name)?, None),
        };
        let a = self.source(c, c.operand(1)?, ty.bytes())?;
        let b = self.source(c, c.operand(2)?, ty.bytes())?;
        let logic = c.parts[2..].iter().find_map(|p| match *p {
            "and" => Some(Logic::And),
            "or" => Some(Logic::Or),
            "xor" => Some(Logic::Xor),
            _ => None,
        });
        let with = match logic {
            Some(logic) => {
                let (p, negated) = self.predicate(c, c.operand(3)?)?;
                Some((logic, p, negated))
            }
            None => None,
        };
        let how = match ty {
            Type::F32 if !c.has("ftz") && !matches!(cmp, Cmp::Num | Cmp::Nan) => Some(As::F32),
            Type::S32 => Some(As::S32),
            Type::U32 | Type::B32 => Some(As::U32),
            Type::S64 => Some(As::S64),
            Type::U64 | Type::B64 => Some(As::U64),
            _ => None,
        };
        Ok(match how {
            Some(how) if q.is_none() && with.is_none() => Op::Compare { cmp, how, d, a, b },
            _ => Op::Test {
                func: Func::Compare(cmp),
                mode: c.mode(ty),
                d,
                q,
                a: [a, b, a],
                with,
            },
        })
    }

    pub(super) fn mov(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let ty = c.last_type()?;
        if ty == Type::Pred {
            let d = self.predicate(c, c.operand(0)?)?.0;
            let (a, negated) = self.predicate(c, c.operand(1)?)?;
            return Ok(Op::Predicate(
                if negated { Logic::Not } else { Logic::Move },
                d,
                a,
                a,
            ));
        }
        if let Operand::Vector(_) = c.operand(0)? {
            let parts = self.registers(c, c.operand(0)?)?;
            let a = self.source(c, c.operand(1)?, ty.bytes())?;
            return Ok(Op::Unpack(parts.into(), a));
        }
        let d = self.target(c, 0)?;
        if let Operand::Vector(parts) = c.operand(1)? {
            let bytes = ty.bytes() / parts.len();
            let parts: Result<Vec<Reg>> = parts.iter().map(|p| self.source(c, p, bytes)).collect();
            return Ok(Op::Pack(d, parts?.into()));
        }
        Ok(Op::Move {
            d,
            a: self.source(c, c.operand(1)?, ty.bytes())?,
            signed: false,
        })
    }

    /// `cvta`: between a space and the generic one, where device memory has the same addresses.
    pub(super) fn window(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let ty = c.last_type()?;
        let d = self.target(c, 0)?;
        let a = self.source(c, c.operand(1)?, ty.bytes())?;
        let window = match c
            .parts
            .iter()
            .find(|p| ["global", "shared", "local", "param", "const"].contains(p))
        {
            Some(&"shared") => SHARED_WINDOW,
            Some(&"local") => LOCAL_WINDOW,
            Some(&"param") => PARAM_WINDOW,
            Some(&"global") => 0,
            _ => return c.unknown(),
        };
        let int = if c.has("to") { Int::Sub } else { Int::Add };
        Ok(if window == 0 {
            Op::Move {
                d,
                a,
                signed: false,
            }
        } else {
            Op::Int64(int, d, a, self.constant(window, true))
        })
    }

    pub(super) fn convert(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let types = c.types();
        let d = self.target(c, 0)?;
        c.only(&[
            "rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "ftz", "sat", "relu",
        ])?;
        let [to, from] = types[..] else {
            return c.unknown();
        };
        let mode = Mode { from, ..c.mode(to) };
        // What this crate would round to the nearest, or towards zero, whatever is asked for.
        let directed = mode.rounding != Rounding::Nearest && !mode.integral;
        let up_or_down = matches!(mode.rounding, Rounding::Up | Rounding::Down);
        let brain = matches!(to, Type::Bf16 | Type::Bf16x2);
        if directed && to == Type::F64 && !from.float() || brain && up_or_down {
            return c.unknown();
        }
        if matches!(to, Type::F16x2 | Type::Bf16x2) {
            if from != Type::F32 {
                return c.unknown();
            }
            let (a, b) = (
                self.source(c, c.operand(1)?, 4)?,
                self.source(c, c.operand(2)?, 4)?,
            );
            return Ok(Op::Lane {
                func: Func::Pack16,
                mode,
                d,
                a: [a, b, a],
            });
        }
        if c.has("relu") || matches!(from, Type::F16x2 | Type::Bf16x2) {
            return c.unknown();
        }
        // The source's register may be wider than the type.
        let a = match c.operand(1)? {
            Operand::Name(name) => match self.find(name) {
                Some(Register::Value(reg)) => reg,
                _ => self.source(c, c.operand(1)?, from.bytes())?,
            },
            operand => self.source(c, operand, from.bytes())?,
        };
        let plain = !mode.flush && !mode.saturate;
        let integers = !from.float() && !to.float() && plain;
        Ok(match (from, to) {
            (Type::F16, Type::F32) if plain => Op::HalfToFloat(d, a),
            (Type::F32, Type::F16) if plain && mode.rounding == Rounding::Nearest => {
                Op::FloatToHalf(d, a)
            }
            _ if integers && from.bytes() == 4 && to.bytes() >= 4 => Op::Move {
                d,
                a,
                signed: from.signed(),
            },
            _ if integers && from.bytes() == 8 && to.bytes() >= 4 => Op::Move {
                d,
                a,
                signed: false,
            },
            _ if integers && to.bytes() == 2 && !d.wide() && from.bytes() >= 2 => {
                Op::Keep(d, a, 0xffff)
            }
            (Type::U16 | Type::B16, _) if integers && to.bytes() == 4 => Op::Keep(d, a, 0xffff),
            _ => Op::Lane {
                func: Func::Convert,
                mode,
                d,
                a: [a; 3],
            },
        })
    }
}
