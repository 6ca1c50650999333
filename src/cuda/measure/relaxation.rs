//! Timing of the kernels of equilibrium propagation.

use super::timing::{Effort, Measurement, depth_down, synthetic, time};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::{Buffer, Device};
use crate::cuda::machine::kernels::Format;
use crate::cuda::phase::CudaBackend;
use crate::cuda::phase::plan::{self, IterationKey};
use crate::cuda::phase::states::Kind;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::sweep::Sweep;
use crate::error::Result;
use crate::network::{Mode, Network, parameters};
use crate::optim::{MAX_NORM, OptimizerConfig};
use crate::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use std::sync::Arc;

/// Multiply-adds of one image's update of layer `l`.
fn products(network: &Network, l: usize) -> f64 {
    let edges = network.edges_into(l).map(|(e, edge)| {
        let g = Geometry::of(network, e);
        let within = edge.pre != 0 && !g.pooled;
        usize::from(within) * g.full.pixels() * g.taps() * g.pre.channels
    });
    let depth = edges.sum::<usize>() + depth_down(network, l);
    (depth * network.layers()[l].shape.channels) as f64
}

/// The update of layer `l`, not measured yet.
pub(super) fn update(setup: &Setup, l: usize, kind: Kind, images: usize) -> Measurement {
    let network = setup.network();
    let layer = &network.layers()[l];
    let rows = images * kind.components();
    let format_bytes = setup.format.bytes() as f64;
    let units = (rows * setup.units(l)) as f64;
    let neighbours: f64 = (network.edges().iter().enumerate())
        .filter(|(_, e)| (e.post == l && e.pre != 0) || e.pre == l)
        .map(|(e, edge)| {
            let other = if edge.post == l { edge.pre } else { edge.post };
            let weight = setup.layout.length(setup.layout.weight(e));
            ((rows * setup.units(other)) + weight) as f64 * format_bytes
        })
        .sum();
    // Own state in and out, and the constant part in fp32 (of the pair's mean only).
    let own = 2.0 * units * format_bytes + 4.0 * (images * setup.units(l)) as f64;
    Measurement {
        kernel: if kind == Kind::Free {
            "relax, free"
        } else {
            "relax, pair"
        },
        shape: format!("{} {} x {rows}", layer.name, layer.shape),
        seconds: 0.0,
        operations: 2.0 * rows as f64 * products(network, l),
        bytes: neighbours + own,
    }
}

/// Orders in which whole iterations are measured, and estimated.
pub(super) const ORDERS: [Mode; 4] = [
    Mode::Asynchronous,
    Mode::Coloured,
    Mode::Synchronous,
    Mode::Forward,
];

/// The updates of an iteration, not measured yet.
pub(super) fn sweep(setup: &Setup, mode: Mode, kind: Kind, images: usize) -> Measurement {
    let updates = (setup.network().free_layers()).map(|l| update(setup, l, kind, images));
    let (operations, bytes) = updates.fold((0.0, 0.0), |(operations, bytes), line| {
        (operations + line.operations, bytes + line.bytes)
    });
    Measurement {
        kernel: if kind == Kind::Free {
            "sweep, free"
        } else {
            "sweep, pair"
        },
        shape: mode.to_string(),
        seconds: 0.0,
        operations,
        bytes,
    }
}

/// A backend whose layers have all the states of a training step, on a batch that is synthetic.
pub(super) fn trained(
    network: &Network,
    device: &Arc<dyn Device>,
    format: Format,
    images: usize,
) -> Result<CudaBackend> {
    let mut backend = CudaBackend::new(network, device.clone(), format)?;
    backend.set_parameters(&parameters::initialise(network, 0))?;
    backend.set_optimizer(OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 0.0,
    })?;
    let (input, labels) = synthetic(network, images);
    backend.load_batch(&input, &labels, Start::Zero)?;
    // A few iterations, so that states look like states: the power a GPU draws depends on the data.
    let relaxation = Relaxation {
        mode: Mode::Asynchronous,
        iterations: 2,
        omega: 1.0,
        tolerance: None,
    };
    backend.free_phase(&relaxation)?;
    let nudging = Nudging {
        beta: 0.1,
        variant: Variant::Centered,
        form: NudgedPhase::SumDifference,
        output: OutputCondition::Nudged,
    };
    backend.nudged_phases(&nudging, CostFunction::Mse, &relaxation)?;
    backend.estimate_gradient()?;
    Ok(backend)
}

/// A phase under way, without over-relaxation.
fn plain_phase(device: &Arc<dyn Device>) -> Result<Buffer<EqPhase>> {
    let phase = EqPhase {
        omega: 1.0,
        ..EqPhase::default()
    };
    Buffer::from_slice(device, &[phase])
}

/// The update of each layer alone, in the free phase and then of the pair: the layer, its sweep and its arguments.
pub(super) fn each_update(
    backend: &CudaBackend,
    device: &Arc<dyn Device>,
    mut visit: impl FnMut(usize, Kind, &Sweep, EqRelaxArgs) -> Result<()>,
) -> Result<()> {
    let (setup, memory) = (backend.setup(), &backend.batch()?.memory);
    let phase = plain_phase(device)?;
    for kind in [Kind::Free, Kind::Pair] {
        for l in setup.network().free_layers() {
            let sweep = plan::layer_sweep(setup, memory, l, kind)?;
            let changes = Buffer::<EqChange>::new(device, sweep.changes())?;
            let args = EqRelaxArgs {
                weights: backend.weights(),
                phase: phase.ptr(),
                changes: changes.ptr(),
                form: kind.form().code(),
                ..EqRelaxArgs::default()
            };
            visit(l, kind, &sweep, args)?;
        }
    }
    Ok(())
}

/// Every kernel of a training step on the layers of `network`. The batch is synthetic.
///
/// # Errors
/// When the device fails, or its memory does not hold the batch.
pub fn kernels(
    network: &Network,
    device: &Arc<dyn Device>,
    format: Format,
    images: usize,
    effort: Effort,
) -> Result<Vec<Measurement>> {
    let mut backend = trained(network, device, format, images)?;
    let mut table = Vec::new();
    let setup = backend.setup();
    let batch = backend.batch()?;
    let format_bytes = setup.format.bytes() as f64;
    each_update(&backend, device, |l, kind, sweep, args| {
        let seconds = time(&**device, effort.repeats, || sweep.launch(&**device, args))?;
        table.push(Measurement {
            seconds,
            ..update(setup, l, kind, images)
        });
        Ok(())
    })?;
    // Whole iterations, launch after launch; in a phase they are a graph.
    let phase = plain_phase(device)?;
    for kind in [Kind::Free, Kind::Pair] {
        for mode in ORDERS {
            let key = IterationKey {
                mode,
                kind,
                is_clamped: false,
            };
            let iteration = plan::iteration(setup, &batch.memory, key)?;
            let args = EqRelaxArgs {
                weights: backend.weights(),
                phase: phase.ptr(),
                form: kind.form().code(),
                ..EqRelaxArgs::default()
            };
            let seconds = time(&**device, effort.repeats, || {
                iteration.launch(setup, args, None)
            })?;
            table.push(Measurement {
                seconds,
                ..sweep(setup, mode, kind, images)
            });
        }
    }
    let plan = batch.gradient.as_ref().expect("the gradient was estimated");
    let gradient = Buffer::<f32>::new(device, setup.layout.len())?;
    let seconds = time(&**device, effort.repeats, || {
        plan.run(&**device, 1.0, &gradient)
    })?;
    let (mut operations, mut bytes) = (0.0, 4.0 * setup.layout.len() as f64);
    for (e, edge) in network.edges().iter().enumerate() {
        let g = Geometry::of(network, e);
        let products = if edge.pre == 0 { 1.0 } else { 2.0 };
        let per_pixel = g.taps() * g.full.channels * g.pre.channels;
        operations += 2.0 * products * (images * g.full.pixels() * per_pixel) as f64;
        let states =
            g.full.pixels() * padded(g.full.channels) + g.pre.pixels() * padded(g.pre.channels);
        bytes += 2.0 * (images * states) as f64 * format_bytes;
    }
    table.push(Measurement {
        kernel: "gradient, all",
        shape: format!("{} edges x {images}", network.edges().len()),
        seconds,
        operations,
        bytes,
    });
    let parameters = setup.layout.len() as f64;
    let rates = vec![0.0; network.parameter_count()];
    let seconds = time(&**device, effort.repeats, || {
        backend.step(&rates, Some(MAX_NORM))
    })?;
    table.push(Measurement {
        kernel: "optimizer, SGD",
        shape: format!("{parameters:.0} parameters"),
        seconds,
        operations: 0.0,
        // weight and momentum in and out, gradient in, 16-bit copy out
        bytes: parameters * (5.0 * 4.0 + 2.0),
    });
    Ok(table)
}
