//! One tensor per bias and per weight: parameters, gradients and optimizer state all have this form.

use super::error::NetworkError;
use super::graph::Network;
use ndarray::{ArrayD, IxDyn};
use num_traits::Float;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Biases of layers `1..=L` (shape `(C,)`), then weights by edge (shapes: [`Network::weight_shape`]).
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSet<T> {
    tensors: Vec<ArrayD<T>>,
    biases: usize,
}

/// What a network has learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelState {
    /// of a feed-forward network in the order of its names, all of them weights of the set
    pub parameters: ParameterSet<f64>,
    /// running statistics of batch normalisation; none in a Hopfield network
    pub statistics: Vec<ArrayD<f64>>,
}

impl<T: Float> ParameterSet<T> {
    /// Tensors of any shape, in a backend's own layout.
    pub fn new(biases: Vec<ArrayD<T>>, weights: Vec<ArrayD<T>>) -> Self {
        Self {
            biases: biases.len(),
            tensors: biases.into_iter().chain(weights).collect(),
        }
    }

    /// All parameters of a network at zero.
    pub fn zeros(network: &Network) -> Self {
        let biases = network
            .free_layers()
            .map(|l| vec![network.layers()[l].shape.channels]);
        let weights = (0..network.edges().len()).map(|e| network.weight_shape(e));
        Self {
            tensors: biases
                .chain(weights)
                .map(|shape| ArrayD::zeros(IxDyn(&shape)))
                .collect(),
            biases: network.free_layers().len(),
        }
    }

    /// Takes tensors in the order of [`Network::parameter_names`], checking each shape.
    ///
    /// # Errors
    /// When one is missing, or has another shape.
    pub fn from_tensors(network: &Network, tensors: Vec<ArrayD<T>>) -> Result<Self, NetworkError> {
        let expected = Self::zeros(network);
        if tensors.len() != expected.tensors.len() {
            return Err(NetworkError(format!(
                "{} parameter tensors were given, but {} has {}",
                tensors.len(),
                network.name(),
                expected.tensors.len()
            )));
        }
        let names = network.parameter_names();
        for ((name, got), want) in names.iter().zip(&tensors).zip(&expected.tensors) {
            if got.shape() != want.shape() {
                return Err(NetworkError(format!(
                    "{name} has shape {:?}, but {} expects {:?}",
                    got.shape(),
                    network.name(),
                    want.shape()
                )));
            }
        }
        Ok(Self {
            tensors,
            biases: expected.biases,
        })
    }

    /// Bias of free layer `l`, counted from 1.
    pub fn bias(&self, l: usize) -> &ArrayD<T> {
        &self.tensors[l - 1]
    }

    /// The same, to be changed.
    pub fn bias_mut(&mut self, l: usize) -> &mut ArrayD<T> {
        &mut self.tensors[l - 1]
    }

    /// Weight of edge `e`, counted from 0.
    pub fn weight(&self, e: usize) -> &ArrayD<T> {
        &self.tensors[self.biases + e]
    }

    /// The same, to be changed.
    pub fn weight_mut(&mut self, e: usize) -> &mut ArrayD<T> {
        &mut self.tensors[self.biases + e]
    }

    /// All tensors, biases first.
    pub fn tensors(&self) -> &[ArrayD<T>] {
        &self.tensors
    }

    /// The same, to be changed.
    pub fn tensors_mut(&mut self) -> &mut [ArrayD<T>] {
        &mut self.tensors
    }

    /// Zeros of the same shapes.
    pub fn zeros_like(&self) -> Self {
        Self {
            tensors: self
                .tensors
                .iter()
                .map(|t| ArrayD::zeros(t.raw_dim()))
                .collect(),
            biases: self.biases,
        }
    }

    /// The weights alone, by edge.
    pub fn weights_mut(&mut self) -> &mut [ArrayD<T>] {
        &mut self.tensors[self.biases..]
    }

    /// The same values in another precision.
    pub fn cast<U: Float>(&self) -> ParameterSet<U> {
        let convert = |t: &ArrayD<T>| t.mapv(|v| U::from(v).expect("a float converts to a float"));
        ParameterSet {
            tensors: self.tensors.iter().map(convert).collect(),
            biases: self.biases,
        }
    }

    /// Global L2 norm over all tensors, summed in f64 and in an order that does not depend on the number of threads.
    pub fn norm(&self) -> f64
    where
        T: Sync,
    {
        const BLOCK: usize = 16 * 1024;
        let tensors = self.tensors.iter().map(|tensor| {
            let values = tensor.as_slice().expect("parameters are contiguous");
            let blocks: Vec<f64> = values.par_chunks(BLOCK).map(sum_of_squares).collect();
            blocks.iter().sum::<f64>()
        });
        tensors.sum::<f64>().sqrt()
    }
}

/// Float sums are only vectorised when their lanes are written out.
fn sum_of_squares<T: Float>(values: &[T]) -> f64 {
    const LANES: usize = 16;
    let square = |v: T| v.to_f64().expect("a float converts to f64").powi(2);
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &v) in lanes.iter_mut().zip(block) {
            *lane += square(v);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&v| square(v)).sum::<f64>()
}

/// Draws initial parameters: weights as [`Initial`](super::Initial) says for each edge, biases as [`Bias`](super::Bias) does
/// for each layer.
pub fn initialise(network: &Network, seed: u64) -> ParameterSet<f64> {
    let mut parameters = ParameterSet::zeros(network);
    let biases = network.free_layers().map(|l| {
        let fan_in = network.edges_into(l).map(|(e, _)| network.fan_in(e)).max();
        let scale = network.layers()[l].bias.gain / (fan_in.unwrap_or(1) as f64).sqrt();
        (scale, false)
    });
    let weights = network.edges().iter().enumerate().map(|(e, edge)| {
        let fan_out = network.layers()[edge.post].shape.channels;
        let scale = edge.initial.scale(edge.gain, network.fan_in(e), fan_out);
        (scale, edge.initial.is_normal())
    });
    let scales: Vec<(f64, bool)> = biases.chain(weights).collect();
    for (t, (tensor, (scale, is_normal))) in parameters.tensors.iter_mut().zip(scales).enumerate() {
        // A stream of its own for each tensor: changing one layer's width leaves the others as they were.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1 + t as u64);
        // Rounded to f32 so that an fp32 and an fp64 run of one seed start from the same point.
        tensor.mapv_inplace(|_| {
            let drawn = match is_normal {
                true => normal(&mut rng),
                false => 2.0 * rng.random::<f64>() - 1.0,
            };
            f64::from((scale * drawn) as f32)
        });
    }
    parameters
}

/// A standard normal number (Box and Muller 1958).
pub fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
