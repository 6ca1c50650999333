//! Instructions with their operands resolved to places in a warp's register file.

use super::hopper::Hopper;
use super::operand::{Address, Pred, Reg};
use crate::finding::Space;
use crate::number::float::Rounding;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
    Pred,
}

impl Type {
    pub fn parse(text: &str) -> Option<Self> {
        use Type::*;
        Some(match text {
            "b8" => B8,
            "b16" => B16,
            "b32" => B32,
            "b64" => B64,
            "u8" => U8,
            "u16" => U16,
            "u32" => U32,
            "u64" => U64,
            "s8" => S8,
            "s16" => S16,
            "s32" => S32,
            "s64" => S64,
            "f16" => F16,
            "f16x2" => F16x2,
            "bf16" => Bf16,
            "bf16x2" => Bf16x2,
            "f32" => F32,
            "f64" => F64,
            "pred" => Pred,
            _ => return None,
        })
    }

    pub fn bytes(self) -> usize {
        use Type::*;
        match self {
            B8 | U8 | S8 => 1,
            B16 | U16 | S16 | F16 | Bf16 => 2,
            B32 | U32 | S32 | F32 | F16x2 | Bf16x2 | Pred => 4,
            B64 | U64 | S64 | F64 => 8,
        }
    }

    pub fn signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub fn float(self) -> bool {
        use Type::*;
        matches!(self, F16 | F16x2 | Bf16 | Bf16x2 | F32 | F64)
    }
}

/// What is computed lane by lane, with all its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Func {
    Add,
    Sub,
    Mul,
    MulHi,
    MulWide,
    Fma,
    Mad,
    MadHi,
    MadWide,
    Div,
    Rem,
    Min,
    Max,
    Abs,
    Neg,
    Not,
    Cnot,
    And,
    Or,
    Xor,
    Lop3(u8),
    Shl,
    Shr,
    /// Funnel shifts, to the left and to the right.
    ShfLeft,
    ShfRight,
    Bfe,
    Prmt,
    Popc,
    Clz,
    Brev,
    Sqrt,
    Rsqrt,
    Rcp,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
    Convert,
    /// Two fp32 numbers into a packed pair.
    Pack16,
    Compare(Cmp),
    Slct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    pub ty: Type,
    /// Of a conversion: what is converted.
    pub from: Type,
    pub rounding: Rounding,
    /// To an integer, in floating point.
    pub integral: bool,
    pub flush: bool,
    pub saturate: bool,
    pub approximate: bool,
    /// A NaN operand makes the result one (`min.NaN`); or clamped instead of wrapped, for funnel shifts.
    pub special: bool,
}

impl Mode {
    pub fn plain(ty: Type) -> Self {
        Self {
            ty,
            from: ty,
            rounding: Rounding::Nearest,
            integral: false,
            flush: false,
            saturate: false,
            approximate: false,
            special: false,
        }
    }
}

/// Hot integer operations, on whole rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Int {
    Add,
    Sub,
    Mul,
    And,
    Or,
    Xor,
    Shl,
    ShrU,
    ShrS,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    Add,
    Sub,
    Mul,
    Min,
    Max,
}

/// How operands of a hot comparison are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    U32,
    S32,
    F32,
    U64,
    S64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
    Not,
    Move,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shuffle {
    Down,
    Up,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    Ballot,
    Any,
    All,
    Uniform,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atom {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Nop,
    Int32(Int, Reg, Reg, Reg),
    Int64(Int, Reg, Reg, Reg),
    Mad32(Reg, Reg, Reg, Reg),
    /// 32 x 32 bits to 64; signed or not.
    MulWide(bool, Reg, Reg, Reg),
    Float32(Float, Reg, Reg, Reg),
    Fma32(Reg, Reg, Reg, Reg),
    /// Widths as the registers have them: cut off, or extended with the sign or zeros.
    Move {
        d: Reg,
        a: Reg,
        signed: bool,
    },
    /// The lower bits that the mask keeps.
    Keep(Reg, Reg, u32),
    /// `bfi`: a into b, from a bit on, so many.
    Insert {
        d: Reg,
        a: Reg,
        b: Reg,
        start: Reg,
        length: Reg,
    },
    HalfToFloat(Reg, Reg),
    FloatToHalf(Reg, Reg),
    Lane {
        func: Func,
        mode: Mode,
        d: Reg,
        a: [Reg; 3],
    },
    Compare {
        cmp: Cmp,
        how: As,
        d: Pred,
        a: Reg,
        b: Reg,
    },
    /// Any comparison, combined with a predicate, with its complement.
    Test {
        func: Func,
        mode: Mode,
        d: Pred,
        q: Option<Pred>,
        a: [Reg; 3],
        with: Option<(Logic, Pred, bool)>,
    },
    Select {
        d: Reg,
        a: Reg,
        b: Reg,
        p: Pred,
    },
    Predicate(Logic, Pred, Pred, Pred),
    Pack(Reg, Box<[Reg]>),
    Unpack(Box<[Option<Reg>]>, Reg),
    Load {
        space: Space,
        ty: Type,
        d: Box<[Option<Reg>]>,
        at: Address,
    },
    Store {
        space: Space,
        ty: Type,
        a: Box<[Reg]>,
        at: Address,
    },
    Atomic {
        space: Space,
        atom: Atom,
        ty: Type,
        d: Option<Reg>,
        at: Address,
        a: Reg,
        b: Option<Reg>,
    },
    /// Target, and where its lanes meet again.
    Branch(u32, u32),
    Table(Reg, Box<[u32]>, u32),
    Exit,
    Trap,
    Barrier {
        id: Reg,
        threads: Option<Reg>,
    },
    WarpSync(Reg),
    Shuffle {
        kind: Shuffle,
        d: Reg,
        p: Option<Pred>,
        a: Reg,
        b: Reg,
        c: Reg,
        members: Reg,
    },
    Vote {
        kind: Vote,
        d: Option<Reg>,
        q: Pred,
        a: Pred,
        negated: bool,
        members: Reg,
    },
    ActiveMask(Reg),
    Mma {
        d: [Reg; 4],
        a: [Reg; 4],
        b: [Reg; 2],
        c: [Reg; 4],
        brain: bool,
    },
    LoadMatrix {
        d: Box<[Reg]>,
        transposed: bool,
        at: Address,
    },
    Copy {
        to: Address,
        from: Address,
        bytes: usize,
        size: Option<Reg>,
        ignore: Option<Pred>,
    },
    Commit,
    /// Until at most so many groups are under way; all with `None`.
    Await(Option<u32>),
    Hopper(Box<Hopper>),
}

/// Reconvergence at the end of the kernel.
pub const NOWHERE: u32 = u32::MAX;

#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    pub op: Op,
    /// Predicate and whether it is negated.
    pub guard: Option<(Pred, bool)>,
    pub line: u32,
    pub location: u32,
    /// The opcode's text: an index into the kernel's table.
    pub text: u32,
}
