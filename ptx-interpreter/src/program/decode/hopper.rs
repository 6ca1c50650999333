//! Hopper's instructions.

use super::operands::{Context, Decoder, Result};
use crate::program::hopper::Hopper;
use crate::program::instruction::Op;
use crate::program::operand::{Address, Reg, TRUE};
use crate::text::Operand;

impl<'a> Decoder<'a> {
    /// The instruction, if it is one of Hopper's.
    pub(super) fn hopper(&mut self, c: &Context<'_, 'a>) -> Result<Option<Op>> {
        let op = match c.parts[0] {
            "mbarrier" => self.mbarrier(c)?,
            "mapa" => self.mapa(c)?,
            "barrier" if c.has("cluster") => match c.statement.opcode {
                "barrier.cluster.arrive"
                | "barrier.cluster.arrive.aligned"
                | "barrier.cluster.arrive.release"
                | "barrier.cluster.arrive.release.aligned" => Hopper::ClusterArrive,
                "barrier.cluster.wait"
                | "barrier.cluster.wait.aligned"
                | "barrier.cluster.wait.acquire"
                | "barrier.cluster.wait.acquire.aligned" => Hopper::ClusterWait,
                _ => return c.unknown(),
            },
            "wgmma" => self.wgmma(c)?,
            "setmaxnreg" => self.setmaxnreg(c)?,
            "elect" if c.statement.opcode == "elect.sync" => {
                let Operand::Pair(d, p) = c.operand(0)? else {
                    return c.unknown();
                };
                let (d, p) = (*d, *p);
                Hopper::Elect {
                    d: match d {
                        "_" => None,
                        _ => Some(self.register(c, d)?),
                    },
                    p: self.predicate(c, &Operand::Name(p))?.0,
                    members: self.source(c, c.operand(1)?, 4)?,
                }
            }
            "fence" if c.statement.opcode.starts_with("fence.proxy.async") => Hopper::ProxyFence,
            "fence" if c.has("mbarrier_init") => Hopper::ProxyFence,
            "fence"
                if c.statement
                    .opcode
                    .starts_with("fence.proxy.tensormap::generic.acquire") =>
            {
                Hopper::MapFence(self.address(c, c.operand(0)?)?)
            }
            "cp" if c.parts.get(2) == Some(&"bulk") => self.bulk(c)?,
            _ => return Ok(None),
        };
        Ok(Some(Op::Hopper(Box::new(op))))
    }

    fn mbarrier(&mut self, c: &Context<'_, 'a>) -> Result<Hopper> {
        let (of_cluster, wide) = (c.has("shared::cluster"), c.has("cluster"));
        if !c.has("b64") || (of_cluster && !matches!(c.parts[1], "arrive" | "expect_tx")) {
            return c.unknown();
        }
        Ok(match c.parts[1] {
            "init" => Hopper::Init {
                barrier: self.address(c, c.operand(0)?)?,
                count: self.source(c, c.operand(1)?, 4)?,
            },
            "arrive" if !c.has("noComplete") && !c.has("relaxed") => {
                let d = match c.operand(0)? {
                    Operand::Name("_") => None,
                    _ if of_cluster => return c.error("another block's barrier gives no state"),
                    _ => Some(self.target(c, 0)?),
                };
                let barrier = self.address(c, c.operand(1)?)?;
                let number = match c.statement.operands.get(2) {
                    Some(operand) => Some(self.source(c, operand, 4)?),
                    None => None,
                };
                let (count, bytes) = match (c.has("expect_tx"), number) {
                    (true, None) => return c.unknown(),
                    (true, bytes) => (None, bytes),
                    (false, count) => (count, None),
                };
                Hopper::Arrive {
                    d,
                    barrier,
                    count,
                    bytes,
                    of_cluster,
                    wide,
                }
            }
            "expect_tx" => Hopper::Expect {
                barrier: self.address(c, c.operand(0)?)?,
                bytes: self.source(c, c.operand(1)?, 4)?,
                of_cluster,
            },
            "try_wait" | "test_wait" if c.has("parity") && !c.has("relaxed") => Hopper::Try {
                p: self.predicate(c, c.operand(0)?)?.0,
                barrier: self.address(c, c.operand(1)?)?,
                parity: self.source(c, c.operand(2)?, 4)?,
                wide,
            },
            _ => return c.unknown(),
        })
    }

    fn mapa(&mut self, c: &Context<'_, 'a>) -> Result<Hopper> {
        let bytes = match c.statement.opcode {
            "mapa.shared::cluster.u32" => 4,
            "mapa.shared::cluster.u64" => 8,
            _ => return c.unknown(),
        };
        Ok(Hopper::MapAddress {
            d: self.target(c, 0)?,
            a: self.source(c, c.operand(1)?, bytes)?,
            rank: self.source(c, c.operand(2)?, 4)?,
        })
    }

    /// An address with coordinates: `[map, {x, y}]`.
    fn tensor(&mut self, c: &Context<'_, 'a>, i: usize) -> Result<(Address, Box<[Reg]>)> {
        let Operand::Tensor(base, offset, corner) = c.operand(i)? else {
            return c.unknown();
        };
        let map = self.address(c, &Operand::Address(Some(base), *offset))?;
        let corner: Result<Vec<Reg>> = corner.iter().map(|x| self.source(c, x, 4)).collect();
        Ok((map, corner?.into()))
    }

    fn bulk(&mut self, c: &Context<'_, 'a>) -> Result<Hopper> {
        match c.statement.opcode {
            "cp.async.bulk.commit_group" => return Ok(Hopper::StoreCommit),
            "cp.async.bulk.wait_group" | "cp.async.bulk.wait_group.read" => {
                return match c.operand(0)? {
                    Operand::Integer(pending) => Ok(Hopper::StoreWait(*pending as u32)),
                    _ => c.unknown(),
                };
            }
            _ => {}
        }
        let rank = match c.parts.get(4) {
            Some(&"1d") => 1,
            Some(&"2d") => 2,
            Some(&"3d") => 3,
            Some(&"4d") => 4,
            Some(&"5d") => 5,
            _ => return c.unknown(),
        };
        let rest: Vec<&str> = c.parts[5..]
            .iter()
            .copied()
            .filter(|part| *part != "tile")
            .collect();
        let op = match (c.parts[3], &rest[..]) {
            (
                "tensor",
                [
                    space @ ("shared::cluster" | "shared::cta"),
                    "global",
                    "mbarrier::complete_tx::bytes",
                    multicast @ ..,
                ],
            ) => {
                let (map, corner) = self.tensor(c, 1)?;
                let of_cluster = *space == "shared::cluster";
                let blocks = match multicast {
                    [] => None,
                    ["multicast::cluster"] if of_cluster => {
                        Some(self.source(c, c.operand(3)?, 2)?)
                    }
                    _ => return c.unknown(),
                };
                Hopper::Load {
                    to: self.address(c, c.operand(0)?)?,
                    map,
                    corner,
                    barrier: self.address(c, c.operand(2)?)?,
                    of_cluster,
                    blocks,
                }
            }
            ("tensor", ["global", "shared::cta", "bulk_group"]) => {
                let (map, corner) = self.tensor(c, 0)?;
                Hopper::Store {
                    map,
                    corner,
                    from: self.address(c, c.operand(1)?)?,
                }
            }
            _ => return c.unknown(),
        };
        let (Hopper::Load { corner, .. } | Hopper::Store { corner, .. }) = &op else {
            unreachable!("one of the two")
        };
        if corner.len() != rank {
            return c.error(format!("{rank} coordinates are needed"));
        }
        Ok(op)
    }

    fn setmaxnreg(&mut self, c: &Context<'_, 'a>) -> Result<Hopper> {
        match (c.parts.get(1), c.operand(0)?) {
            (Some(&direction @ ("inc" | "dec")), Operand::Integer(count))
                if (24..=256).contains(count) && count % 8 == 0 =>
            {
                Ok(Hopper::Registers {
                    count: *count as u32,
                    more: direction == "inc",
                })
            }
            _ => c.error("setmaxnreg takes a multiple of 8 from 24 to 256"),
        }
    }

    fn wgmma(&mut self, c: &Context<'_, 'a>) -> Result<Hopper> {
        match c.statement.opcode {
            "wgmma.fence.sync.aligned" => return Ok(Hopper::ProductFence),
            "wgmma.commit_group.sync.aligned" => return Ok(Hopper::ProductCommit),
            "wgmma.wait_group.sync.aligned" => {
                return match c.operand(0)? {
                    Operand::Integer(pending) => Ok(Hopper::ProductWait(*pending as u32)),
                    _ => c.unknown(),
                };
            }
            _ => {}
        }
        let [
            "wgmma",
            "mma_async",
            "sync",
            "aligned",
            shape,
            "f32",
            left,
            right,
        ] = c.parts[..]
        else {
            return c.unknown();
        };
        let columns = shape
            .strip_prefix("m64n")
            .and_then(|rest| rest.strip_suffix("k16"))
            .and_then(|n| n.parse().ok())
            .filter(|n: &usize| n.is_multiple_of(8) && (8..=256).contains(n));
        let (Some(columns), true, true) = (columns, left == right, matches!(left, "f16" | "bf16"))
        else {
            return c.unknown();
        };
        let sums: Option<Vec<Reg>> = self.registers(c, c.operand(0)?)?.into_iter().collect();
        let sums = match sums {
            Some(sums) if sums.len() == columns / 2 => sums,
            _ => return c.error(format!("{} registers are needed for sums", columns / 2)),
        };
        let number = |i: usize| match c.operand(i)? {
            Operand::Integer(value) => Ok(*value),
            _ => c.unknown(),
        };
        if number(4)? != 1 || number(5)? != 1 {
            return c.error("operands with their sign turned are not modelled");
        }
        if !matches!(c.operand(1)?, Operand::Name(_)) {
            return c.error("an operand in registers is not modelled");
        }
        let scale = match c.operand(3)? {
            Operand::Integer(1) => TRUE,
            _ => self.plain_predicate(c, 3)?,
        };
        Ok(Hopper::Product {
            sums: sums.into(),
            a: self.source(c, c.operand(1)?, 8)?,
            b: self.source(c, c.operand(2)?, 8)?,
            scale,
            transposed: [number(6)? == 1, number(7)? == 1],
            brain: left == "bf16",
        })
    }
}
