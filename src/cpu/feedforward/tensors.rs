//! The tensors of a feed-forward network in the form that its passes read, and the optimizer that moves them.

use crate::cpu::ops::conv::{pack, unpack};
use crate::cpu::ops::product::{Product, matrix, pack_dense, unpack_dense};
use crate::cpu::ops::real::Real;
use crate::cpu::ops::weight::{Products, Weight};
use crate::error::{Error, Result, ensure};
use crate::feedforward::{FeedForward, NORM_MOMENTUM, Part};
use crate::network::{ModelState, NetworkError, ParameterSet};
use crate::optim::{Optimizer, OptimizerConfig, OptimizerState};
use ndarray::{ArrayD, IxDyn};

/// Parameters (weights packed as `ops/product.rs` has it), running statistics, optimizer.
pub struct Tensors<T: 'static> {
    pub model: FeedForward,
    /// by edge
    pub products: Vec<Product>,
    pub parameters: ParameterSet<T>,
    statistics: Vec<ArrayD<f64>>,
    /// by edge: the weights, for the way up
    up: Vec<Weight<T>>,
    /// and for the way down
    down: Vec<Weight<T>>,
    /// the edge whose weight a tensor is
    edges: Vec<Option<usize>>,
    optimizer: Option<Optimizer<T>>,
}

fn weight_of(part: Part) -> usize {
    match part {
        Part::Convolution { weight, .. } | Part::Dense { weight, .. } => weight,
    }
}

impl<T: Real> Tensors<T> {
    /// All parameters zero.
    pub fn new(model: FeedForward) -> Self {
        let network = model.network();
        let count = network.edges().len();
        let products = (network.edges().iter()).map(|edge| Product::of(network, edge));
        let products: Vec<_> = products.collect();
        let mut edges = vec![None; model.parameter_names().len()];
        let shape = |e: usize| {
            let columns = network.layers()[network.edges()[e].post].shape.channels;
            (network.fan_in(e), columns)
        };
        for e in 0..count {
            edges[weight_of(model.part(e))] = Some(e);
        }
        let ModelState {
            parameters,
            statistics,
        } = model.zeros();
        let mut tensors = Self {
            parameters: ParameterSet::new(Vec::new(), Vec::new()),
            statistics,
            up: (0..count)
                .map(|e| Weight::up(products[e], shape(e), Products::Full))
                .collect(),
            down: (0..count)
                .map(|e| Weight::down(products[e], shape(e), Products::Full))
                .collect(),
            products,
            edges,
            optimizer: None,
            model,
        };
        tensors.parameters = tensors.packed(&parameters);
        tensors
    }

    /// The weight of edge `e` for the way up.
    pub fn up(&self, e: usize) -> &Weight<T> {
        &self.up[e]
    }

    /// The weight of edge `e` for the way down.
    pub fn down(&self, e: usize) -> &Weight<T> {
        &self.down[e]
    }

    /// The edge whose weight tensor `t` is.
    pub fn edge_of(&self, t: usize) -> Option<usize> {
        self.edges[t]
    }

    /// A tensor of one axis.
    pub fn vector(&self, t: usize) -> &[T] {
        let tensor = &self.parameters.tensors()[t];
        tensor.as_slice().expect("parameters are contiguous")
    }

    /// Running mean and variance at `at`.
    pub fn running(&self, at: usize) -> (Vec<f64>, Vec<f64>) {
        let values = |i: usize| self.statistics[i].iter().copied().collect();
        (values(at), values(at + 1))
    }

    /// The running statistics at `at` follow those of a batch of `n` rows: the variance without its bias.
    pub fn follow(&mut self, at: usize, mean: &[f64], variance: &[f64], n: usize) {
        let unbiased = n as f64 / (n as f64 - 1.0).max(1.0);
        for (i, values, factor) in [(at, mean, 1.0), (at + 1, variance, unbiased)] {
            for (running, &v) in self.statistics[i].iter_mut().zip(values) {
                *running += NORM_MOMENTUM * (factor * v - *running);
                // Kept in the precision of the network, as PyTorch does.
                *running = T::of(*running).wide();
            }
        }
        self.statistics[at + 2].mapv_inplace(|count| count + 1.0);
    }

    pub fn state(&self) -> ModelState {
        ModelState {
            parameters: self.unpacked(&self.parameters),
            statistics: self.statistics.clone(),
        }
    }

    pub fn set_state(&mut self, state: &ModelState) -> Result<(), NetworkError> {
        let ModelState {
            parameters,
            statistics,
        } = state.clone();
        (self.model).state(parameters.tensors().to_vec(), statistics.clone())?;
        self.parameters = self.packed(&parameters);
        self.statistics = statistics;
        for e in 0..self.products.len() {
            let weight = &self.parameters.tensors()[weight_of(self.model.part(e))];
            self.up[e].fill(matrix(weight));
            self.down[e].fill(matrix(weight));
        }
        Ok(())
    }

    pub fn set_optimizer(&mut self, config: OptimizerConfig) {
        self.optimizer = Some(Optimizer::new(config));
    }

    pub fn optimizer_state(&self) -> Result<OptimizerState> {
        let optimizer = self
            .optimizer
            .as_ref()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        Ok(optimizer.state(|moment| self.unpacked(moment)))
    }

    pub fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()> {
        let mut optimizer = self
            .optimizer
            .take()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        optimizer.set_state(state, |moment| self.packed(moment));
        self.optimizer = Some(optimizer);
        Ok(())
    }

    pub fn step(&mut self, gradient: &ParameterSet<T>, learning_rates: &[f64]) -> Result<()> {
        let count = self.parameters.tensors().len();
        ensure!(
            Mismatch,
            learning_rates.len() == count,
            "{} learning rates for {count} parameter tensors",
            learning_rates.len()
        );
        let optimizer = self
            .optimizer
            .as_mut()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        let (up, down) = (&mut self.up, &mut self.down);
        let edges = &self.edges;
        let updated = |parameters: &ParameterSet<T>, t: usize| {
            if let Some(e) = edges[t] {
                let weight = matrix(&parameters.tensors()[t]);
                up[e].fill(weight);
                down[e].fill(weight);
            }
        };
        optimizer.step(&mut self.parameters, gradient, 1.0, learning_rates, updated);
        Ok(())
    }

    /// A packed set (parameters, a gradient, a moment) in PyTorch's shapes.
    pub fn unpacked(&self, packed: &ParameterSet<T>) -> ParameterSet<f64> {
        let shapes = self.model.parameter_shapes();
        let tensors = packed.tensors().iter().zip(shapes).enumerate();
        let tensors = tensors.map(|(t, (tensor, shape))| {
            let unpacked = match self.edges[t].map(|e| (e, self.products[e])) {
                None => tensor.clone(),
                Some((e, Product::Dense)) => {
                    // (C, H, W, units), then (units, C H W)
                    let mut weight = ArrayD::zeros(self.model.network().weight_shape(e));
                    unpack_dense(tensor, &mut weight);
                    let [classes, units] = shape[..] else {
                        unreachable!("the weight of a dense edge is a matrix")
                    };
                    let weight = weight.into_shape_with_order((units, classes));
                    let weight = weight.expect("a standard layout reshapes");
                    weight.t().as_standard_layout().into_owned().into_dyn()
                }
                Some(_) => {
                    let mut weight = ArrayD::zeros(IxDyn(shape));
                    unpack(matrix(tensor), &mut weight);
                    weight
                }
            };
            unpacked.mapv(T::wide)
        });
        ParameterSet::new(Vec::new(), tensors.collect())
    }

    /// The inverse of [`Self::unpacked`].
    pub fn packed(&self, set: &ParameterSet<f64>) -> ParameterSet<T> {
        let tensors = set.tensors().iter().enumerate().map(|(t, tensor)| {
            let tensor = tensor.mapv(T::of);
            match self.edges[t].map(|e| (e, self.products[e])) {
                None => tensor,
                Some((e, Product::Dense)) => {
                    let shape = self.model.network().weight_shape(e);
                    let weight = tensor.t().as_standard_layout().into_owned();
                    let weight = weight.into_shape_with_order(IxDyn(&shape));
                    pack_dense(&weight.expect("a standard layout reshapes"))
                }
                Some(_) => pack(&tensor).into_dyn(),
            }
        });
        ParameterSet::new(Vec::new(), tensors.collect())
    }
}
