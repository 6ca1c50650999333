//! Places in a warp's register file, and addresses by them.

/// A register: 32 lanes of 32 bits are a row of the register file; 64-bit registers take two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(u32);

const WIDE: u32 = 1 << 31;

impl Reg {
    pub fn new(row: usize, wide: bool) -> Self {
        Self(row as u32 | if wide { WIDE } else { 0 })
    }

    #[inline(always)]
    pub fn row(self) -> usize {
        (self.0 & !WIDE) as usize
    }

    #[inline(always)]
    pub fn wide(self) -> bool {
        self.0 & WIDE != 0
    }
}

/// A predicate: one bit a lane. Number 0 is always true, number 1 always false.
pub type Pred = u16;
pub const TRUE: Pred = 0;
pub const FALSE: Pred = 1;

/// `base + offset`; an absolute address has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub base: Option<Reg>,
    pub offset: i64,
}
