//! The network with its weights in the form that the relaxation reads.

use crate::cpu::ops::conv::{pack, unpack};
use crate::cpu::ops::panels::Panels;
use crate::cpu::ops::product::{Product, matrix, pack_dense, unpack_dense};
use crate::cpu::ops::real::Real;
use crate::network::{LinearMap, Network, NetworkError, ParameterSet};
use crate::optim::Optimizer;

/// A network and its parameters in *packed* form.
///
/// Packed weights are matrices with one row per (`ky`, `kx`, `c_pre`) (for a dense edge: (`y`, `x`, `c_pre`)) and one
/// column per post channel. Gradients and optimizer state stay in this form too: an optimizer does not mind.
pub struct PackedNetwork<T> {
    pub network: Network,
    pub products: Vec<Product>,
    pub parameters: ParameterSet<T>,
    /// the weights in panels, for the way up
    weights: Vec<Panels<T>>,
    /// and their transposes, for the way down; nothing goes down to the input, which is clamped
    transposed: Vec<Option<Panels<T>>>,
}

impl<T: Real> PackedNetwork<T> {
    /// All parameters zero.
    pub fn new(network: Network) -> Self {
        let products = (network.edges().iter())
            .map(|edge| Product::of(&network, edge))
            .collect();
        let parameters = pack_all(&network, &ParameterSet::zeros(&network));
        let panels = |e: usize, transposed: bool| {
            let (rows, columns) = matrix(parameters.weight(e)).dim();
            if transposed {
                Panels::zeros(columns, rows)
            } else {
                Panels::zeros(rows, columns)
            }
        };
        let edges = 0..network.edges().len();
        Self {
            weights: edges.clone().map(|e| panels(e, false)).collect(),
            transposed: edges
                .map(|e| (network.edges()[e].pre != 0).then(|| panels(e, true)))
                .collect(),
            products,
            parameters,
            network,
        }
    }

    pub fn weight(&self, e: usize) -> &Panels<T> {
        &self.weights[e]
    }

    pub fn transposed_weight(&self, e: usize) -> &Panels<T> {
        let weight = self.transposed[e].as_ref();
        weight.expect("nothing goes down to the input")
    }

    /// Applies an optimizer to the parameters, with the gradient times `scale`.
    pub fn step(
        &mut self,
        optimizer: &mut Optimizer<T>,
        gradient: &ParameterSet<T>,
        scale: f64,
        learning_rates: &[f64],
    ) {
        let biases = self.network.free_layers().len();
        let (weights, transposed) = (&mut self.weights, &mut self.transposed);
        optimizer.step(
            &mut self.parameters,
            gradient,
            scale,
            learning_rates,
            |parameters, tensor| {
                if let Some(e) = tensor.checked_sub(biases) {
                    let weight = matrix(parameters.weight(e));
                    weights[e].fill(weight);
                    if let Some(transposed) = &mut transposed[e] {
                        transposed.fill_transposed(weight);
                    }
                }
            },
        );
    }

    /// Takes parameters in the shapes of [`Network::weight_shape`].
    pub fn set_parameters(&mut self, parameters: &ParameterSet<f64>) -> Result<(), NetworkError> {
        ParameterSet::from_tensors(&self.network, parameters.tensors().to_vec())?;
        self.parameters = pack_all(&self.network, &parameters.cast());
        for e in 0..self.network.edges().len() {
            let weight = matrix(self.parameters.weight(e));
            self.weights[e].fill(weight);
            if let Some(transposed) = &mut self.transposed[e] {
                transposed.fill_transposed(weight);
            }
        }
        Ok(())
    }

    /// A packed set (parameters, a gradient, a moment) in the shapes of [`Network::weight_shape`].
    pub fn unpacked(&self, packed: &ParameterSet<T>) -> ParameterSet<f64> {
        let mut set: ParameterSet<T> = ParameterSet::zeros(&self.network);
        for l in self.network.free_layers() {
            set.bias_mut(l).assign(packed.bias(l));
        }
        for e in 0..self.network.edges().len() {
            let weight = set.weight_mut(e);
            match self.products[e] {
                Product::Dense => unpack_dense(packed.weight(e), weight),
                _ => unpack(matrix(packed.weight(e)), weight),
            }
        }
        set.cast()
    }

    /// The inverse of [`Self::unpacked`].
    pub fn packed(&self, set: &ParameterSet<f64>) -> ParameterSet<T> {
        pack_all(&self.network, &set.cast())
    }
}

fn pack_all<T: Real>(network: &Network, set: &ParameterSet<T>) -> ParameterSet<T> {
    let biases = network.free_layers().map(|l| set.bias(l).clone());
    let weights = network.edges().iter().enumerate().map(|(e, edge)| {
        let weight = set.weight(e);
        match edge.map {
            LinearMap::Dense => pack_dense(weight),
            LinearMap::Conv(_) => pack(weight).into_dyn(),
        }
    });
    ParameterSet::new(biases.collect(), weights.collect())
}
