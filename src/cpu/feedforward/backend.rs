//! [`Backend`] of feed-forward networks on the CPU: the passes. `tensors.rs` holds the parameters.
//!
//! States are matrices with one row per pixel, as in equilibrium propagation, of the whole batch: batch normalisation needs
//! its statistics. Convolutions run over the images in parallel.

use super::batch_norm;
use super::memory::Recycler;
use super::tensors::Tensors;
use crate::cpu::ops::conv::ConvGeometry;
use crate::cpu::ops::correlate::{Correlation, Scratch, tasks};
use crate::cpu::ops::filter::Bordered;
use crate::cpu::ops::images::rows;
use crate::cpu::ops::outcome::judge;
use crate::cpu::ops::pool::Windows;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::{Real, configure_matmul};
use crate::cpu::ops::reduce::reduce;
use crate::cpu::ops::simd::vectorised;
use crate::error::{Error, Result};
use crate::feedforward::{Backend, FeedForward, NORM_EPSILON, NormMode, Part, SharedBatch};
use crate::network::{ModelState, Network, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{BatchOutcome, CostFunction, GradientMemory, check_batch};
use ndarray::{Array2, Array4, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;
use std::rc::Rc;

/// A product of few rows would read the weights for little: images with fewer pixels than this go together.
const MIN_ROWS: usize = 64;

/// Elements that a thread takes at a time in passes over a whole matrix.
const PART: usize = 1 << 14;

/// Images that a convolution takes at a time. The cut depends on the network alone, never on the number of threads.
fn images_at_a_time(geometry: ConvGeometry) -> usize {
    MIN_ROWS.div_ceil(geometry.post.pixels())
}

/// What a forward pass leaves for the backward pass.
struct Pass<T> {
    mode: NormMode,
    labels: Vec<usize>,
    /// the input, then each layer's state; of the output the logits
    states: Vec<Array2<T>>,
    /// by edge, training only
    normalised: Vec<Option<Normalised<T>>>,
    /// by edge, where max pooling took each unit from; empty for other edges
    argmax: Vec<Vec<u8>>,
}

impl<T: Real> Pass<T> {
    fn recycle(self, memory: &mut Recycler<T>) {
        // The input and the logits are small, and made anew.
        self.states
            .into_iter()
            .skip(1)
            .for_each(|state| memory.give(state));
        let normalised = self.normalised.into_iter().flatten();
        normalised.for_each(|edge| memory.give(edge.x));
    }
}

/// A normalised convolution, and the factors `1 / sqrt(var + eps)` that made it so.
struct Normalised<T> {
    x: Array2<T>,
    factors: Vec<f64>,
}

/// A feed-forward network on the CPU, in f32 or f64.
pub struct CpuFeedForward<T: 'static> {
    tensors: Tensors<T>,
    pass: Option<Pass<T>>,
    gradient: Option<ParameterSet<T>>,
    memory: Recycler<T>,
    /// the batch that a training pass has a part of, where that is not all
    shared: Option<Rc<dyn SharedBatch>>,
}

impl<T: Real> CpuFeedForward<T> {
    /// The backend of a network, with all parameters at zero.
    pub fn new(model: &FeedForward) -> Self {
        configure_matmul();
        Self {
            tensors: Tensors::new(model.clone()),
            pass: None,
            gradient: None,
            memory: Recycler::default(),
            shared: None,
        }
    }

    fn network(&self) -> &Network {
        self.tensors.model.network()
    }

    /// Numbers in buffers that wait for the next batch; no more from batch to batch.
    pub fn recycled(&self) -> usize {
        self.memory.held()
    }

    /// `W_e * x`
    fn convolve(&mut self, e: usize, geometry: ConvGeometry, x: ArrayView2<T>) -> Array2<T> {
        let images = x.nrows() / geometry.pre.pixels();
        let shape = (images * geometry.post.pixels(), geometry.post.channels);
        let mut out = self.memory.zeros(shape);
        let weight = self.tensors.up(e);
        let at_a_time = images_at_a_time(geometry);
        let inputs = x.axis_chunks_iter(Axis(0), at_a_time * geometry.pre.pixels());
        out.axis_chunks_iter_mut(Axis(0), at_a_time * geometry.post.pixels())
            .into_par_iter()
            .zip(inputs.into_par_iter())
            .for_each_init(Bordered::default, |scratch, (out, x)| {
                weight.add(x, out, scratch);
            });
        out
    }

    /// Adds `BN_e(c + b_e)` to `z`; in training the batch's statistics are taken, and the running ones follow. The bias `b_e`
    /// moves the mean and nothing else. `c` has the rows of so many images.
    fn normalise_add(
        &mut self,
        e: usize,
        mut c: Array2<T>,
        (images, mode): (usize, NormMode),
        z: ArrayViewMut2<T>,
    ) -> Result<Option<Normalised<T>>> {
        let Part::Convolution {
            bias,
            gamma,
            beta,
            statistics,
            ..
        } = self.tensors.model.part(e)
        else {
            unreachable!("only convolutions are normalised")
        };
        let bias: Vec<f64> = match bias {
            Some(bias) => self.tensors.vector(bias).iter().map(|b| b.wide()).collect(),
            None => vec![0.0; c.ncols()],
        };
        let shifted = |mean: &[f64], sign: f64| -> Vec<f64> {
            mean.iter().zip(&bias).map(|(m, b)| m + sign * b).collect()
        };
        let (mean, variance) = match mode {
            NormMode::Train => {
                let (mut mean, mut variance) = batch_norm::moments(c.view());
                let mut rows = c.nrows();
                if let Some(batch) = &self.shared {
                    batch.moments(&mut mean, &mut variance)?;
                    rows = rows / images * batch.images();
                }
                let with_bias = shifted(&mean, 1.0);
                (self.tensors).follow(statistics, &with_bias, &variance, rows);
                (mean, variance)
            }
            NormMode::Evaluate => {
                let (mean, variance) = self.tensors.running(statistics);
                (shifted(&mean, -1.0), variance)
            }
        };
        let factors = batch_norm::normalise(c.view_mut(), &mean, &variance, NORM_EPSILON);
        let (gamma, beta) = (self.tensors.vector(gamma), self.tensors.vector(beta));
        batch_norm::affine_add(c.view(), gamma, beta, z);
        if mode == NormMode::Evaluate {
            self.memory.give(c);
            return Ok(None);
        }
        Ok(Some(Normalised { x: c, factors }))
    }

    /// Adds `W_e flatten(x) + b_e` to `z`, which has a row per image.
    fn dense_add(&self, e: usize, bias: usize, x: ArrayView2<T>, mut z: ArrayViewMut2<T>) {
        z += &ndarray::ArrayView1::from(self.tensors.vector(bias));
        (self.tensors.up(e)).add(x, z, &mut Bordered::default());
    }

    /// Adds the maxima of `full` to `z`, and says where they were.
    fn pool_add(windows: Windows, full: &Array2<T>, argmax: &mut Vec<u8>, mut z: ArrayViewMut2<T>) {
        argmax.resize(z.len(), 0);
        // An image at a time.
        let full = full.axis_chunks_iter(Axis(0), windows.full.pixels());
        let argmax = argmax.par_chunks_mut(windows.pooled.units());
        let pooled = z.axis_chunks_iter_mut(Axis(0), windows.pooled.pixels());
        (full.into_par_iter(), argmax, pooled.into_par_iter())
            .into_par_iter()
            .for_each(|(full, argmax, pooled)| {
                windows.argmax(full, argmax);
                windows.take_add(full, argmax, pooled);
            });
    }

    /// Layer `l` of a forward pass.
    fn layer(&mut self, l: usize, pass: &mut Pass<T>) -> Result<()> {
        let edges: Vec<(usize, usize)> = (self.network().edges_into(l))
            .map(|(e, edge)| (e, edge.pre))
            .collect();
        let shape = self.network().layers()[l].shape;
        let kind = (pass.labels.len(), pass.mode);
        let rows = kind.0 * shape.pixels();
        let mut z = self.memory.zeros((rows, shape.channels));
        for (e, pre) in edges {
            let product = self.tensors.products[e];
            let x = pass.states[pre].view();
            match (product, self.tensors.model.part(e)) {
                (_, Part::Dense { bias, .. }) => self.dense_add(e, bias, x, z.view_mut()),
                (Product::Pooled(g, windows), _) => {
                    let c = self.convolve(e, g, x);
                    let mut full = self.memory.zeros(c.dim());
                    pass.normalised[e] = self.normalise_add(e, c, kind, full.view_mut())?;
                    Self::pool_add(windows, &full, &mut pass.argmax[e], z.view_mut());
                    self.memory.give(full);
                }
                (product, _) => {
                    let geometry = product.geometry().expect("a convolution has one");
                    let c = self.convolve(e, geometry, x);
                    pass.normalised[e] = self.normalise_add(e, c, kind, z.view_mut())?;
                }
            }
        }
        if self.tensors.model.is_rectified(l) {
            rectify(&mut z);
        }
        pass.states[l] = z;
        Ok(())
    }

    /// `dL/dz` of hidden layer `l` from `dL/da`.
    fn unrectified(&self, l: usize, pass: &Pass<T>, mut da: Array2<T>) -> Array2<T> {
        if !self.tensors.model.is_rectified(l) {
            return da;
        }
        let gradient = da.as_slice_mut().expect("states are contiguous");
        let state = pass.states[l].as_slice().expect("states are contiguous");
        (gradient.par_chunks_mut(PART).zip(state.par_chunks(PART))).for_each(
            |(gradient, state)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for (d, &a) in gradient.iter_mut().zip(state) {
                            *d = if a > T::zero() { *d } else { T::zero() };
                        }
                    },
                );
            },
        );
        da
    }

    /// `dL/d` of what max-pool edge `e` pools, from `dL/dz`.
    fn unpooled(
        windows: Windows,
        dz: &Array2<T>,
        argmax: &[u8],
        memory: &mut Recycler<T>,
    ) -> Array2<T> {
        let images = dz.nrows() / windows.pooled.pixels();
        let mut full = memory.zeros((images * windows.full.pixels(), windows.full.channels));
        let images = full.axis_chunks_iter_mut(Axis(0), windows.full.pixels());
        let argmax = argmax.par_chunks(windows.pooled.units());
        let pooled = dz.axis_chunks_iter(Axis(0), windows.pooled.pixels());
        (images.into_par_iter(), argmax, pooled.into_par_iter())
            .into_par_iter()
            .for_each(|(full, argmax, pooled)| windows.unpool(pooled, argmax, full));
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
        let weight = self.tensors.down(e);
        let at_a_time = images_at_a_time(geometry);
        let outputs = dc.axis_chunks_iter(Axis(0), at_a_time * geometry.post.pixels());
        dx.axis_chunks_iter_mut(Axis(0), at_a_time * geometry.pre.pixels())
            .into_par_iter()
            .zip(outputs.into_par_iter())
            .for_each_init(Bordered::default, |scratch, (dx, dc)| {
                weight.add(dc, dx, scratch);
            });
    }

    /// Gradients of all tensors but the weights of edges; returns `dL/d(W_e * x)` by edge, from which those follow.
    fn errors(
        &self,
        pass: &mut Pass<T>,
        gradient: &mut ParameterSet<T>,
        memory: &mut Recycler<T>,
    ) -> Result<Vec<Array2<T>>> {
        let network = self.network();
        let output = network.output_index();
        let mut da: Vec<Array2<T>> = vec![Array2::zeros((0, 0)); pass.states.len()];
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
                if edge.pre != 0 && da[edge.pre].is_empty() {
                    da[edge.pre] = memory.zeros(pass.states[edge.pre].dim());
                }
                let below = da[edge.pre].view_mut();
                match self.tensors.model.part(e) {
                    Part::Dense { bias, .. } => {
                        set(bias, &batch_norm::sums(dz.view()));
                        if edge.pre != 0 {
                            let weight = self.tensors.down(e);
                            weight.add(dz.view(), below, &mut Bordered::default());
                        }
                        errors[e] = dz.clone();
                    }
                    // The gradient of a convolution's bias is zero: the mean that is subtracted contains it.
                    Part::Convolution { gamma, beta, .. } => {
                        let normalised = pass.normalised[e].take();
                        let Normalised { mut x, factors } =
                            normalised.expect("a training pass keeps it");
                        let scale = self.tensors.vector(gamma);
                        let full = match self.tensors.products[e] {
                            Product::Pooled(_, windows) => {
                                Some(Self::unpooled(windows, &dz, &pass.argmax[e], memory))
                            }
                            _ => None,
                        };
                        let dz = full.as_ref().unwrap_or(&dz).view();
                        let mut sums = batch_norm::gradients(dz, x.view());
                        // Of the mean loss of all images; the rest of the pass is in units of this machine's.
                        if let Some(batch) = &self.shared {
                            batch.average(&mut sums)?;
                        }
                        batch_norm::backward(dz, &mut x, scale, &factors, &sums);
                        set(gamma, &sums[..scale.len()]);
                        set(beta, &sums[scale.len()..]);
                        if edge.pre != 0 {
                            let geometry = self.tensors.products[e].geometry();
                            let geometry = geometry.expect("a convolution has one");
                            self.convolve_back(e, geometry, x.view(), below);
                        }
                        errors[e] = x;
                        full.into_iter().for_each(|full| memory.give(full));
                    }
                }
            }
            memory.give(dz);
        }
        Ok(errors)
    }
}

/// `z <- max(z, 0)`
fn rectify<T: Real>(z: &mut Array2<T>) {
    let values = z.as_slice_mut().expect("states are contiguous");
    values.par_chunks_mut(PART).for_each(|part| {
        vectorised(
            #[inline(always)]
            || {
                for v in part {
                    // NaN stays NaN, and a diverged run is noticed.
                    *v = if *v < T::zero() { T::zero() } else { *v };
                }
            },
        );
    });
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

    fn state(&self) -> Result<ModelState> {
        Ok(self.tensors.state())
    }

    fn set_state(&mut self, state: &ModelState) -> Result<()> {
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

    fn share(&mut self, batch: Rc<dyn SharedBatch>) {
        self.shared = Some(batch);
    }

    fn forward(
        &mut self,
        images: &Array4<f32>,
        labels: &[usize],
        mode: NormMode,
    ) -> Result<BatchOutcome> {
        check_batch(self.network(), images, labels)?;
        let layers = self.network().layers().len();
        if let Some(before) = self.pass.take() {
            before.recycle(&mut self.memory);
        }
        let mut pass = Pass {
            mode,
            labels: labels.to_vec(),
            states: vec![Array2::zeros((0, 0)); layers],
            normalised: self.network().edges().iter().map(|_| None).collect(),
            argmax: vec![Vec::new(); self.network().edges().len()],
        };
        pass.states[0] = rows(images.view(), |v: f32| T::of(f64::from(v)));
        for l in self.network().free_layers() {
            self.layer(l, &mut pass)?;
        }
        let logits = &pass.states[layers - 1];
        let outcome = judge(logits.view(), labels, CostFunction::Ce);
        self.pass = Some(pass);
        Ok(outcome)
    }

    fn logits(&self) -> Result<Array2<f64>> {
        let pass = self
            .pass
            .as_ref()
            .ok_or(Error::OutOfOrder("no batch went forward"))?;
        let logits = pass.states.last().expect("a network has an output");
        Ok(logits.mapv(T::wide))
    }

    fn backward(&mut self) -> Result<()> {
        let mut pass = self
            .pass
            .take()
            .ok_or(Error::OutOfOrder("no batch went forward"))?;
        if pass.mode != NormMode::Train {
            return Err(Error::OutOfOrder(
                "a batch went forward in evaluation mode, which keeps nothing for a backward pass",
            ));
        }
        let mut memory = std::mem::take(&mut self.memory);
        let mut gradient = self.gradient.take();
        let into = gradient.get_or_insert_with(|| self.tensors.parameters.zeros_like());
        let errors = self.errors(&mut pass, into, &mut memory)?;
        let tensors = &self.tensors;
        let weights = into.tensors_mut().iter_mut().enumerate();
        let weights = weights.filter_map(|(t, g)| Some((tensors.edge_of(t)?, g)));
        tasks(&tensors.products, weights)
            .into_par_iter()
            .for_each_init(Scratch::new, |scratch, task| {
                let (e, row) = (task.edge, task.kernel_row);
                let product = tensors.products[e];
                let mut correlation =
                    Correlation::new(product, row, task.gradient, T::one(), scratch);
                let pre = tensors.model.network().edges()[e].pre;
                correlation.add(pass.states[pre].view(), errors[e].view());
                correlation.finish();
            });
        self.gradient = gradient;
        errors.into_iter().for_each(|error| memory.give(error));
        pass.recycle(&mut memory);
        self.memory = memory;
        Ok(())
    }

    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        let gradient = self
            .gradient
            .as_mut()
            .ok_or(Error::OutOfOrder("no batch went backward"))?;
        reduce(gradient, share, sum)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        let gradient = self
            .gradient
            .as_ref()
            .ok_or(Error::OutOfOrder("no batch went backward"))?;
        Ok(gradient.norm())
    }

    fn gradient(&self) -> Result<ParameterSet<f64>> {
        let gradient = self
            .gradient
            .as_ref()
            .ok_or(Error::OutOfOrder("no batch went backward"))?;
        Ok(self.tensors.unpacked(gradient))
    }

    fn step(&mut self, learning_rates: &[f64]) -> Result<()> {
        let gradient = self
            .gradient
            .as_ref()
            .ok_or(Error::OutOfOrder("no batch went backward"))?;
        self.tensors.step(gradient, learning_rates)
    }
}
