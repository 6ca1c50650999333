//! An edge: `Op(s_pre) = pooling(map(s_pre; W))`, a linear map with a weight, and a pooling of what it makes.

use super::initial::Initial;
use super::layer::Shape;

/// Kernel side, stride and zero padding of a convolution (the same in both directions of the image).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Convolution {
    /// Side of the convolved image, or `None` where the kernel does not fit.
    pub fn output_side(&self, side: usize) -> Option<usize> {
        (side + 2 * self.padding)
            .checked_sub(self.kernel)
            .map(|room| room / self.stride + 1)
    }
}

/// The linear map of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearMap {
    Conv(Convolution),
    /// every unit of `post` sees every unit of `pre`
    Dense,
}

impl LinearMap {
    /// What it makes of an image of shape `pre`, given its number of channels; `None` where a kernel does not fit.
    pub fn output(&self, pre: Shape, channels: usize) -> Option<Shape> {
        match self {
            Self::Dense => Some(Shape::flat(channels)),
            Self::Conv(conv) => Some(Shape::new(
                channels,
                conv.output_side(pre.height)?,
                conv.output_side(pre.width)?,
            )),
        }
    }

    /// Shape of the weight between `pre` and `channels` output channels: `(C_post, C_pre, k, k)`, or for a dense map
    /// `(C, H, W, C_post)`.
    pub fn weight_shape(&self, pre: Shape, channels: usize) -> Vec<usize> {
        match self {
            Self::Conv(conv) => vec![channels, pre.channels, conv.kernel, conv.kernel],
            Self::Dense => vec![pre.channels, pre.height, pre.width, channels],
        }
    }

    /// Units of `pre` that one unit of the output sees; `None` where that is no number.
    pub fn fan_in(&self, pre: Shape) -> Option<usize> {
        match self {
            Self::Conv(conv) => conv
                .kernel
                .checked_mul(conv.kernel)?
                .checked_mul(pre.channels),
            Self::Dense => Some(pre.units()),
        }
    }
}

/// What lies between the output of a linear map and the post layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    None,
    /// the largest of each window of 2x2 pixels, with stride 2; odd last rows and columns are dropped
    Max2x2,
}

impl Pooling {
    /// What it makes of an image.
    pub fn output(&self, full: Shape) -> Shape {
        match self {
            Self::None => full,
            Self::Max2x2 => Shape::new(full.channels, full.height / 2, full.width / 2),
        }
    }
}

/// An edge of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// index of the lower layer
    pub pre: usize,
    /// index of the higher layer
    pub post: usize,
    pub map: LinearMap,
    pub pooling: Pooling,
    /// the distribution of the initial weights
    pub initial: Initial,
    /// its scale
    pub gain: f64,
}
