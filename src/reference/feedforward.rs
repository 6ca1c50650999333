//! [`Backend`] of feed-forward networks on the CPU: the passes. `tensors.rs` holds the parameters.
//!
//! States are matrices with one row per pixel, as in equilibrium propagation, of the whole batch: batch normalisation needs
//! its statistics. Convolutions run over the images in parallel.

use super::backend::rows;
use super::batch_norm;
use super::conv::ConvGeometry;
use super::correlate::{Correlation, Scratch};
use super::gradient::tasks;
use super::measure::judge;
use super::real::{Into, Real, configure_matmul};
use super::stack::{as_images, as_images_mut};
use super::tensors::Tensors;
use super::wiring::Product;
use crate::backprop::{Backend, FeedForward, Mode, NORM_EPSILON, Part, State};
use crate::ep::{BatchOutcome, CostFunction, GradientReport, check_batch};
use crate::network::{Network, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use anyhow::{Context, Result, ensure};
use ndarray::{Array2, Array4, ArrayView2, ArrayViewMut2, Axis, Zip};
use rayon::prelude::*;

/// What a forward pass leaves for the backward pass.
struct Pass<T> {
    mode: Mode,
    labels: Vec<usize>,
    /// the input, then each layer's state; of the output the logits
    states: Vec<Array2<T>>,
    /// by edge, training only
    normalised: Vec<Option<Normalised<T>>>,
    /// by layer, where pooling took each unit from; empty for other layers
    argmax: Vec<Vec<u8>>,
}

/// A normalised convolution, and the factors `1 / sqrt(var + eps)` that made it so.
struct Normalised<T> {
    x: Array2<T>,
    factors: Vec<f64>,
}

/// A feed-forward network on the CPU, in f32 or f64.
pub struct CpuFeedForward<T> {
    tensors: Tensors<T>,
    pass: Option<Pass<T>>,
    gradient: Option<ParameterSet<T>>,
}

impl<T: Real> CpuFeedForward<T> {
    pub fn new(model: &FeedForward) -> Self {
        configure_matmul();
        Self {
            tensors: Tensors::new(model.clone()),
            pass: None,
            gradient: None,
        }
    }

    fn network(&self) -> &Network {
        self.tensors.model.network()
    }

    /// `W_e * x + b_e`
    fn convolve(&self, e: usize, geometry: ConvGeometry, x: ArrayView2<T>) -> Array2<T> {
        let images = x.nrows() / geometry.pre.pixels();
        let shape = (images * geometry.post.pixels(), geometry.post.channels);
        let mut out = Array2::zeros(shape);
        if let Part::Convolution {
            bias: Some(bias), ..
        } = self.tensors.model.part(e)
        {
            let bias = self.tensors.vector(bias);
            let bias = ndarray::ArrayView1::from(bias);
            out.assign(&bias.broadcast(shape).expect("one bias per channel"));
        }
        let weight = self.tensors.weight(e);
        let pixels = geometry.post.pixels();
        let inputs = x.axis_chunks_iter(Axis(0), geometry.pre.pixels());
        out.axis_chunks_iter_mut(Axis(0), pixels)
            .into_par_iter()
            .zip(inputs.into_par_iter())
            .for_each_init(Vec::new, |columns, (out, x)| {
                geometry.forward_add(x, weight, out, columns);
            });
        out
    }

    /// Adds `BN_e(c)` to `z`; in training the batch's statistics are taken, and the running ones follow.
    fn normalise_add(
        &mut self,
        e: usize,
        mut c: Array2<T>,
        mode: Mode,
        z: ArrayViewMut2<T>,
    ) -> Option<Normalised<T>> {
        let Part::Convolution {
            gamma,
            beta,
            statistics,
            ..
        } = self.tensors.model.part(e)
        else {
            unreachable!("only convolutions are normalised")
        };
        let (mean, variance) = match mode {
            Mode::Train => {
                let (mean, variance) = batch_norm::moments(c.view());
                self.tensors.follow(statistics, &mean, &variance, c.nrows());
                (mean, variance)
            }
            Mode::Evaluate => self.tensors.running(statistics),
        };
        let factors = batch_norm::normalise(c.view_mut(), &mean, &variance, NORM_EPSILON);
        let (gamma, beta) = (self.tensors.vector(gamma), self.tensors.vector(beta));
        batch_norm::affine_add(c.view(), gamma, beta, z);
        (mode == Mode::Train).then_some(Normalised { x: c, factors })
    }

    fn logits_of(&self, e: usize, bias: usize, x: ArrayView2<T>, images: usize) -> Array2<T> {
        let bias = ndarray::ArrayView1::from(self.tensors.vector(bias));
        let shape = (images, bias.len());
        let mut out = bias.broadcast(shape).expect("one per class").to_owned();
        let x = as_images(x, images);
        self.tensors
            .weight(e)
            .multiply(out.view_mut(), x, Into::Add);
        out
    }

    /// Layer `l` of a forward pass.
    fn layer(&mut self, l: usize, pass: &mut Pass<T>) {
        let edges: Vec<(usize, usize)> = (self.network().edges_into(l))
            .map(|(e, edge)| (e, edge.pre))
            .collect();
        let mut z: Option<Array2<T>> = None;
        for (e, pre) in edges {
            let product = self.tensors.products[e];
            let Some(geometry) = product.geometry() else {
                let Part::Head { bias, .. } = self.tensors.model.part(e) else {
                    unreachable!("a dense edge is the head")
                };
                let images = pass.labels.len();
                pass.states[l] = self.logits_of(e, bias, pass.states[pre].view(), images);
                return;
            };
            let c = self.convolve(e, geometry, pass.states[pre].view());
            let z = z.get_or_insert_with(|| Array2::zeros(c.dim()));
            pass.normalised[e] = self.normalise_add(e, c, pass.mode, z.view_mut());
            if let Product::Pooled(_, windows) = product {
                // relu(max z) = max(relu z), so rectifying can wait.
                let pixels = windows.pooled.pixels();
                let rows = pass.labels.len() * pixels;
                let mut pooled = Array2::zeros((rows, windows.pooled.channels));
                pass.argmax[l].resize(pooled.len(), 0);
                windows.argmax(z.view(), &mut pass.argmax[l]);
                windows.take_add(z.view(), &pass.argmax[l], pooled.view_mut());
                *z = pooled;
            }
        }
        let mut state = z.expect("the network was checked: every layer has an edge from below");
        state.par_mapv_inplace(|v| v.max(T::zero()));
        pass.states[l] = state;
    }

    /// `dL/dz` of hidden layer `l`, at the resolution of its convolutions, from `dL/da`.
    fn unrectified(&self, l: usize, pass: &Pass<T>, mut da: Array2<T>) -> Array2<T> {
        Zip::from(&mut da)
            .and(&pass.states[l])
            .par_for_each(|d, &a| {
                if a <= T::zero() {
                    *d = T::zero();
                }
            });
        let pooled = self.network().edges_into(l).find_map(|(e, _)| {
            let Product::Pooled(_, windows) = self.tensors.products[e] else {
                return None;
            };
            Some(windows)
        });
        let Some(windows) = pooled else {
            return da;
        };
        let rows = pass.labels.len() * windows.full.pixels();
        let mut full = Array2::zeros((rows, windows.full.channels));
        windows.unpool(da.view(), &pass.argmax[l], full.view_mut());
        full
    }

    /// `dx += W_e^T * dc`
    fn convolve_back(
        &self,
        e: usize,
        geometry: ConvGeometry,
        dc: ArrayView2<T>,
        mut dx: ArrayViewMut2<T>,
    ) {
        let weight = self.tensors.transposed_weight(e);
        let outputs = dc.axis_chunks_iter(Axis(0), geometry.post.pixels());
        dx.axis_chunks_iter_mut(Axis(0), geometry.pre.pixels())
            .into_par_iter()
            .zip(outputs.into_par_iter())
            .for_each_init(Vec::new, |columns, (dx, dc)| {
                geometry.transpose_add(dc, weight, dx, columns);
            });
    }

    /// Gradients of all tensors but the weights of edges; returns `dL/d(W_e * x + b_e)` by edge, from which those follow.
    fn errors(&self, pass: &mut Pass<T>, gradient: &mut ParameterSet<T>) -> Vec<Array2<T>> {
        let network = self.network();
        let output = network.output_index();
        let mut da: Vec<Array2<T>> = pass.states.iter().map(|s| Array2::zeros(s.dim())).collect();
        let mut errors: Vec<Array2<T>> = vec![Array2::zeros((0, 0)); network.edges().len()];
        let mut set = |t: usize, values: &[f64]| {
            let tensor = gradient.tensors_mut()[t].iter_mut();
            tensor.zip(values).for_each(|(g, &v)| *g = T::of(v));
        };
        for l in network.free_layers().rev() {
            let above = std::mem::take(&mut da[l]);
            let dz = match l == output {
                true => loss_gradient(&pass.states[l], &pass.labels),
                false => self.unrectified(l, pass, above),
            };
            for (e, edge) in network.edges_into(l) {
                let below = da[edge.pre].view_mut();
                match self.tensors.model.part(e) {
                    Part::Head { bias, .. } => {
                        set(bias, &batch_norm::sums(dz.view()));
                        let below = as_images_mut(below, dz.nrows());
                        let weight = self.tensors.transposed_weight(e);
                        weight.multiply(below, dz.view(), Into::Add);
                        errors[e] = dz.clone();
                    }
                    // The gradient of a convolution's bias is zero: the mean that is subtracted contains it.
                    Part::Convolution { gamma, beta, .. } => {
                        let normalised = pass.normalised[e].take();
                        let Normalised { mut x, factors } =
                            normalised.expect("a training pass keeps it");
                        let scale = self.tensors.vector(gamma);
                        let (dgamma, dbeta) =
                            batch_norm::backward(dz.view(), &mut x, scale, &factors);
                        set(gamma, &dgamma);
                        set(beta, &dbeta);
                        if edge.pre != 0 {
                            let geometry = self.tensors.products[e].geometry();
                            let geometry = geometry.expect("a convolution has one");
                            self.convolve_back(e, geometry, x.view(), below);
                        }
                        errors[e] = x;
                    }
                }
            }
        }
        errors
    }
}

/// `(softmax(logits) - one_hot) / N`: the gradient of the mean cross-entropy.
fn loss_gradient<T: Real>(logits: &Array2<T>, labels: &[usize]) -> Array2<T> {
    let mut gradient = Array2::zeros(logits.dim());
    let rows = gradient.rows_mut().into_iter().zip(logits.rows());
    let mean = T::of(1.0 / labels.len() as f64);
    for ((mut g, logits), &label) in rows.zip(labels) {
        let g = g.as_slice_mut().expect("a row is contiguous");
        let logits = logits.to_slice().expect("a row is contiguous");
        CostFunction::Ce.gradient(logits, label, g);
        g.iter_mut().for_each(|g| *g *= mean);
    }
    gradient
}

impl<T: Real> Backend for CpuFeedForward<T> {
    fn describe(&self) -> String {
        format!("cpu, {}, {} threads", T::NAME, rayon::current_num_threads())
    }

    fn state(&self) -> Result<State> {
        Ok(self.tensors.state())
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.pass = None;
        Ok(self.tensors.set_state(state)?)
    }

    fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()> {
        self.tensors.set_optimizer(config);
        Ok(())
    }

    fn optimizer_state(&self) -> Result<OptimizerState> {
        self.tensors.optimizer_state()
    }

    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()> {
        self.tensors.set_optimizer_state(state)
    }

    fn forward(
        &mut self,
        images: &Array4<f32>,
        labels: &[usize],
        mode: Mode,
    ) -> Result<BatchOutcome> {
        check_batch(self.network(), images, labels)?;
        let layers = self.network().layers().len();
        let mut pass = Pass {
            mode,
            labels: labels.to_vec(),
            states: vec![Array2::zeros((0, 0)); layers],
            normalised: self.network().edges().iter().map(|_| None).collect(),
            argmax: vec![Vec::new(); layers],
        };
        pass.states[0] = rows(images.view(), |v: f32| T::of(f64::from(v)));
        for l in self.network().free_layers() {
            self.layer(l, &mut pass);
        }
        let logits = &pass.states[layers - 1];
        let outcome = judge(logits.view(), labels, CostFunction::Ce);
        self.pass = Some(pass);
        Ok(outcome)
    }

    fn logits(&self) -> Result<Array2<f64>> {
        let pass = self.pass.as_ref().context("no batch went forward")?;
        let logits = pass.states.last().expect("a network has an output");
        Ok(logits.mapv(T::wide))
    }

    fn backward(&mut self) -> Result<GradientReport> {
        let mut pass = self.pass.take().context("no batch went forward")?;
        ensure!(
            pass.mode == Mode::Train,
            "a batch went forward in evaluation mode, which keeps nothing for a backward pass"
        );
        let mut gradient = self.gradient.take();
        let into = gradient.get_or_insert_with(|| self.tensors.parameters.zeros_like());
        let errors = self.errors(&mut pass, into);
        let weights = into.tensors_mut().iter_mut().enumerate();
        let weights = weights.filter_map(|(t, g)| Some((self.tensors.edge_of(t)?, g)));
        tasks(&self.tensors.products, weights)
            .into_par_iter()
            .for_each_init(Scratch::new, |scratch, task| {
                let (e, row) = (task.edge, task.kernel_row);
                let product = self.tensors.products[e];
                let mut correlation =
                    Correlation::new(product, row, task.gradient, T::one(), scratch);
                let pre = self.network().edges()[e].pre;
                correlation.add(pass.states[pre].view(), errors[e].view());
                correlation.finish();
            });
        let norm = into.norm();
        self.gradient = gradient;
        Ok(GradientReport { norm })
    }

    fn gradient(&self) -> Result<ParameterSet<f64>> {
        let gradient = self.gradient.as_ref().context("no batch went backward")?;
        Ok(self.tensors.unpacked(gradient))
    }

    fn step(&mut self, learning_rates: &[f64]) -> Result<()> {
        let gradient = self.gradient.as_ref().context("no batch went backward")?;
        self.tensors.step(gradient, learning_rates)
    }
}
