//! What lanes and warps do together.

use super::operands::{Context, Decoder, Result};
use crate::program::instruction::*;
use crate::program::operand::{FALSE, Reg};
use crate::text::Operand;

impl<'a> Decoder<'a> {
    pub(super) fn indirect(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let index = self.source(c, c.operand(0)?, 4)?;
        let Operand::Name(table) = c.operand(1)? else {
            return c.unknown();
        };
        let Some(targets) = self.targets.get(table).cloned() else {
            return c.error(format!("there is no list of targets {table}"));
        };
        let targets: Result<Vec<u32>> = targets.iter().map(|t| self.label(c, t)).collect();
        Ok(Op::Table(index, targets?.into(), NOWHERE))
    }

    pub(super) fn barrier(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        if c.has("cluster") || c.has("red") || c.has("arrive") {
            return c.unknown();
        }
        if c.has("warp") {
            return Ok(Op::WarpSync(self.source(c, c.operand(0)?, 4)?));
        }
        if !c.has("sync") {
            return c.unknown();
        }
        let id = self.source(c, c.operand(0)?, 4)?;
        let threads = match c.statement.operands.get(1) {
            Some(operand) => Some(self.source(c, operand, 4)?),
            None => None,
        };
        Ok(Op::Barrier { id, threads })
    }

    pub(super) fn shuffle(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let kind = match (c.has("sync"), c.parts.get(2)) {
            (true, Some(&"down")) => Shuffle::Down,
            (true, Some(&"up")) => Shuffle::Up,
            (true, Some(&"bfly")) => Shuffle::Butterfly,
            (true, Some(&"idx")) => Shuffle::Index,
            _ => return c.unknown(),
        };
        let p = match c.operand(0)? {
            Operand::Pair(_, p) => Some(self.predicate(c, &Operand::Name(p))?.0),
            _ => None,
        };
        Ok(Op::Shuffle {
            kind,
            d: self.target(c, 0)?,
            p,
            a: self.source(c, c.operand(1)?, 4)?,
            b: self.source(c, c.operand(2)?, 4)?,
            c: self.source(c, c.operand(3)?, 4)?,
            members: self.source(c, c.operand(4)?, 4)?,
        })
    }

    pub(super) fn vote(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let kind = match (c.has("sync"), c.parts.get(2)) {
            (true, Some(&"ballot")) => Vote::Ballot,
            (true, Some(&"any")) => Vote::Any,
            (true, Some(&"all")) => Vote::All,
            (true, Some(&"uni")) => Vote::Uniform,
            _ => return c.unknown(),
        };
        let (d, q) = if kind == Vote::Ballot {
            (Some(self.target(c, 0)?), FALSE)
        } else {
            (None, self.predicate(c, c.operand(0)?)?.0)
        };
        let (a, negated) = self.predicate(c, c.operand(1)?)?;
        let members = self.source(c, c.operand(2)?, 4)?;
        Ok(Op::Vote {
            kind,
            d,
            q,
            a,
            negated,
            members,
        })
    }

    pub(super) fn mma(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        let brain = match c.statement.opcode {
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" => false,
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" => true,
            _ => return c.unknown(),
        };
        let constants = |this: &mut Self, i: usize| -> Result<[Reg; 4]> {
            match c.operand(i)? {
                Operand::Vector(parts) if parts.len() == 4 => {
                    let registers: Result<Vec<Reg>> =
                        parts.iter().map(|p| this.source(c, p, 4)).collect();
                    Ok(registers?.try_into().expect("four of them"))
                }
                _ => c.unknown(),
            }
        };
        Ok(Op::Mma {
            d: self.exactly(c, 0)?,
            a: self.exactly(c, 1)?,
            b: self.exactly(c, 2)?,
            c: constants(self, 3)?,
            brain,
        })
    }
}
