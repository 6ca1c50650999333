//! An edge: `Op(s_pre) = pooling(map(s_pre; W))`, a linear map with a weight, and a pooling of what it makes.

use super::initial::Initial;
use super::layer::Shape;

/// A convolution with zero padding. Everything is said of rows first, then of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// positions of the kernel
    pub kernel: [usize; 2],
    /// pixels between one output and the next
    pub stride: [usize; 2],
    /// zeros on each side
    pub padding: [usize; 2],
    /// pixels between one position of the kernel and the next
    pub dilation: [usize; 2],
}

impl Convolution {
    /// The same along rows and columns, without dilation.
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [1; 2],
        }
    }

    /// Pixels that the kernel reaches over along an axis; `None` where that is no number.
    pub fn extent(&self, axis: usize) -> Option<usize> {
        let gaps = self.kernel[axis].checked_sub(1)?;
        gaps.checked_mul(self.dilation[axis])?.checked_add(1)
    }

    /// Height and width of the convolved image, or `None` where the kernel does not fit.
    ///
    /// ```
    /// use eqprop_cuda::network::Convolution;
    /// assert_eq!(Convolution::square(3, 2, 1).output_size([32, 32]), Some([16, 16]));
    /// assert_eq!(Convolution::square(5, 1, 0).output_size([4, 4]), None);
    /// ```
    pub fn output_size(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let side = |axis: usize| {
            let room = (size[axis].checked_add(2 * self.padding[axis])?)
                .checked_sub(self.extent(axis)?)?;
            Some(room / self.stride[axis] + 1)
        };
        Some([side(0)?, side(1)?])
    }
}

/// The linear map of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearMap {
    /// kernels that move over the image
    Conv(Convolution),
    /// every unit of `post` sees every unit of `pre`
    Dense,
}

impl LinearMap {
    /// What it makes of an image of shape `pre`, given its number of channels; `None` where a kernel does not fit.
    pub fn output(&self, pre: Shape, channels: usize) -> Option<Shape> {
        match self {
            Self::Dense => Some(Shape::flat(channels)),
            Self::Conv(conv) => {
                let [height, width] = conv.output_size([pre.height, pre.width])?;
                Some(Shape::new(channels, height, width))
            }
        }
    }

    /// Shape of the weight between `pre` and `channels` output channels: `(C_post, C_pre, k_y, k_x)`, or for a dense map
    /// `(C, H, W, C_post)`.
    pub fn weight_shape(&self, pre: Shape, channels: usize) -> Vec<usize> {
        match self {
            Self::Conv(conv) => vec![channels, pre.channels, conv.kernel[0], conv.kernel[1]],
            Self::Dense => vec![pre.channels, pre.height, pre.width, channels],
        }
    }

    /// Units of `pre` that one unit of the output sees; `None` where that is no number.
    pub fn fan_in(&self, pre: Shape) -> Option<usize> {
        match self {
            Self::Conv(conv) => conv.kernel[0]
                .checked_mul(conv.kernel[1])?
                .checked_mul(pre.channels),
            Self::Dense => Some(pre.units()),
        }
    }
}

/// What lies between the output of a linear map and the post layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// nothing
    None,
    /// the largest of each window of 2x2 pixels, with stride 2; odd last rows and columns are dropped
    Max2x2,
    /// the mean of each such window
    Average2x2,
}

impl Pooling {
    /// What it makes of an image.
    pub fn output(&self, full: Shape) -> Shape {
        match self {
            Self::None => full,
            Self::Max2x2 | Self::Average2x2 => {
                Shape::new(full.channels, full.height / 2, full.width / 2)
            }
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
    /// what it computes on the way up; its transpose on the way down
    pub map: LinearMap,
    /// of the map's output
    pub pooling: Pooling,
    /// the distribution of the initial weights
    pub initial: Initial,
    /// its scale
    pub gain: f64,
}
