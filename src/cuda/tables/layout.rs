//! Where parameters lie in device memory: all tensors in one buffer, weights as slabs `[tap][C_post][C_pre]`.
//!
//! Both channel axes are padded to a multiple of [`EQ_CHANNEL_MULTIPLE`] with zeros, and tensors start at multiples of
//! [`EQ_PARAMETER_BLOCK`]. Gradients and moments have the same layout.

use super::geometry::Geometry;
use crate::cuda::machine::abi::{EQ_CHANNEL_MULTIPLE, EQ_PARAMETER_BLOCK};
use crate::network::{LinearMap, Network, ParameterSet, Shape};
use ndarray::{Array4, ArrayD, IxDyn};

const BLOCK: usize = EQ_PARAMETER_BLOCK as usize;

/// Channels with their padding.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(EQ_CHANNEL_MULTIPLE as usize)
}

/// Images `(N, C, H, W)` in the layout of a state.
pub fn padded_images(images: &Array4<f32>) -> Vec<f32> {
    let (n, channels, height, width) = images.dim();
    let pitch = padded(channels);
    let mut values = vec![0.0; n * height * width * pitch];
    for ((n, c, y, x), &value) in images.indexed_iter() {
        values[((n * height + y) * width + x) * pitch + c] = value;
    }
    values
}

/// Units of a layer per image, with the padding of channels.
pub fn padded_units(shape: Shape) -> usize {
    shape.pixels() * padded(shape.channels)
}

/// Order of a weight's axes on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axes {
    /// `(C_post, C_pre, k, k)`: a convolution
    PostPre,
    /// `(C_pre, H, W, classes)`: a dense edge
    PrePost,
}

/// A parameter tensor.
#[derive(Debug, Clone, Copy)]
pub enum Tensor {
    /// one number per channel
    Vector { channels: usize },
    /// an edge's weight
    Weight { geometry: Geometry, axes: Axes },
}

impl Tensor {
    /// Elements, padding of channels included.
    fn len(&self) -> usize {
        match self {
            Self::Vector { channels } => padded(*channels),
            Self::Weight { geometry: g, .. } => {
                g.taps() * padded(g.full.channels) * padded(g.pre.channels)
            }
        }
    }

    fn shape(&self) -> IxDyn {
        match self {
            Self::Vector { channels } => IxDyn(&[*channels]),
            Self::Weight { geometry: g, axes } => {
                let (post, pre, [ky, kx]) = (g.full.channels, g.pre.channels, g.kernel);
                match axes {
                    Axes::PostPre => IxDyn(&[post, pre, ky, kx]),
                    Axes::PrePost => IxDyn(&[pre, ky, kx, post]),
                }
            }
        }
    }

    /// Visits every element: its index on the host, and where it lies from the start of the tensor.
    fn for_each(&self, mut visit: impl FnMut(&[usize], usize)) {
        match self {
            Self::Vector { channels } => (0..*channels).for_each(|c| visit(&[c], c)),
            Self::Weight { geometry: g, axes } => {
                let (rows, pitch) = (padded(g.full.channels), padded(g.pre.channels));
                for tap in 0..g.taps() {
                    let [y, x] = g.tap_position(tap);
                    for post in 0..g.full.channels {
                        for pre in 0..g.pre.channels {
                            let index = match axes {
                                Axes::PostPre => [post, pre, y, x],
                                Axes::PrePost => [pre, y, x, post],
                            };
                            visit(&index, (tap * rows + post) * pitch + pre);
                        }
                    }
                }
            }
        }
    }
}

/// An edge's weights, `[tap][C_post][C_pre]`: where they begin, in elements of the parameter buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slabs {
    pub first: usize,
    pub taps: usize,
    /// padded
    pub post: usize,
    /// padded
    pub pre: usize,
}

#[derive(Debug, Clone)]
pub struct Layout {
    tensors: Vec<Tensor>,
    /// how many of them a [`ParameterSet`] calls biases
    biases: usize,
    /// tensor of each edge's weight
    weights: Vec<usize>,
    /// first element of each tensor, and the end
    starts: Vec<usize>,
}

impl Layout {
    /// Biases of the free layers, then weights by edge: the order of [`Network::parameter_names`].
    pub fn new(network: &Network) -> Self {
        let biases = network.free_layers().map(|l| Tensor::Vector {
            channels: network.layers()[l].shape.channels,
        });
        let weights = (network.edges().iter().enumerate()).map(|(e, edge)| Tensor::Weight {
            geometry: Geometry::of(network, e),
            axes: match edge.map {
                LinearMap::Dense => Axes::PrePost,
                LinearMap::Conv(_) => Axes::PostPre,
            },
        });
        Self::of(biases.chain(weights).collect(), network.free_layers().len())
    }

    /// Any tensors, the weights among them in the order of the edges.
    pub fn of(tensors: Vec<Tensor>, biases: usize) -> Self {
        let mut starts = vec![0];
        for tensor in &tensors {
            starts.push(starts[starts.len() - 1] + tensor.len().next_multiple_of(BLOCK));
        }
        let is_weight = |&t: &usize| matches!(tensors[t], Tensor::Weight { .. });
        Self {
            weights: (0..tensors.len()).filter(is_weight).collect(),
            tensors,
            biases,
            starts,
        }
    }

    /// Elements of the buffer.
    pub fn len(&self) -> usize {
        self.starts[self.tensors.len()]
    }

    pub fn blocks(&self) -> usize {
        self.len() / BLOCK
    }

    /// Tensor that each block of [`EQ_PARAMETER_BLOCK`] belongs to.
    pub fn tensor_of_block(&self) -> Vec<u32> {
        let tensors = 0..self.tensors.len();
        tensors
            .flat_map(|t| vec![t as u32; (self.starts[t + 1] - self.starts[t]) / BLOCK])
            .collect()
    }

    pub fn tensors(&self) -> usize {
        self.tensors.len()
    }

    pub fn start(&self, tensor: usize) -> usize {
        self.starts[tensor]
    }

    pub fn length(&self, tensor: usize) -> usize {
        self.tensors[tensor].len()
    }

    /// Tensor of edge `e`'s weight.
    pub fn weight(&self, e: usize) -> usize {
        self.weights[e]
    }

    /// First element of a tap's slab, and the elements between two of its rows.
    pub fn slab(&self, e: usize, tap: usize) -> (usize, usize) {
        let tensor = self.weight(e);
        let Tensor::Weight { geometry: g, .. } = &self.tensors[tensor] else {
            unreachable!("tensor {tensor} is a weight")
        };
        let (post, pre) = (padded(g.full.channels), padded(g.pre.channels));
        (self.starts[tensor] + tap * post * pre, pre)
    }

    /// All slabs of an edge.
    pub fn slabs(&self, e: usize) -> Slabs {
        let tensor = self.weight(e);
        let Tensor::Weight { geometry: g, .. } = &self.tensors[tensor] else {
            unreachable!("tensor {tensor} is a weight")
        };
        Slabs {
            first: self.starts[tensor],
            taps: g.taps(),
            post: padded(g.full.channels),
            pre: padded(g.pre.channels),
        }
    }

    pub fn pack(&self, set: &ParameterSet<f64>) -> Vec<f32> {
        let mut packed = vec![0.0; self.len()];
        for ((tensor, &start), values) in (self.tensors.iter().zip(&self.starts)).zip(set.tensors())
        {
            tensor.for_each(|index, at| packed[start + at] = values[index] as f32);
        }
        packed
    }

    pub fn unpack(&self, packed: &[f32]) -> ParameterSet<f64> {
        let unpacked = |(tensor, &start): (&Tensor, &usize)| {
            let mut values = ArrayD::zeros(tensor.shape());
            tensor.for_each(|index, at| values[index] = f64::from(packed[start + at]));
            values
        };
        let mut tensors: Vec<_> = self
            .tensors
            .iter()
            .zip(&self.starts)
            .map(unpacked)
            .collect();
        let weights = tensors.split_off(self.biases);
        ParameterSet::new(tensors, weights)
    }
}
