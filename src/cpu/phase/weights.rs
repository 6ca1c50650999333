//! The network with its weights in the form that the relaxation reads.

use crate::cpu::ops::conv::{pack, unpack};
use crate::cpu::ops::product::{Product, matrix, pack_dense, unpack_dense};
use crate::cpu::ops::real::Real;
use crate::cpu::ops::weight::{Products, Weight};
use crate::network::{LinearMap, Network, NetworkError, ParameterSet};
use crate::optim::Optimizer;

/// A network and its parameters in *packed* form.
///
/// Packed weights are matrices with one row per (`ky`, `kx`, `c_pre`) (for a dense edge: (`y`, `x`, `c_pre`)) and one
/// column per post channel. Gradients and optimizer state stay in this form too: an optimizer does not mind.
pub struct PackedNetwork<T: 'static> {
    pub network: Network,
    pub products: Vec<Product>,
    /// what the products of conv edges between free layers are made of
    pub multiplied: Products,
    pub parameters: ParameterSet<T>,
    /// the weights, for the way up
    up: Vec<Weight<T>>,
    /// and for the way down; nothing goes down to the input, which is clamped
    down: Vec<Option<Weight<T>>>,
}

impl<T: Real> PackedNetwork<T> {
    /// All parameters zero. Some edges have full products in any case: those from the input, whose images are not rounded, and those with
    /// max pooling, where rounding could choose another one of two nearly equal values.
    pub fn new(network: Network, multiplied: Products) -> Self {
        let of_edges: Vec<_> = (network.edges().iter())
            .map(|edge| Product::of(&network, edge))
            .collect();
        let parameters = pack_all(&network, &ParameterSet::zeros(&network));
        let shape = |e: usize| matrix(parameters.weight(e)).dim();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for (e, edge) in network.edges().iter().enumerate() {
            let is_input = edge.pre == 0;
            let is_pooled = matches!(of_edges[e], Product::Pooled(..));
            let multiplied = match is_input || is_pooled {
                true => Products::Full,
                false => multiplied,
            };
            up.push(Weight::up(of_edges[e], shape(e), multiplied));
            down.push((!is_input).then(|| match of_edges[e] {
                Product::Pooled(geometry, _) => Weight::down_unpooled(geometry),
                product => Weight::down(product, shape(e), multiplied),
            }));
        }
        Self {
            products: of_edges,
            multiplied,
            up,
            down,
            parameters,
            network,
        }
    }

    /// Whether layer `l` reads free layers through products of changes.
    pub fn follows(&self, l: usize) -> bool {
        let into = (self.network.edges_into(l)).filter(|(_, edge)| edge.pre != 0);
        let mut edges = into.chain(self.network.edges_out_of(l));
        self.multiplied == Products::Bf16
            && edges.any(|(e, _)| matches!(self.products[e], Product::Conv(_)))
    }

    /// The weight of edge `e` for the way up, before max pooling.
    pub fn up(&self, e: usize) -> &Weight<T> {
        &self.up[e]
    }

    /// The weight of edge `e` for the way down.
    pub fn down(&self, e: usize) -> &Weight<T> {
        let weight = self.down[e].as_ref();
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
        let (up, down) = (&mut self.up, &mut self.down);
        optimizer.step(
            &mut self.parameters,
            gradient,
            scale,
            learning_rates,
            |parameters, tensor| {
                if let Some(e) = tensor.checked_sub(biases) {
                    let weight = matrix(parameters.weight(e));
                    up[e].fill(weight);
                    if let Some(down) = &mut down[e] {
                        down.fill(weight);
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
            self.up[e].fill(weight);
            if let Some(down) = &mut self.down[e] {
                down.fill(weight);
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
