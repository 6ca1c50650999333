//! Device memory of a batch, and the launches of its passes.
//!
//! ```text
//! forward    layer by layer:   convolved_e = W_e * state_pre + b_e      state = relu(sum pool_e(BN_e(convolved_e)))
//! backward   layer by layer:   gradient = sum W_e^T * difference_e      difference_e = dL/dconvolved_e
//! ```
//!
//! An edge that pools averages does so before its normalisation. A dense edge is not normalised: to the kernels it is one whose mean
//! is zero and whose variance is one, whatever its batch.
//!
//! States and differences are in the operand format, the rest in fp32. In fp16 the loss is scaled up so that differences
//! do not underflow; the gradient is scaled back where its sums are gathered.

use super::layer::{
    Convolution, Layer, batch_norm, convolution, normalised_edges, normalised_pixels, source,
};
use super::running::Running;
use super::shared;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels::{self, Format};
use crate::cuda::parameters::Parameters;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::{Geometry, classes, taps_down, taps_up, whole};
use crate::cuda::tables::gradient::GradientPlan;
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::layout::{padded_images, padded_units};
use crate::cuda::tables::products::{Products, TensorGradient};
use crate::cuda::tables::sweep::{Sweep, SweepBuilder, Target, raw_args};
use crate::error::{Error, Result, ensure};
use crate::feedforward::{FeedForward, NormMode, Part, SharedBatch};
use crate::phase::{BatchOutcome, GradientMemory};
use ndarray::{Array2, Array4};
use std::ffi::c_void;

/// Factor of each example's loss in fp16. Differences are at most about as large as this, so that they stay below 65504,
/// and seldom below 6e-5 / 1024 of the logits', where fp16 begins to lose digits.
const LOSS_SCALE: f32 = 1024.0;

/// What only training needs.
pub(in crate::cuda) struct Backward {
    /// by edge
    difference: Vec<Buffer<u8>>,
    /// hidden layers from the highest: how the gradient comes down, and where it goes from there
    pub(in crate::cuda) layers: Vec<(Sweep, EqBatchNormArgs)>,
    pub(in crate::cuda) gradient: GradientPlan,
    _layer_gradients: Vec<Buffer<f32>>,
    _tables: Vec<Buffer<EqBatchNorm>>,
}

/// Everything that depends on the batch size.
pub struct Plan {
    pub images: usize,
    labels: Buffer<i32>,
    input: Buffer<u8>,
    /// by edge; the head has none
    convolutions: Vec<Option<Convolution>>,
    /// by layer; the input and the output have none
    pub(in crate::cuda) layers: Vec<Option<Layer>>,
    head: Sweep,
    logits: Buffer<f32>,
    energy: Buffer<f64>,
    cost: Buffer<f64>,
    prediction: Buffer<i32>,
    in_top5: Buffer<i32>,
    pub(in crate::cuda) backward: Option<Backward>,
}

impl Plan {
    pub fn new(
        setup: &Setup<FeedForward>,
        parameters: &Parameters,
        running: &[Option<Running>],
        images: usize,
    ) -> Result<Self> {
        let (device, network) = (&setup.device, setup.network());
        let bytes = setup.format.bytes();
        for e in 0..network.edges().len() {
            let units = images * padded_units(Geometry::of(network, e).full);
            ensure!(
                Mismatch,
                i32::try_from(units).is_ok(),
                "a batch of {images} is too large for the kernels: {} has {units} units, and they count to 2^31",
                network.edge_name(e)
            );
        }
        let convolutions = (0..network.edges().len()).map(|e| Convolution::new(setup, e, images));
        let convolutions: Vec<_> = convolutions.collect::<Result<_>>()?;
        let input = Buffer::new(device, images * padded_units(network.input().shape) * bytes)?;
        let logits = Buffer::new(device, images * padded(network.classes()))?;

        let mut states: Vec<*const c_void> = vec![input.ptr::<c_void>().cast_const()];
        let mut layers = vec![None];
        for l in 1..network.output_index() {
            let layer = Layer::new(
                setup,
                parameters,
                running,
                &convolutions,
                &states,
                l,
                images,
            )?;
            states.push(layer.state.ptr::<c_void>().cast_const());
            layers.push(Some(layer));
        }
        layers.push(None);
        let mut head = SweepBuilder::new(&setup.layout, setup.relax, images, 1);
        for (e, edge) in network.edges_into(network.output_index()) {
            let Part::Dense { bias, .. } = setup.model.part(e) else {
                unreachable!("the output has a dense edge alone")
            };
            let g = Geometry::of(network, e);
            let target = Target {
                bias: parameters.master().wrapping_add(setup.layout.start(bias)),
                raw: logits.ptr(),
                ..Target::new(g.full)
            };
            let source = source(g.pre, states[edge.pre]);
            let taps = taps_up(e, &g, &whole(g.full)).into_iter();
            let taps: Vec<_> = taps.map(|tap| (tap, source)).collect();
            head.add(&target, &whole(g.full), &taps);
        }
        Ok(Self {
            images,
            labels: Buffer::new(device, images)?,
            input,
            convolutions,
            layers,
            head: head.build(device)?,
            logits,
            energy: Buffer::new(device, images)?,
            cost: Buffer::new(device, images)?,
            prediction: Buffer::new(device, images)?,
            in_top5: Buffer::new(device, images)?,
            backward: None,
        })
    }

    pub fn load(
        &self,
        setup: &Setup<FeedForward>,
        images: &Array4<f32>,
        labels: &[usize],
    ) -> Result<()> {
        let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
        self.labels.write(&labels)?;
        let input = padded_images(images).into_iter();
        self.input.write(&setup.format.encode(input))
    }

    pub fn forward(
        &self,
        setup: &Setup<FeedForward>,
        weights: *const c_void,
        mode: NormMode,
    ) -> Result<()> {
        let device = &*setup.device;
        for layer in self.layers.iter().flatten() {
            layer.sweep.launch(device, raw_args(weights))?;
            let args = EqBatchNormArgs {
                evaluate: u32::from(mode == NormMode::Evaluate),
                ..layer.args
            };
            kernels::batch_norm_forward(device, setup.format, &args)?;
        }
        self.head.launch(device, raw_args(weights))
    }

    /// A training pass over this machine's part of a batch: the same with the statistics of the whole batch.
    pub fn forward_shared(
        &self,
        setup: &Setup<FeedForward>,
        weights: *const c_void,
        running: &[Option<Running>],
        batch: &dyn SharedBatch,
    ) -> Result<()> {
        let device = &*setup.device;
        for (l, layer) in self.layers.iter().enumerate() {
            let Some(layer) = layer else { continue };
            layer.sweep.launch(device, raw_args(weights))?;
            // The running statistics stay: they will follow those of the whole batch.
            let args = EqBatchNormArgs {
                momentum: 0.0,
                ..layer.args
            };
            kernels::batch_norm_statistics(device, &args)?;
            let edges = normalised_edges(setup, l).map(|e| {
                let convolution = convolution(&self.convolutions, e);
                shared::Statistics {
                    mean: &convolution.mean,
                    inverse: &convolution.inverse,
                    running: (running[e].as_ref()).expect("a convolution has statistics"),
                    pixels: normalised_pixels(&Geometry::of(setup.network(), e)),
                }
            });
            let edges: Vec<_> = edges.collect();
            shared::join_moments(&edges, batch)?;
            kernels::batch_norm_apply(device, setup.format, &layer.args)?;
        }
        self.head.launch(device, raw_args(weights))
    }

    /// Cost and errors by the logits; there is no energy.
    pub fn outcome(&self, setup: &Setup<FeedForward>) -> Result<BatchOutcome> {
        let classes = setup.network().classes();
        let args = EqOutcomeArgs {
            output: self.logits.ptr(),
            labels: self.labels.ptr(),
            energy: self.energy.ptr(),
            cost: self.cost.ptr(),
            prediction: self.prediction.ptr(),
            in_top5: self.in_top5.ptr(),
            classes: classes as u32,
            classes_padded: padded(classes) as u32,
            cost_function: EQ_COST_CE,
            ..EqOutcomeArgs::default()
        };
        kernels::outcome(&*setup.device, Format::F32, self.images, &args)?;
        let prediction = self.prediction.read()?;
        let in_top5 = self.in_top5.read()?;
        Ok(BatchOutcome {
            energy: Vec::new(),
            cost: self.cost.read()?,
            prediction: prediction.iter().map(|&c| c as usize).collect(),
            in_top5: in_top5.iter().map(|&hit| hit != 0).collect(),
        })
    }

    /// `(N, classes)`
    pub fn read_logits(&self, setup: &Setup<FeedForward>) -> Result<Array2<f64>> {
        let classes = setup.network().classes();
        let values = self.logits.read()?;
        Ok(Array2::from_shape_fn((self.images, classes), |(n, c)| {
            f64::from(values[n * padded(classes) + c])
        }))
    }

    /// Writes the gradient of the mean loss, of which batch normalisation's part is that of all of a shared batch.
    pub fn backward(
        &mut self,
        setup: &Setup<FeedForward>,
        parameters: &Parameters,
        running: &[Option<Running>],
        batch: Option<&dyn SharedBatch>,
    ) -> Result<()> {
        if self.backward.is_none() {
            self.backward = Some(self.plan_backward(setup, parameters, running)?);
        }
        let plan = self.backward.as_ref().expect("it was just made");
        let (device, network) = (&*setup.device, setup.network());
        let loss_scale = match setup.format {
            Format::F32 => 1.0,
            Format::F16 => LOSS_SCALE,
        };
        for (e, _) in network.edges_into(network.output_index()) {
            let args = EqLossArgs {
                logits: self.logits.ptr(),
                labels: self.labels.ptr(),
                difference: plan.difference[e].ptr(),
                images: self.images as u32,
                channels: padded(network.classes()) as u32,
                classes: network.classes() as u32,
                scale: loss_scale,
            };
            kernels::loss_gradient(device, setup.format, &args)?;
        }
        for ((sweep, args), l) in plan.layers.iter().zip((1..network.output_index()).rev()) {
            sweep.launch(device, raw_args(parameters.operands()))?;
            kernels::batch_norm_sums(device, setup.format, args)?;
            if let Some(batch) = batch {
                let tensors = normalised_edges(setup, l).flat_map(|e| match setup.model.part(e) {
                    Part::Convolution { gamma, beta, .. } => [gamma, beta],
                    Part::Dense { .. } => unreachable!("only convolutions are normalised"),
                });
                let tensors: Vec<_> = tensors.collect();
                shared::join_sums(&plan.gradient, &setup.layout, &tensors, self.images, batch)?;
            }
            kernels::batch_norm_difference(device, setup.format, args)?;
        }
        let scale = 1.0 / (loss_scale * self.images as f32);
        plan.gradient.run(device, scale, &parameters.gradient)
    }

    /// See [`GradientPlan::reduce`].
    pub fn reduce_gradient(
        &mut self,
        setup: &Setup<FeedForward>,
        parameters: &Parameters,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()> {
        let plan = self
            .backward
            .as_mut()
            .ok_or(Error::OutOfOrder("no batch went backward"))?;
        let gradient = &parameters.gradient;
        (plan.gradient).reduce(&setup.device, share, gradient, sum)
    }

    /// The global norm of the last gradient, on the device.
    pub fn norm(&self, setup: &Setup<FeedForward>) -> Result<&Buffer<f64>> {
        let plan = self
            .backward
            .as_ref()
            .ok_or(Error::OutOfOrder("no batch went backward"))?;
        plan.gradient.measure_norm(&*setup.device)?;
        Ok(&plan.gradient.norm)
    }

    fn layer(&self, l: usize) -> &Layer {
        self.layers[l].as_ref().expect("a hidden layer")
    }

    fn state(&self, l: usize) -> *const c_void {
        match l {
            0 => self.input.ptr::<c_void>().cast_const(),
            l => self.layer(l).state.ptr::<c_void>().cast_const(),
        }
    }

    fn plan_backward(
        &self,
        setup: &Setup<FeedForward>,
        parameters: &Parameters,
        running: &[Option<Running>],
    ) -> Result<Backward> {
        let (device, network) = (&setup.device, setup.network());
        let difference = (0..network.edges().len()).map(|e| {
            let units = self.images * padded_units(Geometry::of(network, e).full);
            Buffer::new(device, units * setup.format.bytes())
        });
        let difference: Vec<Buffer<u8>> = difference.collect::<Result<_>>()?;
        let parts = self.parts(setup, &difference);
        let kind = (setup.format, setup.relax);
        let gradient = GradientPlan::new(device, &setup.layout, kind, self.images, &parts)?;
        let mut plan = Backward {
            layers: Vec::new(),
            _layer_gradients: Vec::new(),
            _tables: Vec::new(),
            difference,
            gradient,
        };
        for l in (1..network.output_index()).rev() {
            let units = self.images * padded_units(network.layers()[l].shape);
            let of_layer = Buffer::new(device, units)?;
            let target = Target {
                raw: of_layer.ptr(),
                ..Target::new(network.layers()[l].shape)
            };
            let mut sweep = SweepBuilder::new(&setup.layout, setup.relax, self.images, 1);
            for class in classes(network, l) {
                let mut taps = Vec::new();
                for (e, _) in network.edges_out_of(l) {
                    let g = Geometry::of(network, e);
                    let source = source(g.full, plan.difference[e].ptr::<c_void>().cast_const());
                    let down = taps_down(e, &g, &class).into_iter();
                    taps.extend(down.map(|tap| (tap, source)));
                }
                sweep.add(&target, &class, &taps);
            }
            let table = network.edges_into(l).map(|(e, _)| {
                let mut edge = batch_norm(setup, parameters, running, &self.convolutions, e);
                if let Part::Convolution { gamma, beta, .. } = setup.model.part(e) {
                    edge.scale_gradient = plan.gradient.slot(gamma);
                    edge.shift_gradient = plan.gradient.slot(beta);
                }
                EqBatchNorm {
                    difference: plan.difference[e].ptr(),
                    ..edge
                }
            });
            let table = Buffer::from_slice(device, &table.collect::<Vec<_>>())?;
            let args = EqBatchNormArgs {
                edges: table.ptr(),
                gradient: of_layer.ptr(),
                ..self.layer(l).args
            };
            plan.layers.push((sweep.build(device)?, args));
            plan._layer_gradients.push(of_layer);
            plan._tables.push(table);
        }
        Ok(plan)
    }

    /// Where each tensor's gradient comes from.
    fn parts(&self, setup: &Setup<FeedForward>, difference: &[Buffer<u8>]) -> Vec<TensorGradient> {
        let network = setup.network();
        // What no edge claims below: the bias of a convolution, which normalisation takes out again.
        let mut parts: Vec<TensorGradient> = (setup.model.parameter_names().iter())
            .map(|_| TensorGradient::Zero)
            .collect();
        for (e, edge) in network.edges().iter().enumerate() {
            let error = difference[e].ptr::<c_void>().cast_const();
            let weight = match setup.model.part(e) {
                Part::Dense { weight, bias } => {
                    parts[bias] = TensorGradient::Rows {
                        rows: error,
                        count: self.images * Geometry::of(network, e).full.pixels(),
                    };
                    weight
                }
                Part::Convolution {
                    weight,
                    gamma,
                    beta,
                    ..
                } => {
                    parts[gamma] = TensorGradient::Written;
                    parts[beta] = TensorGradient::Written;
                    weight
                }
            };
            parts[weight] = TensorGradient::Products(Products {
                geometry: Geometry::of(network, e),
                pre: self.state(edge.pre),
                pre_stride: 0,
                post: error,
                post_stride: 0,
                one: true,
            });
        }
        parts
    }
}
