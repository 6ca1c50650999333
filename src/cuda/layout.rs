//! Where parameters lie in device memory: all tensors in one buffer, weights as slabs `[tap][C_post][C_pre]`.
//!
//! Both channel axes are padded to a multiple of [`EQ_CHANNEL_MULTIPLE`] with zeros, and tensors start at multiples of
//! [`EQ_PARAMETER_BLOCK`]. Gradients and moments have the same layout.

use super::abi::{EQ_CHANNEL_MULTIPLE, EQ_PARAMETER_BLOCK};
use super::geometry::Geometry;
use crate::network::{Network, Op, ParameterSet};

const BLOCK: usize = EQ_PARAMETER_BLOCK as usize;

/// Channels with their padding.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(EQ_CHANNEL_MULTIPLE as usize)
}

#[derive(Debug, Clone)]
pub struct Layout {
    network: Network,
    /// first element of each tensor, biases first; and the end
    starts: Vec<usize>,
    /// elements of each tensor, padding of channels included
    lengths: Vec<usize>,
}

impl Layout {
    pub fn new(network: &Network) -> Self {
        let biases = (network.free_layers()).map(|l| padded(network.layers()[l].shape.channels));
        let weights = (0..network.edges().len()).map(|e| {
            let g = Geometry::of(network, e);
            g.taps() * padded(g.full.channels) * padded(g.pre.channels)
        });
        let lengths: Vec<usize> = biases.chain(weights).collect();
        let mut starts = vec![0];
        for length in &lengths {
            starts.push(starts[starts.len() - 1] + length.next_multiple_of(BLOCK));
        }
        Self {
            network: network.clone(),
            starts,
            lengths,
        }
    }

    /// Elements of the buffer.
    pub fn len(&self) -> usize {
        self.starts[self.lengths.len()]
    }

    pub fn blocks(&self) -> usize {
        self.len() / BLOCK
    }

    /// Tensor that each block of [`EQ_PARAMETER_BLOCK`] belongs to.
    pub fn tensor_of_block(&self) -> Vec<u32> {
        let tensors = 0..self.lengths.len();
        tensors
            .flat_map(|t| vec![t as u32; (self.starts[t + 1] - self.starts[t]) / BLOCK])
            .collect()
    }

    pub fn tensors(&self) -> usize {
        self.lengths.len()
    }

    pub fn start(&self, tensor: usize) -> usize {
        self.starts[tensor]
    }

    pub fn length(&self, tensor: usize) -> usize {
        self.lengths[tensor]
    }

    /// Tensor of free layer `l`'s bias, and of edge `e`'s weight.
    pub fn bias(&self, l: usize) -> usize {
        l - 1
    }

    pub fn weight(&self, e: usize) -> usize {
        self.network.free_layers().len() + e
    }

    /// First element of a tap's slab, and the elements between two of its rows.
    pub fn slab(&self, e: usize, tap: usize) -> (usize, usize) {
        let g = Geometry::of(&self.network, e);
        let (post, pre) = (padded(g.full.channels), padded(g.pre.channels));
        (self.starts[self.weight(e)] + tap * post * pre, pre)
    }

    pub fn pack(&self, set: &ParameterSet<f64>) -> Vec<f32> {
        let mut packed = vec![0.0; self.len()];
        self.for_each(|tensor, index, at| packed[at] = set.tensors()[tensor][index] as f32);
        packed
    }

    pub fn unpack(&self, packed: &[f32]) -> ParameterSet<f64> {
        let mut set = ParameterSet::zeros(&self.network);
        self.for_each(|tensor, index, at| {
            set.tensors_mut()[tensor][index] = f64::from(packed[at]);
        });
        set
    }

    /// Visits every element: its tensor, its index there, and where it lies.
    fn for_each(&self, mut visit: impl FnMut(usize, &[usize], usize)) {
        for l in self.network.free_layers() {
            let tensor = self.bias(l);
            for c in 0..self.network.layers()[l].shape.channels {
                visit(tensor, &[c], self.starts[tensor] + c);
            }
        }
        for (e, edge) in self.network.edges().iter().enumerate() {
            let tensor = self.weight(e);
            let g = Geometry::of(&self.network, e);
            for tap in 0..g.taps() {
                let (slab, pitch) = self.slab(e, tap);
                let [y, x] = g.tap_position(tap);
                for post in 0..g.full.channels {
                    for pre in 0..g.pre.channels {
                        let index = match edge.op {
                            Op::Dense => [pre, y, x, post],
                            _ => [post, pre, y, x],
                        };
                        visit(tensor, &index, slab + post * pitch + pre);
                    }
                }
            }
        }
    }
}
