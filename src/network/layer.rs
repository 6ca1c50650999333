//! A layer and its shape.

use super::activation::Activation;
use std::fmt;

/// Channels, rows and columns of a layer. The output layer is `(classes, 1, 1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Shape {
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    pub const fn flat(units: usize) -> Self {
        Self::new(units, 1, 1)
    }

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

/// A layer of a network: its states have `shape` per example.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub name: String,
    pub shape: Shape,
    pub activation: Activation,
}
