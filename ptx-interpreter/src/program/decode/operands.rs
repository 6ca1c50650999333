//! Operands: names become registers, addresses, labels and constants.

use crate::number::float::Rounding;
use crate::program::instruction::{Mode, Type};
use crate::program::kernel::{LaneMask, Preset};
use crate::program::operand::*;
use crate::text::{Operand, ParseError, Statement, Variable};
use std::collections::HashMap;

pub(super) type Result<T> = std::result::Result<T, ParseError>;

#[derive(Clone, Copy)]
pub(super) enum Register {
    Value(Reg),
    Predicate(Pred),
}

pub(super) struct Decoder<'a> {
    /// Innermost scope last.
    pub(super) scopes: Vec<HashMap<String, Register>>,
    pub(super) symbols: HashMap<&'a str, u64>,
    pub(super) labels: HashMap<&'a str, u32>,
    pub(super) targets: HashMap<&'a str, Vec<&'a str>>,
    pub(super) presets: HashMap<(Preset, bool), Reg>,
    pub(super) opcodes: HashMap<&'a str, u32>,
    pub(super) rows: usize,
    pub(super) predicates: usize,
    pub(super) shared_piece: usize,
    pub(super) global_piece: usize,
}

/// Gives each variable its address, in its own space; the bytes of all.
pub(super) fn layout<'a>(
    variables: impl Iterator<Item = &'a Variable<'a>>,
    symbols: &mut HashMap<&'a str, u64>,
) -> usize {
    let mut end = 0usize;
    for variable in variables {
        end = end.next_multiple_of(variable.align);
        symbols.insert(variable.name, end as u64);
        end += variable.bytes;
    }
    end
}

/// One statement while it is decoded.
pub(super) struct Context<'s, 'a> {
    pub(super) statement: &'s Statement<'a>,
    pub(super) parts: Vec<&'a str>,
}

impl<'a> Context<'_, 'a> {
    pub(super) fn error<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(ParseError {
            line: self.statement.line,
            problem: problem.into(),
        })
    }

    pub(super) fn unknown<T>(&self) -> Result<T> {
        self.error(format!("unknown instruction {}", self.statement.opcode))
    }

    pub(super) fn has(&self, part: &str) -> bool {
        self.parts[1..].contains(&part)
    }

    /// The types among the modifiers, in order.
    pub(super) fn types(&self) -> Vec<Type> {
        self.parts[1..]
            .iter()
            .filter_map(|p| Type::parse(p))
            .collect()
    }

    pub(super) fn last_type(&self) -> Result<Type> {
        match self.types().last() {
            Some(&ty) => Ok(ty),
            None => self.unknown(),
        }
    }

    pub(super) fn operand(&self, i: usize) -> Result<&Operand<'a>> {
        match self.statement.operands.get(i) {
            Some(operand) => Ok(operand),
            None => self.error(format!("{} needs more operands", self.statement.opcode)),
        }
    }

    /// Every modifier must be one of these, or a type.
    pub(super) fn only(&self, allowed: &[&str]) -> Result<()> {
        match self.parts[1..]
            .iter()
            .find(|p| Type::parse(p).is_none() && !allowed.contains(p))
        {
            Some(_) => self.unknown(),
            None => Ok(()),
        }
    }

    pub(super) fn rounding(&self) -> Rounding {
        let has = |names: [&str; 2]| names.iter().any(|n| self.has(n));
        if has(["rz", "rzi"]) {
            Rounding::Zero
        } else if has(["rm", "rmi"]) {
            Rounding::Down
        } else if has(["rp", "rpi"]) {
            Rounding::Up
        } else {
            Rounding::Nearest
        }
    }

    pub(super) fn mode(&self, ty: Type) -> Mode {
        Mode {
            ty,
            from: ty,
            rounding: self.rounding(),
            integral: ["rni", "rzi", "rmi", "rpi"].iter().any(|r| self.has(r)),
            flush: self.has("ftz"),
            saturate: self.has("sat") || self.has("relu"),
            approximate: self.has("approx"),
            special: self.has("NaN") || self.has("clamp"),
        }
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn text(&mut self, opcode: &'a str) -> u32 {
        let next = self.opcodes.len() as u32;
        *self.opcodes.entry(opcode).or_insert(next)
    }

    pub(super) fn new_row(&mut self, wide: bool) -> Reg {
        let reg = Reg::new(self.rows, wide);
        self.rows += 1 + usize::from(wide);
        reg
    }

    pub(super) fn declare(&mut self, kind: &str, name: &str, count: Option<u32>) {
        let names: Vec<String> = match count {
            Some(count) => (0..count).map(|i| format!("{name}{i}")).collect(),
            None => vec![name.to_string()],
        };
        let wide = matches!(kind, ".b64" | ".u64" | ".s64" | ".f64");
        for name in names {
            let register = if kind == ".pred" {
                self.predicates += 1;
                Register::Predicate((self.predicates - 1) as Pred)
            } else {
                Register::Value(self.new_row(wide))
            };
            self.scopes
                .last_mut()
                .expect("a scope is open")
                .insert(name, register);
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<Register> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name))
            .copied()
    }

    pub(super) fn preset(&mut self, preset: Preset, wide: bool) -> Reg {
        if let Some(&reg) = self.presets.get(&(preset, wide)) {
            return reg;
        }
        let reg = self.new_row(wide);
        self.presets.insert((preset, wide), reg);
        reg
    }

    pub(super) fn constant(&mut self, bits: u64, wide: bool) -> Reg {
        self.preset(
            Preset::Constant(if wide { bits } else { bits & 0xffff_ffff }),
            wide,
        )
    }

    pub(super) fn special(name: &str) -> Option<Preset> {
        let axis = |suffix: &str| match suffix {
            ".x" => Some(0),
            ".y" => Some(1),
            ".z" => Some(2),
            _ => None,
        };
        let with_axis = |prefix: &str| name.strip_prefix(prefix).and_then(axis);
        Some(match name {
            "%laneid" => Preset::Lane,
            "%warpid" => Preset::Warp,
            "%nwarpid" => Preset::Warps,
            "%cluster_ctarank" => Preset::Rank,
            "%cluster_nctarank" => Preset::Ranks,
            "%lanemask_eq" => Preset::LaneMask(LaneMask::Eq),
            "%lanemask_lt" => Preset::LaneMask(LaneMask::Lt),
            "%lanemask_le" => Preset::LaneMask(LaneMask::Le),
            "%lanemask_gt" => Preset::LaneMask(LaneMask::Gt),
            "%lanemask_ge" => Preset::LaneMask(LaneMask::Ge),
            _ => {
                if let Some(i) = with_axis("%tid") {
                    Preset::Thread(i)
                } else if let Some(i) = with_axis("%ntid") {
                    Preset::Threads(i)
                } else if let Some(i) = with_axis("%ctaid") {
                    Preset::Block(i)
                } else if let Some(i) = with_axis("%nctaid") {
                    Preset::Blocks(i)
                } else if let Some(i) = with_axis("%clusterid") {
                    Preset::Cluster(i)
                } else if let Some(i) = with_axis("%nclusterid") {
                    Preset::Clusters(i)
                } else if let Some(i) = with_axis("%cluster_ctaid") {
                    Preset::BlockInCluster(i)
                } else {
                    Preset::BlocksInCluster(with_axis("%cluster_nctaid")?)
                }
            }
        })
    }

    /// A value of a width in bytes.
    pub(super) fn source(
        &mut self,
        c: &Context<'_, 'a>,
        operand: &Operand<'a>,
        bytes: usize,
    ) -> Result<Reg> {
        let wide = bytes == 8;
        match operand {
            Operand::Integer(value) => {
                let bits = *value as u64;
                Ok(self.constant(
                    if wide {
                        bits
                    } else {
                        bits & ((1 << (8 * bytes)) - 1)
                    },
                    wide,
                ))
            }
            Operand::F32(bits) if wide => {
                Ok(self.constant(f64::from(f32::from_bits(*bits)).to_bits(), true))
            }
            Operand::F32(bits) => Ok(self.constant((*bits).into(), false)),
            Operand::F64(bits) if wide => Ok(self.constant(*bits, true)),
            Operand::F64(bits) => {
                Ok(self.constant((f64::from_bits(*bits) as f32).to_bits().into(), false))
            }
            Operand::Name(name) => match self.find(name) {
                Some(Register::Value(reg)) if reg.wide() == wide => Ok(reg),
                Some(_) => c.error(format!("{name} is not a register of {bytes} bytes")),
                None => match Self::special(name) {
                    Some(preset) => Ok(self.preset(preset, wide)),
                    None => self.symbol(c, name, 0, wide),
                },
            },
            Operand::Address(Some(name), offset) => self.symbol(c, name, *offset, wide),
            _ => c.error(format!("{operand:?} is not a value")),
        }
    }

    /// The address of a variable, in its own space.
    pub(super) fn symbol(
        &mut self,
        c: &Context<'_, 'a>,
        name: &str,
        offset: i64,
        wide: bool,
    ) -> Result<Reg> {
        match self.symbols.get(name) {
            Some(address) => Ok(self.constant(address.wrapping_add_signed(offset), wide)),
            None => c.error(format!("{name} is not known")),
        }
    }

    pub(super) fn register(&self, c: &Context<'_, 'a>, name: &str) -> Result<Reg> {
        match self.find(name) {
            Some(Register::Value(reg)) => Ok(reg),
            _ => c.error(format!("{name} is not a register")),
        }
    }

    pub(super) fn target(&self, c: &Context<'_, 'a>, i: usize) -> Result<Reg> {
        match c.operand(i)? {
            Operand::Name(name) | Operand::Pair(name, _) => self.register(c, name),
            operand => c.error(format!("{operand:?} cannot be written")),
        }
    }

    pub(super) fn predicate(
        &self,
        c: &Context<'_, 'a>,
        operand: &Operand<'a>,
    ) -> Result<(Pred, bool)> {
        let named = |name: &str| match self.find(name) {
            Some(Register::Predicate(p)) => Ok(p),
            _ => c.error(format!("{name} is not a predicate")),
        };
        match operand {
            Operand::Name(name) => Ok((named(name)?, false)),
            Operand::Not(name) => Ok((named(name)?, true)),
            Operand::Integer(value) => Ok((if *value != 0 { TRUE } else { FALSE }, false)),
            _ => c.error(format!("{operand:?} is not a predicate")),
        }
    }

    pub(super) fn address(
        &mut self,
        c: &Context<'_, 'a>,
        operand: &Operand<'a>,
    ) -> Result<Address> {
        match operand {
            Operand::Address(None, offset) => Ok(Address {
                base: None,
                offset: *offset,
            }),
            Operand::Address(Some(name), offset) => match self.find(name) {
                Some(Register::Value(base)) => Ok(Address {
                    base: Some(base),
                    offset: *offset,
                }),
                Some(_) => c.error(format!("{name} is not an address")),
                None => match self.symbols.get(name) {
                    Some(address) => Ok(Address {
                        base: None,
                        offset: *address as i64 + offset,
                    }),
                    None => c.error(format!("{name} is not known")),
                },
            },
            _ => c.error(format!("{operand:?} is not an address")),
        }
    }

    /// The registers of `{a, b}` or of a single one; `_` and sinks are `None`.
    pub(super) fn registers(
        &self,
        c: &Context<'_, 'a>,
        operand: &Operand<'a>,
    ) -> Result<Vec<Option<Reg>>> {
        let one = |operand: &Operand<'a>| match operand {
            Operand::Name("_") => Ok(None),
            Operand::Name(name) => Ok(Some(self.register(c, name)?)),
            _ => c.error(format!("{operand:?} is not a register")),
        };
        match operand {
            Operand::Vector(parts) => parts.iter().map(one).collect(),
            _ => Ok(vec![one(operand)?]),
        }
    }

    pub(super) fn exactly<const N: usize>(
        &self,
        c: &Context<'_, 'a>,
        i: usize,
    ) -> Result<[Reg; N]> {
        let registers: Option<Vec<Reg>> = self.registers(c, c.operand(i)?)?.into_iter().collect();
        match registers.map(<[Reg; N]>::try_from) {
            Some(Ok(registers)) => Ok(registers),
            _ => c.error(format!("operand {} must be {N} registers", i + 1)),
        }
    }

    pub(super) fn label(&self, c: &Context<'_, 'a>, name: &str) -> Result<u32> {
        match self.labels.get(name) {
            Some(&index) => Ok(index),
            None => c.error(format!("there is no label {name}")),
        }
    }

    pub(super) fn plain_predicate(&self, c: &Context<'_, 'a>, i: usize) -> Result<Pred> {
        match self.predicate(c, c.operand(i)?)? {
            (p, false) => Ok(p),
            _ => c.error("a negated predicate cannot stand here"),
        }
    }
}
