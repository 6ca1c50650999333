//! [`Backend`] of feed-forward networks on a [`Device`]: the parameters. `plan.rs` has the passes.
//!
//! Convolutions are sweeps, and weight gradients are products, as in equilibrium propagation; batch normalisation
//! (`kernels/batch_norm.cu`) is what only feed-forward networks have.

use super::plan::Plan;
use super::running::Running;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::Format;
use crate::cuda::parameters::Parameters;
use crate::cuda::recent::Recent;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::layout::{Axes, Layout, Tensor, padded};
use crate::error::{Error, Result};
use crate::feedforward::{Backend, FeedForward, NormMode, Part, SharedBatch};
use crate::network::{LinearMap, ModelState, NetworkError, ParameterSet};
use crate::optim::{OptimizerConfig, OptimizerState};
use crate::phase::{BatchOutcome, GradientMemory, check_batch};
use ndarray::{Array2, Array4, ArrayD, IxDyn};
use std::rc::Rc;
use std::sync::Arc;

/// A feed-forward network on a GPU, or on the emulation of one.
pub struct CudaFeedForward {
    pub(in crate::cuda) setup: Setup<FeedForward>,
    pub(in crate::cuda) parameters: Parameters,
    /// by edge; dense ones have none
    running: Vec<Option<Running>>,
    plans: Recent<Plan>,
    /// the pass that the present plan holds
    mode: Option<NormMode>,
    /// the batch that a training pass has a part of, where that is not all
    shared: Option<Rc<dyn SharedBatch>>,
}

impl CudaFeedForward {
    /// All parameters are zero.
    ///
    /// # Errors
    /// When there are no kernels for an edge, or the device has no room.
    pub fn new(model: &FeedForward, device: Arc<dyn Device>, format: Format) -> Result<Self> {
        let network = model.network();
        check(model)?;
        let setup = Setup::new(device, model.clone(), layout_of(model), format);
        let running = (0..network.edges().len()).map(|e| {
            let Part::Convolution { .. } = model.part(e) else {
                return Ok(None);
            };
            let channels = padded(Geometry::of(network, e).full.channels);
            Ok(Some(Running {
                mean: Buffer::zeros(&setup.device, channels)?,
                variance: Buffer::zeros(&setup.device, channels)?,
                batches: 0.0,
            }))
        });
        Ok(Self {
            running: running.collect::<Result<_>>()?,
            parameters: Parameters::new(&setup.device, &setup.layout, format)?,
            plans: Recent::new(),
            mode: None,
            shared: None,
            setup,
        })
    }

    pub(in crate::cuda) fn plan(&self) -> Result<&Plan> {
        let plan = self.plans.present().filter(|_| self.mode.is_some());
        plan.ok_or(Error::OutOfOrder("no batch went forward"))
    }

    /// From PyTorch's shapes to those of the layout, whose head is a convolution.
    fn laid_out(&self, set: &ParameterSet<f64>) -> ParameterSet<f64> {
        let network = self.setup.network();
        let mut tensors = set.tensors().to_vec();
        for (e, _) in network.edges().iter().enumerate() {
            if let Part::Dense { weight, .. } = self.setup.model.part(e) {
                let g = Geometry::of(network, e);
                let shape = [g.full.channels, g.pre.channels, g.pre.height, g.pre.width];
                let head = std::mem::take(&mut tensors[weight])
                    .as_standard_layout()
                    .into_owned();
                let head = head.into_shape_with_order(IxDyn(&shape));
                tensors[weight] = head.expect("as many weights as the head has");
            }
        }
        ParameterSet::new(Vec::new(), tensors)
    }

    /// The inverse of [`Self::laid_out`].
    fn in_torch_shapes(&self, set: ParameterSet<f64>) -> ParameterSet<f64> {
        let shapes = self.setup.model.parameter_shapes();
        let tensors = set.tensors().iter().zip(shapes).map(|(tensor, shape)| {
            let tensor = tensor.clone().into_shape_with_order(IxDyn(shape));
            tensor.expect("the same values in another shape")
        });
        ParameterSet::new(Vec::new(), tensors.collect())
    }
}

/// Whether there are kernels for every edge and every layer.
fn check(model: &FeedForward) -> Result<(), NetworkError> {
    let network = model.network();
    let output = network.output_index();
    for (e, edge) in network.edges().iter().enumerate() {
        let is_only = network.edges_into(edge.post).count() == 1;
        let fault = match edge.map {
            LinearMap::Conv(_) if edge.post == output => "is a convolution into the output",
            LinearMap::Dense if edge.post == output && !is_only => {
                "is not the only edge into the output"
            }
            _ => continue,
        };
        return Err(NetworkError(format!(
            "{} {fault}, for which backpropagation has no kernels; use --device cpu",
            network.edge_name(e)
        )));
    }
    Ok(())
}

/// The tensors of [`FeedForward::parameter_names`].
fn layout_of(model: &FeedForward) -> Layout {
    let network = model.network();
    let mut tensors: Vec<Tensor> = (model.parameter_shapes().iter())
        .map(|shape| Tensor::Vector { channels: shape[0] })
        .collect();
    for e in 0..network.edges().len() {
        let (Part::Convolution { weight, .. } | Part::Dense { weight, .. }) = model.part(e);
        tensors[weight] = Tensor::Weight {
            geometry: Geometry::of(network, e),
            axes: Axes::PostPre,
        };
    }
    Layout::of(tensors, 0)
}

impl Backend for CudaFeedForward {
    fn describe(&self) -> String {
        let format = self.setup.format.name();
        format!("{}, {format}", self.setup.device.describe())
    }

    fn state(&self) -> Result<ModelState> {
        let parameters = self.in_torch_shapes(self.parameters.read()?);
        let mut statistics = Vec::new();
        for (e, running) in self.running.iter().enumerate() {
            let Some(running) = running else { continue };
            let channels = Geometry::of(self.setup.network(), e).full.channels;
            for values in [&running.mean, &running.variance] {
                let values = values.read()?;
                let values = values[..channels].iter().map(|&v| f64::from(v));
                statistics.push(values.collect::<ndarray::Array1<f64>>().into_dyn());
            }
            statistics.push(ArrayD::from_elem(IxDyn(&[]), running.batches));
        }
        Ok(ModelState {
            parameters,
            statistics,
        })
    }

    fn set_state(&mut self, state: &ModelState) -> Result<()> {
        let ModelState {
            parameters,
            statistics,
        } = (self.setup.model).state(
            state.parameters.tensors().to_vec(),
            state.statistics.clone(),
        )?;
        self.parameters.write(&self.laid_out(&parameters))?;
        let mut statistics = statistics.iter();
        for running in self.running.iter_mut().flatten() {
            for buffer in [&running.mean, &running.variance] {
                let values = statistics.next().expect("the number was checked");
                let mut padded = vec![0.0; buffer.len()];
                for (to, &from) in padded.iter_mut().zip(values) {
                    *to = from as f32;
                }
                buffer.write(&padded)?;
            }
            let batches = statistics.next().expect("the number was checked");
            running.batches = batches.sum();
        }
        self.mode = None;
        Ok(())
    }

    fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()> {
        self.parameters.set_optimizer(config)
    }

    fn optimizer_state(&self) -> Result<OptimizerState> {
        let state = self.parameters.optimizer_state()?;
        let moments = state.moments.into_iter().map(|m| self.in_torch_shapes(m));
        Ok(OptimizerState {
            moments: moments.collect(),
            ..state
        })
    }

    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()> {
        let moments = state.moments.iter().map(|m| self.laid_out(m)).collect();
        self.parameters.set_optimizer_state(&OptimizerState {
            moments,
            steps: state.steps,
        })
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
        check_batch(self.setup.network(), images, labels)?;
        let (setup, parameters, running) = (&self.setup, &self.parameters, &self.running);
        let n = labels.len();
        let plan = (self.plans).select(n, || Plan::new(setup, parameters, running, n))?;
        plan.load(&self.setup, images, labels)?;
        let weights = self.parameters.operands();
        let shared = self.shared.as_deref();
        match shared.filter(|_| mode == NormMode::Train) {
            Some(batch) => plan.forward_shared(&self.setup, weights, &self.running, batch)?,
            None => plan.forward(&self.setup, weights, mode)?,
        }
        self.mode = Some(mode);
        if mode == NormMode::Train {
            for running in self.running.iter_mut().flatten() {
                running.batches += 1.0;
            }
        }
        plan.outcome(&self.setup)
    }

    fn logits(&self) -> Result<Array2<f64>> {
        self.plan()?.read_logits(&self.setup)
    }

    fn backward(&mut self) -> Result<()> {
        self.plan()?;
        if self.mode != Some(NormMode::Train) {
            return Err(Error::OutOfOrder(
                "a batch went forward in evaluation mode, which keeps nothing for a backward pass",
            ));
        }
        let plan = self.plans.present_mut().expect("a batch went forward");
        let (setup, parameters) = (&self.setup, &self.parameters);
        plan.backward(setup, parameters, &self.running, self.shared.as_deref())
    }

    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        let plan = (self.plans.present_mut()).ok_or(Error::OutOfOrder("no batch went backward"))?;
        plan.reduce_gradient(&self.setup, &self.parameters, share, sum)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.plan()?.norm(&self.setup)?.read()?[0])
    }

    fn gradient(&self) -> Result<ParameterSet<f64>> {
        Ok(self.in_torch_shapes(self.parameters.read_gradient()?))
    }

    fn step(&mut self, learning_rates: &[f64]) -> Result<()> {
        let plan = self
            .plans
            .present()
            .ok_or(Error::OutOfOrder("no batch went backward"))?;
        let norm = plan.norm(&self.setup)?;
        (self.parameters).step(learning_rates, norm, f64::INFINITY)
    }
}
