//! A layer and its shape.

use super::activation::Activation;
use std::fmt;

/// Channels, rows and columns of a layer. The output layer is `(classes, 1, 1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// or units, of a flat layer
    pub channels: usize,
    /// rows
    pub height: usize,
    /// columns
    pub width: usize,
}

impl Shape {
    /// Of an image.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// Of a layer without an image's axes.
    pub const fn flat(units: usize) -> Self {
        Self::new(units, 1, 1)
    }

    /// Rows times columns.
    pub const fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Units of the layer per example.
    pub const fn units(&self) -> usize {
        self.channels * self.pixels()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// The bias of a free layer, one value per channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bias {
    /// initial values are uniform in `+-gain / sqrt(fan_in)`, where a layer's fan-in is that of its widest edge from below
    pub gain: f64,
    /// whether learning changes it
    pub trained: bool,
}

impl Bias {
    /// As the published programs have it.
    pub const PUBLISHED: Self = Self {
        gain: 0.5,
        trained: true,
    };

    /// Learnt from zero.
    pub const FROM_ZERO: Self = Self {
        gain: 0.0,
        trained: true,
    };

    /// None: zero for ever.
    pub const ABSENT: Self = Self {
        gain: 0.0,
        trained: false,
    };
}

/// A layer of a network: its states have `shape` per example.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// as messages, parameters and figures call it
    pub name: String,
    /// of its state, per example
    pub shape: Shape,
    /// what its states are clipped to
    pub activation: Activation,
    /// of no meaning for the input
    pub bias: Bias,
}
