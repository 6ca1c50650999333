//! Statements become instructions.

mod arithmetic;
mod hopper;
mod memory;
mod operands;
mod warp;

use super::flow::find_meeting_points;
use super::instruction::*;
use super::kernel::Kernel;
use super::registers::touches;
use crate::text::{Entry, Item, Operand, Statement, Variable};
use operands::{Context, Decoder, Result, layout};
use std::collections::HashMap;

pub fn decode<'a>(entry: &'a Entry<'a>, module: &'a [Variable<'a>]) -> Result<Kernel> {
    let mut symbols = HashMap::new();
    let parameter_bytes = layout(entry.parameters.iter(), &mut symbols);
    let inside: Vec<&Variable> = (entry.body.iter())
        .filter_map(|item| match item {
            Item::Variable(variable) => Some(variable),
            _ => None,
        })
        .collect();
    let within = |space: &'static str| {
        let of_body = inside.iter().copied().filter(move |v| v.space == space);
        module
            .iter()
            .filter(move |v| v.space == space)
            .chain(of_body)
    };
    // Arrays without a length begin where the others end.
    let mut shared: Vec<&Variable> = within(".shared").collect();
    shared.sort_by_key(|v| v.bytes == 0);
    let shared_bytes = layout(shared.into_iter(), &mut symbols);
    let local_bytes = layout(within(".local"), &mut symbols);
    let mut decoder = Decoder {
        scopes: vec![HashMap::new()],
        symbols,
        labels: HashMap::new(),
        targets: HashMap::new(),
        presets: HashMap::new(),
        opcodes: HashMap::new(),
        rows: 0,
        predicates: 2,
        shared_piece: 4,
        global_piece: 4,
    };
    let mut index = 0;
    for item in &entry.body {
        match item {
            Item::Label(label) => {
                decoder.labels.insert(label, index);
            }
            Item::Targets(label, targets) => {
                decoder.targets.insert(label, targets.clone());
            }
            Item::Statement(_) => index += 1,
            _ => {}
        }
    }
    let mut code = Vec::with_capacity(index as usize + 1);
    for item in &entry.body {
        match item {
            Item::Open => decoder.scopes.push(HashMap::new()),
            Item::Close => {
                decoder.scopes.pop();
            }
            Item::Registers(kind, name, count) => decoder.declare(kind, name, *count),
            Item::Statement(statement) => code.push(decoder.statement(statement)?),
            Item::Variable(_) | Item::Label(_) | Item::Targets(..) => {}
        }
    }
    // A body may end without `ret`.
    code.push(Instruction {
        op: Op::Exit,
        guard: None,
        line: code.last().map_or(entry.line, |i| i.line),
        location: 0,
        text: decoder.text("ret"),
    });
    find_meeting_points(&mut code);
    let hopper = code.iter().any(|i| matches!(i.op, Op::Hopper(_)));
    let touches = touches(&code);
    let mut opcodes = vec![String::new(); decoder.opcodes.len()];
    for (text, index) in decoder.opcodes {
        opcodes[index as usize] = text.to_string();
    }
    Ok(Kernel {
        name: entry.name.to_string(),
        code,
        opcodes,
        rows: decoder.rows,
        predicates: decoder.predicates,
        presets: decoder
            .presets
            .into_iter()
            .map(|((preset, _), reg)| (reg, preset))
            .collect(),
        parameter_bytes,
        cluster: entry.cluster,
        shared_bytes,
        local_bytes,
        shared_piece: decoder.shared_piece,
        global_piece: decoder.global_piece,
        hopper,
        touches,
    })
}

impl<'a> Decoder<'a> {
    fn statement(&mut self, statement: &Statement<'a>) -> Result<Instruction> {
        let context = Context {
            statement,
            parts: statement.opcode.split('.').collect(),
        };
        let guard = match statement.guard {
            Some((name, negated)) => {
                Some((self.predicate(&context, &Operand::Name(name))?.0, negated))
            }
            None => None,
        };
        Ok(Instruction {
            op: self.operation(&context)?,
            guard,
            line: statement.line,
            location: statement.location,
            text: self.text(statement.opcode),
        })
    }

    fn operation(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
        if let Some(op) = self.hopper(c)? {
            return Ok(op);
        }
        match c.parts[0] {
            "ret" | "exit" => Ok(Op::Exit),
            "trap" | "brkpt" => Ok(Op::Trap),
            "bra" => match c.operand(0)? {
                Operand::Name(name) => Ok(Op::Branch(self.label(c, name)?, NOWHERE)),
                _ => c.unknown(),
            },
            "brx" => self.indirect(c),
            "membar" | "fence" | "prefetch" | "prefetchu" | "griddepcontrol" | "nanosleep"
            | "discard" | "applypriority" => {
                // Whether an order is missing is for the shadow memory to find.
                if c.has("proxy") || c.parts.iter().any(|p| p.starts_with("mbarrier")) {
                    return c.unknown();
                }
                Ok(Op::Nop)
            }
            "ld" | "ldu" => self.load(c),
            "st" => self.store(c),
            "atom" | "red" => self.atomic(c),
            "mov" => self.mov(c),
            "cvta" => self.window(c),
            "cvt" => self.convert(c),
            "setp" => self.setp(c),
            "selp" => {
                let ty = c.last_type()?;
                Ok(Op::Select {
                    d: self.target(c, 0)?,
                    a: self.source(c, c.operand(1)?, ty.bytes())?,
                    b: self.source(c, c.operand(2)?, ty.bytes())?,
                    p: self.plain_predicate(c, 3)?,
                })
            }
            "slct" => {
                let types = c.types();
                let [ty, from] = types[..] else {
                    return c.unknown();
                };
                let mode = Mode { from, ..c.mode(ty) };
                let a = [
                    self.source(c, c.operand(1)?, ty.bytes())?,
                    self.source(c, c.operand(2)?, ty.bytes())?,
                    self.source(c, c.operand(3)?, 4)?,
                ];
                let d = self.target(c, 0)?;
                Ok(Op::Lane {
                    func: Func::Slct,
                    mode,
                    d,
                    a,
                })
            }
            "and" | "or" | "xor" | "not" if c.has("pred") => {
                let logic = match c.parts[0] {
                    "and" => Logic::And,
                    "or" => Logic::Or,
                    "xor" => Logic::Xor,
                    _ => Logic::Not,
                };
                let d = self.predicate(c, c.operand(0)?)?.0;
                let a = self.plain_predicate(c, 1)?;
                let b = if logic == Logic::Not {
                    a
                } else {
                    self.plain_predicate(c, 2)?
                };
                Ok(Op::Predicate(logic, d, a, b))
            }
            "bar" | "barrier" => self.barrier(c),
            "shfl" => self.shuffle(c),
            "vote" => self.vote(c),
            "activemask" => Ok(Op::ActiveMask(self.target(c, 0)?)),
            "mma" => self.mma(c),
            "ldmatrix" => self.load_matrix(c),
            "cp" => self.copy(c),
            "bfi" => {
                let bytes = c.last_type()?.bytes();
                Ok(Op::Insert {
                    d: self.target(c, 0)?,
                    a: self.source(c, c.operand(1)?, bytes)?,
                    b: self.source(c, c.operand(2)?, bytes)?,
                    start: self.source(c, c.operand(3)?, 4)?,
                    length: self.source(c, c.operand(4)?, 4)?,
                })
            }
            _ => self.arithmetic(c),
        }
    }
}
