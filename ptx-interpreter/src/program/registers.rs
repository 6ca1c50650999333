//! Which registers an instruction reads and writes.

use super::hopper::Hopper;
use super::instruction::{Instruction, Op};
use super::operand::{Address, Reg};
use std::collections::HashSet;

/// For each instruction, the rows of its registers that are sums of products anywhere in the kernel, and whether it writes them. Products
/// themselves are left out; empty when there are none.
pub fn touches(code: &[Instruction]) -> Vec<Box<[(u32, bool)]>> {
    let mut sums = HashSet::new();
    for instruction in code {
        if let Op::Hopper(op) = &instruction.op
            && let Hopper::Product { sums: regs, .. } = &**op
        {
            sums.extend(regs.iter().map(|reg| reg.row() as u32));
        }
    }
    if sums.is_empty() {
        return Vec::new();
    }
    let of = |instruction: &Instruction| {
        let mut found = Vec::new();
        visit(&instruction.op, &mut |reg, written| {
            let row = reg.row() as u32;
            if sums.contains(&row) {
                found.push((row, written));
            }
        });
        found.into()
    };
    code.iter().map(of).collect()
}

fn visit(op: &Op, f: &mut impl FnMut(Reg, bool)) {
    let address = |at: &Address, f: &mut dyn FnMut(Reg, bool)| {
        if let Some(base) = at.base {
            f(base, false);
        }
    };
    match op {
        Op::Nop
        | Op::Branch(..)
        | Op::Exit
        | Op::Trap
        | Op::Predicate(..)
        | Op::Commit
        | Op::Await(_)
        | Op::Hopper(_) => {}
        Op::Int32(_, d, a, b) | Op::Int64(_, d, a, b) | Op::Float32(_, d, a, b) => {
            f(*d, true);
            [a, b].into_iter().for_each(|a| f(*a, false));
        }
        Op::MulWide(_, d, a, b) | Op::Select { d, a, b, .. } => {
            f(*d, true);
            [a, b].into_iter().for_each(|a| f(*a, false));
        }
        Op::Mad32(d, a, b, c) | Op::Fma32(d, a, b, c) => {
            f(*d, true);
            [a, b, c].into_iter().for_each(|a| f(*a, false));
        }
        Op::Move { d, a, .. }
        | Op::Keep(d, a, _)
        | Op::HalfToFloat(d, a)
        | Op::FloatToHalf(d, a) => {
            f(*d, true);
            f(*a, false);
        }
        Op::Insert {
            d,
            a,
            b,
            start,
            length,
        } => {
            f(*d, true);
            [a, b, start, length].into_iter().for_each(|a| f(*a, false));
        }
        // Operands that a function does not have are the first ones again, or the result.
        Op::Lane { d, a, .. } => {
            f(*d, true);
            a.iter().filter(|a| *a != d).for_each(|a| f(*a, false));
        }
        Op::Compare { a, b, .. } => {
            [a, b].into_iter().for_each(|a| f(*a, false));
        }
        Op::Test { a, .. } => a.iter().for_each(|a| f(*a, false)),
        Op::Pack(d, parts) => {
            f(*d, true);
            parts.iter().for_each(|a| f(*a, false));
        }
        Op::Unpack(parts, a) => {
            f(*a, false);
            parts.iter().flatten().for_each(|d| f(*d, true));
        }
        Op::Load { d, at, .. } => {
            address(at, f);
            d.iter().flatten().for_each(|d| f(*d, true));
        }
        Op::Store { a, at, .. } => {
            address(at, f);
            a.iter().for_each(|a| f(*a, false));
        }
        Op::Atomic { d, at, a, b, .. } => {
            address(at, f);
            f(*a, false);
            b.iter().for_each(|b| f(*b, false));
            d.iter().for_each(|d| f(*d, true));
        }
        Op::Table(a, ..) | Op::WarpSync(a) => f(*a, false),
        Op::Barrier { id, threads } => {
            f(*id, false);
            threads.iter().for_each(|t| f(*t, false));
        }
        Op::Shuffle { d, a, b, c, .. } => {
            f(*d, true);
            [a, b, c].into_iter().for_each(|a| f(*a, false));
        }
        Op::Vote { d, .. } => d.iter().for_each(|d| f(*d, true)),
        Op::ActiveMask(d) => f(*d, true),
        Op::Mma { d, a, b, c, .. } => {
            d.iter().for_each(|d| f(*d, true));
            a.iter().chain(b).chain(c).for_each(|a| f(*a, false));
        }
        Op::LoadMatrix { d, at, .. } => {
            address(at, f);
            d.iter().for_each(|d| f(*d, true));
        }
        Op::Copy { to, from, size, .. } => {
            address(to, f);
            address(from, f);
            size.iter().for_each(|s| f(*s, false));
        }
    }
}
