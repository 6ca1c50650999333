//! Timing of a feed-forward network's kernels on their own, for `cargo bench --bench kernels`.

use super::timing::{Effort, Measurement, depth_down, synthetic, time};
use crate::cuda::feedforward::CudaFeedForward;
use crate::cuda::machine::abi::EqBatchNormArgs;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels;
use crate::cuda::machine::kernels::Format;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::layout::padded_units;
use crate::cuda::tables::sweep::Sweep;
use crate::cuda::tables::sweep::raw_args;
use crate::error::Result;
use crate::feedforward::{Backend, FeedForward, NormMode};
use crate::network::{Edge, Pooling};
use std::sync::Arc;

/// Sweeps, batch normalisation and weight gradient of a training step, on the layers of `model`. The batch is synthetic.
///
/// # Errors
/// When the device fails, or its memory does not hold the batch.
pub fn feed_forward_kernels(
    model: &FeedForward,
    device: &Arc<dyn Device>,
    format: Format,
    images: usize,
    effort: Effort,
) -> Result<Vec<Measurement>> {
    let network = model.network();
    let mut backend = CudaFeedForward::new(model, device.clone(), format)?;
    backend.set_state(&model.initialise(0))?;
    let (input, labels) = synthetic(network, images);
    backend.forward(&input, &labels, NormMode::Train)?;
    backend.backward()?;
    let bench = Bench {
        backend: &backend,
        images,
        repeats: effort.repeats,
    };
    let plan = backend.plan()?;
    let mut table = Vec::new();
    let layers = || (1..network.output_index()).zip(plan.layers.iter().flatten());
    for (l, layer) in layers() {
        table.push(bench.sweep_up(l, &layer.sweep)?);
    }
    for (l, layer) in layers() {
        table.push(bench.normalisation(l, &layer.args)?);
    }
    let backward = plan.backward.as_ref().expect("the pass went backward");
    // The highest layer comes first, as in the pass.
    let layers = || (1..network.output_index()).zip(backward.layers.iter().rev());
    for (l, (sweep, _)) in layers() {
        table.push(bench.sweep_down(l, sweep)?);
    }
    for (l, (_, args)) in layers() {
        table.push(bench.normalisation_back(l, args)?);
    }
    let gradient = Buffer::<f32>::new(device, backend.setup.layout.len())?;
    let seconds = time(&**device, effort.repeats, || {
        backward.gradient.run(&**device, 1.0, &gradient)
    })?;
    let edges = || (0..network.edges().len()).map(|e| Geometry::of(network, e));
    let operands: usize = edges()
        .map(|g| padded_units(g.pre) + padded_units(g.full))
        .sum();
    table.push(Measurement {
        kernel: "gradient, all",
        shape: format!("{} edges x {images}", network.edges().len()),
        seconds,
        operations: 2.0 * images as f64 * edges().map(|g| products(&g)).sum::<f64>(),
        bytes: bench.format_bytes() * (images * operands) as f64 + 4.0 * gradient.len() as f64,
    });
    Ok(table)
}

/// Multiply-adds of an edge for one image.
fn products(g: &Geometry) -> f64 {
    (g.full.pixels() * g.taps() * g.pre.channels * g.full.channels) as f64
}

/// A backend after a training step.
struct Bench<'a> {
    backend: &'a CudaFeedForward,
    images: usize,
    repeats: usize,
}

impl Bench<'_> {
    fn format_bytes(&self) -> f64 {
        self.backend.setup.format.bytes() as f64
    }

    fn edges_into(&self, l: usize) -> Vec<Geometry> {
        let network = self.backend.setup.network();
        let edges = network.edges_into(l);
        edges.map(|(e, _)| Geometry::of(network, e)).collect()
    }

    fn line(&self, kernel: &'static str, l: usize, seconds: f64) -> Measurement {
        let layer = &self.backend.setup.network().layers()[l];
        Measurement {
            kernel,
            shape: format!("{} {} x {}", layer.name, layer.shape, self.images),
            seconds,
            operations: 0.0,
            bytes: 0.0,
        }
    }

    fn time_sweep(&self, sweep: &Sweep) -> Result<f64> {
        let device = &*self.backend.setup.device;
        let args = raw_args(self.backend.parameters.operands());
        time(device, self.repeats, || sweep.launch(device, args))
    }

    /// States below and weights are read, convolutions are written in fp32.
    fn sweep_up(&self, l: usize, sweep: &Sweep) -> Result<Measurement> {
        let edges = self.edges_into(l);
        let seconds = self.time_sweep(sweep)?;
        let bytes = edges.iter().map(|g| {
            let operands = self.images * padded_units(g.pre) + weights(g);
            operands as f64 * self.format_bytes()
                + 4.0 * (self.images * padded_units(g.full)) as f64
        });
        Ok(Measurement {
            operations: 2.0 * self.images as f64 * edges.iter().map(products).sum::<f64>(),
            bytes: bytes.sum(),
            ..self.line("sweep up", l, seconds)
        })
    }

    /// Differences above and weights are read, the layer's gradient is written in fp32.
    fn sweep_down(&self, l: usize, sweep: &Sweep) -> Result<Measurement> {
        let network = self.backend.setup.network();
        let shape = network.layers()[l].shape;
        let seconds = self.time_sweep(sweep)?;
        let operands = network.edges_out_of(l).map(|(e, _)| {
            let g = Geometry::of(network, e);
            self.images * padded_units(g.full) + weights(&g)
        });
        let operands: usize = operands.sum();
        Ok(Measurement {
            operations: 2.0 * (self.images * depth_down(network, l) * shape.channels) as f64,
            bytes: operands as f64 * self.format_bytes()
                + 4.0 * (self.images * padded_units(shape)) as f64,
            ..self.line("sweep down", l, seconds)
        })
    }

    /// Convolutions are read twice, because the statistics need all of them; the state is written.
    fn normalisation(&self, l: usize, args: &EqBatchNormArgs) -> Result<Measurement> {
        let setup = &self.backend.setup;
        let device = &*setup.device;
        let seconds = time(device, self.repeats, || {
            kernels::batch_norm_forward(device, setup.format, args)
        })?;
        Ok(Measurement {
            bytes: 2.0 * 4.0 * self.convolved(l)
                + self.format_bytes() * self.units(l)
                + self.argmax(l),
            ..self.line("batch norm", l, seconds)
        })
    }

    /// Convolutions, state and its gradient are read twice; the convolutions' differences are written.
    fn normalisation_back(&self, l: usize, args: &EqBatchNormArgs) -> Result<Measurement> {
        let setup = &self.backend.setup;
        let device = &*setup.device;
        let seconds = time(device, self.repeats, || {
            kernels::batch_norm_backward(device, setup.format, args)
        })?;
        let read =
            4.0 * self.convolved(l) + (4.0 + self.format_bytes()) * self.units(l) + self.argmax(l);
        Ok(Measurement {
            bytes: 2.0 * read + self.format_bytes() * self.convolved(l),
            ..self.line("batch norm, back", l, seconds)
        })
    }

    /// Units of all convolutions into a layer.
    fn convolved(&self, l: usize) -> f64 {
        let units = self
            .edges_into(l)
            .iter()
            .map(|g| padded_units(g.full))
            .sum::<usize>();
        (self.images * units) as f64
    }

    fn units(&self, l: usize) -> f64 {
        let shape = self.backend.setup.network().layers()[l].shape;
        (self.images * padded_units(shape)) as f64
    }

    /// Bytes of the positions of maxima, of the edges that pool them.
    fn argmax(&self, l: usize) -> f64 {
        let network = self.backend.setup.network();
        let pooling = |&(_, edge): &(usize, &Edge)| edge.pooling == Pooling::Max2x2;
        network.edges_into(l).filter(pooling).count() as f64 * self.units(l)
    }
}

/// Elements of an edge's weight.
fn weights(g: &Geometry) -> usize {
    g.taps() * padded(g.full.channels) * padded(g.pre.channels)
}
