//! The states of layers in device memory.

use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::Format;
use crate::cuda::tables::sweep::Form;
use crate::error::Result;
use std::ffi::c_void;
use std::sync::Arc;

/// Which states relax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Free,
    /// both nudged states
    Direct,
    /// their sum and difference
    Pair,
    /// the iterations from the free state on that truncated backpropagation differentiates
    Onward,
    /// the linear response of the free state
    Response,
    /// the way back through an onward relaxation: a linear response with the groups in reverse
    Adjoint,
}

impl Kind {
    pub fn components(self) -> usize {
        match self {
            Self::Free | Self::Onward | Self::Response | Self::Adjoint => 1,
            Self::Direct | Self::Pair => 2,
        }
    }

    /// Whether the linearisation of an update acts, with masks and maxima that are given.
    pub fn is_linear(self) -> bool {
        matches!(self, Self::Response | Self::Adjoint)
    }

    pub fn form(self) -> Form {
        match self {
            Self::Free | Self::Direct | Self::Onward => Form::States,
            Self::Pair => Form::Pair,
            Self::Response | Self::Adjoint => Form::Response,
        }
    }
}

/// Where a layer's state is while an iteration is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// on side 0: it is updated in place
    Only,
    /// an update reads one side and writes the other; this iteration has not come to it yet,
    Old,
    /// or it has
    New,
}

/// A layer's state. Between phases it is on side 0.
pub struct State {
    pub sides: [Buffer<u8>; 2],
    /// units per component
    pub units: usize,
}

impl State {
    pub fn new(
        device: &Arc<dyn Device>,
        units: usize,
        components: usize,
        format: Format,
    ) -> Result<Self> {
        let bytes = units * components * format.bytes();
        Ok(Self {
            sides: [Buffer::new(device, bytes)?, Buffer::new(device, bytes)?],
            units,
        })
    }

    /// The two sides between which updates alternate.
    pub fn sides_as(&self, side: Side) -> [*mut c_void; 2] {
        let second = usize::from(side != Side::Only);
        [self.sides[0].ptr(), self.sides[second].ptr()]
    }

    /// The same, to be read.
    pub fn read_sides_as(&self, side: Side) -> [*const c_void; 2] {
        self.sides_as(side).map(|side| side.cast_const())
    }

    pub fn component<P>(&self, side: usize, component: usize, format: Format) -> *mut P {
        self.sides[side].at(component * self.units * format.bytes())
    }
}
