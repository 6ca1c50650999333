//! Statements become instructions: names become rows of the register file, opcodes become operations.

use crate::finding::Space;
use crate::float::Rounding;
use crate::flow::find_meeting_points;
use crate::instruction::*;
use crate::parse::{Entry, Item, Operand, ParseError, Statement, Variable};
use std::collections::HashMap;

mod hopper;

/// A kernel of a module, ready to be launched.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) code: Vec<Instruction>,
    /// Texts of the opcodes that occur.
    pub(crate) opcodes: Vec<String>,
    pub(crate) rows: usize,
    pub(crate) predicates: usize,
    /// Rows that do not change during a launch.
    pub(crate) presets: Vec<(Reg, Preset)>,
    pub(crate) parameter_bytes: usize,
    /// Static shared memory; what the launch asks for follows it.
    pub(crate) shared_bytes: usize,
    pub(crate) local_bytes: usize,
    /// The narrowest access to shared and to device memory: 1, 2 or 4 bytes.
    pub(crate) shared_piece: usize,
    pub(crate) global_piece: usize,
    /// Whether it has barriers in shared memory, or copies and products that run on their own.
    pub(crate) hopper: bool,
    /// Per instruction: rows that are sums of products and that it reads, or writes; empty without products.
    pub(crate) touches: Vec<Box<[(u32, bool)]>>,
}

/// What a row holds from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    Constant(u64),
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    Lane,
    Warp,
    Warps,
    LaneMask(LaneMask),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneMask {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Addresses of other spaces as generic ones. The lower half of a shared address is not itself: mistaking one for the
/// other must show.
pub const SHARED_WINDOW: u64 = 0x7f11_5600_0000_0000 | 0x5600_0000;
pub const LOCAL_WINDOW: u64 = 0x7f22_4700_0000_0000;
pub const PARAM_WINDOW: u64 = 0x7f33_3800_0000_0000;

type Result<T> = std::result::Result<T, ParseError>;

#[derive(Clone, Copy)]
enum Register {
    Value(Reg),
    Predicate(Pred),
}

struct Decoder<'a> {
    /// Innermost scope last.
    scopes: Vec<HashMap<String, Register>>,
    symbols: HashMap<&'a str, u64>,
    labels: HashMap<&'a str, u32>,
    targets: HashMap<&'a str, Vec<&'a str>>,
    presets: HashMap<(Preset, bool), Reg>,
    opcodes: HashMap<&'a str, u32>,
    rows: usize,
    predicates: usize,
    shared_piece: usize,
    global_piece: usize,
}

/// Gives each variable its address, in its own space; the bytes of all.
fn layout<'a>(
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
    let touches = crate::registers::touches(&code);
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
        shared_bytes,
        local_bytes,
        shared_piece: decoder.shared_piece,
        global_piece: decoder.global_piece,
        hopper,
        touches,
    })
}

/// One statement while it is decoded.
struct Context<'s, 'a> {
    statement: &'s Statement<'a>,
    parts: Vec<&'a str>,
}

impl<'a> Context<'_, 'a> {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(ParseError {
            line: self.statement.line,
            problem: problem.into(),
        })
    }

    fn unknown<T>(&self) -> Result<T> {
        self.error(format!("unknown instruction {}", self.statement.opcode))
    }

    fn has(&self, part: &str) -> bool {
        self.parts[1..].contains(&part)
    }

    /// The types among the modifiers, in order.
    fn types(&self) -> Vec<Type> {
        self.parts[1..]
            .iter()
            .filter_map(|p| Type::parse(p))
            .collect()
    }

    fn last_type(&self) -> Result<Type> {
        match self.types().last() {
            Some(&ty) => Ok(ty),
            None => self.unknown(),
        }
    }

    fn operand(&self, i: usize) -> Result<&Operand<'a>> {
        match self.statement.operands.get(i) {
            Some(operand) => Ok(operand),
            None => self.error(format!("{} needs more operands", self.statement.opcode)),
        }
    }

    /// Every modifier must be one of these, or a type.
    fn only(&self, allowed: &[&str]) -> Result<()> {
        match self.parts[1..]
            .iter()
            .find(|p| Type::parse(p).is_none() && !allowed.contains(p))
        {
            Some(_) => self.unknown(),
            None => Ok(()),
        }
    }

    fn rounding(&self) -> Rounding {
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

    fn mode(&self, ty: Type) -> Mode {
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
    fn text(&mut self, opcode: &'a str) -> u32 {
        let next = self.opcodes.len() as u32;
        *self.opcodes.entry(opcode).or_insert(next)
    }

    fn new_row(&mut self, wide: bool) -> Reg {
        let reg = Reg::new(self.rows, wide);
        self.rows += 1 + usize::from(wide);
        reg
    }

    fn declare(&mut self, kind: &str, name: &str, count: Option<u32>) {
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

    fn find(&self, name: &str) -> Option<Register> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name))
            .copied()
    }

    fn preset(&mut self, preset: Preset, wide: bool) -> Reg {
        if let Some(&reg) = self.presets.get(&(preset, wide)) {
            return reg;
        }
        let reg = self.new_row(wide);
        self.presets.insert((preset, wide), reg);
        reg
    }

    fn constant(&mut self, bits: u64, wide: bool) -> Reg {
        self.preset(
            Preset::Constant(if wide { bits } else { bits & 0xffff_ffff }),
            wide,
        )
    }

    fn special(name: &str) -> Option<Preset> {
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
                } else {
                    Preset::Blocks(with_axis("%nctaid")?)
                }
            }
        })
    }

    /// A value of a width in bytes.
    fn source(&mut self, c: &Context<'_, 'a>, operand: &Operand<'a>, bytes: usize) -> Result<Reg> {
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
    fn symbol(&mut self, c: &Context<'_, 'a>, name: &str, offset: i64, wide: bool) -> Result<Reg> {
        match self.symbols.get(name) {
            Some(address) => Ok(self.constant(address.wrapping_add_signed(offset), wide)),
            None => c.error(format!("{name} is not known")),
        }
    }

    fn register(&self, c: &Context<'_, 'a>, name: &str) -> Result<Reg> {
        match self.find(name) {
            Some(Register::Value(reg)) => Ok(reg),
            _ => c.error(format!("{name} is not a register")),
        }
    }

    fn target(&self, c: &Context<'_, 'a>, i: usize) -> Result<Reg> {
        match c.operand(i)? {
            Operand::Name(name) | Operand::Pair(name, _) => self.register(c, name),
            operand => c.error(format!("{operand:?} cannot be written")),
        }
    }

    fn predicate(&self, c: &Context<'_, 'a>, operand: &Operand<'a>) -> Result<(Pred, bool)> {
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

    fn address(&mut self, c: &Context<'_, 'a>, operand: &Operand<'a>) -> Result<Address> {
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
    fn registers(&self, c: &Context<'_, 'a>, operand: &Operand<'a>) -> Result<Vec<Option<Reg>>> {
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

    fn exactly<const N: usize>(&self, c: &Context<'_, 'a>, i: usize) -> Result<[Reg; N]> {
        let registers: Option<Vec<Reg>> = self.registers(c, c.operand(i)?)?.into_iter().collect();
        match registers.map(<[Reg; N]>::try_from) {
            Some(Ok(registers)) => Ok(registers),
            _ => c.error(format!("operand {} must be {N} registers", i + 1)),
        }
    }

    fn label(&self, c: &Context<'_, 'a>, name: &str) -> Result<u32> {
        match self.labels.get(name) {
            Some(&index) => Ok(index),
            None => c.error(format!("there is no label {name}")),
        }
    }

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

    fn plain_predicate(&self, c: &Context<'_, 'a>, i: usize) -> Result<Pred> {
        match self.predicate(c, c.operand(i)?)? {
            (p, false) => Ok(p),
            _ => c.error("a negated predicate cannot stand here"),
        }
    }

    fn arithmetic(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn setp(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn mov(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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
    fn window(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn convert(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn space(&self, c: &Context<'_, 'a>) -> Space {
        for part in &c.parts[1..] {
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
    fn narrowest(&mut self, space: Space, bytes: usize) {
        if matches!(space, Space::Shared | Space::Generic) {
            self.shared_piece = self.shared_piece.min(bytes);
        }
        if matches!(space, Space::Global | Space::Generic) {
            self.global_piece = self.global_piece.min(bytes);
        }
    }

    fn load(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn store(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn atomic(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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
        if matches!(space, Space::Local | Space::Param) {
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

    fn indirect(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn barrier(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn shuffle(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn vote(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn mma(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn load_matrix(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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

    fn copy(&mut self, c: &Context<'_, 'a>) -> Result<Op> {
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
