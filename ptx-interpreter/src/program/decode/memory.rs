//! Loads, stores and copies.

use super::operands::{Context, Decoder, Register, Result};
use crate::finding::Space;
use crate::program::instruction::*;
use crate::program::operand::Reg;
use crate::text::Operand;

impl<'a> Decoder<'a> {
    pub(super) fn space(&self, c: &Context<'_, 'a>) -> Space {
        for part in &c.parts[1..] {
            if *part == "shared::cluster" {
                return Space::Cluster;
            }
            match part.split("::").next() {
                Some("global") => return Space::Global,
                Some("shared") => return Space::Shared,
                Some("local") => return Space::Local,
                Some("param") => return Space::Param,
                _ => {}
            }
        }
        Space::Generic
    }

    /// Remembers how narrow the accesses to a space are.
    pub(super) fn narrowest(&mut self, space: Space, bytes: usize) {
        if matches!(space, Space::Shared | Space::Cluster | Space::Generic) {
            self.shared_piece = self.shared_piece.min(bytes);
        }
        if matches!(space, Space::Global | Space::Generic) {
            self.global_piece = self.global_piece.min(bytes);
        }
    }

    pub(super) fn load(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let ty = c.last_type()?;
        if c.has("const") || ty == Type::Pred {
            return c.unknown();
        }
        let space = self.space(c);
        self.narrowest(space, ty.bytes());
        Ok(Op::Load {
            space,
            ty,
            d: self.registers(c, c.operand(0)?)?.into(),
            at: self.address(c, c.operand(1)?)?,
        })
    }

    pub(super) fn store(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let ty = c.last_type()?;
        if c.has("async") || c.has("bulk") || ty == Type::Pred {
            return c.unknown();
        }
        let space = self.space(c);
        self.narrowest(space, ty.bytes());
        let at = self.address(c, c.operand(0)?)?;
        let parts = match c.operand(1)? {
            Operand::Vector(parts) => parts.clone(),
            one => vec![one.clone()],
        };
        let a: Result<Vec<Reg>> = (parts.iter())
            .map(|part| match part {
                // The register may be wider than what is stored of it.
                Operand::Name(name) => match self.find(name) {
                    Some(Register::Value(reg)) if reg.wide() || ty.bytes() < 8 => Ok(reg),
                    _ => self.source(c, part, ty.bytes()),
                },
                _ => self.source(c, part, ty.bytes()),
            })
            .collect();
        Ok(Op::Store {
            space,
            ty,
            a: a?.into(),
            at,
        })
    }

    pub(super) fn atomic(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let ty = c.last_type()?;
        let space = self.space(c);
        let reduction = c.parts[0] == "red";
        let atom = c.parts[1..].iter().find_map(|p| {
            Some(match *p {
                "add" => Atom::Add,
                "min" => Atom::Min,
                "max" => Atom::Max,
                "and" => Atom::And,
                "or" => Atom::Or,
                "xor" => Atom::Xor,
                "exch" => Atom::Exchange,
                "cas" => Atom::CompareAndSwap,
                _ => return None,
            })
        });
        let float = ty.float() && !matches!((ty, atom), (Type::F32 | Type::F64, Some(Atom::Add)));
        let (Some(atom), false, false, true) =
            (atom, float, c.has("noftz"), matches!(ty.bytes(), 4 | 8))
        else {
            return c.unknown();
        };
        if matches!(space, Space::Local | Space::Param | Space::Cluster) {
            return c.unknown();
        }
        let first = usize::from(!reduction);
        let d = match c.operand(0)? {
            _ if reduction => None,
            Operand::Name("_") => None,
            _ => Some(self.target(c, 0)?),
        };
        let swap = atom == Atom::CompareAndSwap;
        Ok(Op::Atomic {
            space,
            atom,
            ty,
            d,
            at: self.address(c, c.operand(first)?)?,
            a: self.source(c, c.operand(first + 1)?, ty.bytes())?,
            b: if swap {
                Some(self.source(c, c.operand(first + 2)?, ty.bytes())?)
            } else {
                None
            },
        })
    }

    pub(super) fn load_matrix(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        c.only(&[
            "sync",
            "aligned",
            "m8n8",
            "x1",
            "x2",
            "x4",
            "trans",
            "shared",
            "shared::cta",
        ])?;
        if self.space(c) != Space::Shared || !c.has("b16") {
            return c.unknown();
        }
        let d: Option<Vec<Reg>> = self.registers(c, c.operand(0)?)?.into_iter().collect();
        let count = if c.has("x4") {
            4
        } else if c.has("x2") {
            2
        } else {
            1
        };
        match d {
            Some(d) if d.len() == count => Ok(Op::LoadMatrix {
                d: d.into(),
                transposed: c.has("trans"),
                at: self.address(c, c.operand(1)?)?,
            }),
            _ => c.unknown(),
        }
    }

    pub(super) fn copy(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        match c.statement.opcode {
            "cp.async.commit_group" => return Ok(Op::Commit),
            "cp.async.wait_all" => return Ok(Op::Await(None)),
            "cp.async.wait_group" => {
                return match c.operand(0)? {
                    Operand::Integer(pending) => Ok(Op::Await(Some(*pending as u32))),
                    _ => c.unknown(),
                };
            }
            _ => {}
        }
        let known = matches!(
            c.parts[..4.min(c.parts.len())],
            ["cp", "async", "ca" | "cg", "shared" | "shared::cta"]
        );
        if !known || !c.has("global") || c.has("bulk") || c.has("L2::cache_hint") {
            return c.unknown();
        }
        let bytes = match c.operand(2)? {
            Operand::Integer(bytes @ (4 | 8 | 16)) => *bytes as usize,
            _ => return c.unknown(),
        };
        if c.has("cg") && bytes != 16 {
            return c.error("cp.async.cg copies 16 bytes");
        }
        let (mut size, mut ignore) = (None, None);
        if let Some(operand) = c.statement.operands.get(3) {
            match operand {
                Operand::Name(name) if matches!(self.find(name), Some(Register::Predicate(_))) => {
                    ignore = Some(self.plain_predicate(c, 3)?);
                }
                _ => size = Some(self.source(c, operand, 4)?),
            }
        }
        Ok(Op::Copy {
            to: self.address(c, c.operand(0)?)?,
            from: self.address(c, c.operand(1)?)?,
            bytes,
            size,
            ignore,
        })
    }
}
