//! What a free state says: energies, costs and predictions by example, norms and saturations by layer.

use super::memory::Memory;
use super::output::cost_code;
use crate::cuda::machine::abi::{EqOutcomeArgs, EqStatisticsArgs};
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::cuda::tables::layout::padded;
use crate::error::Result;
use crate::phase::{BatchOutcome, CostFunction, LayerStatistics};

/// Measures the free state, whose pre-activations were computed.
pub fn outcome(setup: &Setup, memory: &Memory, cost: CostFunction) -> Result<BatchOutcome> {
    let network = setup.network();
    let measured = &memory.outcome;
    let args = EqOutcomeArgs {
        layers: measured.layers.ptr(),
        output: memory.free[network.output_index()].sides[0].ptr(),
        labels: memory.labels.ptr(),
        energy: measured.energy.ptr(),
        cost: measured.cost.ptr(),
        prediction: measured.prediction.ptr(),
        in_top5: measured.in_top5.ptr(),
        layer_count: measured.layers.len() as u32,
        classes: network.classes() as u32,
        classes_padded: padded(network.classes()) as u32,
        cost_function: cost_code(cost),
    };
    kernels::outcome(&*setup.device, setup.format, memory.images, &args)?;
    Ok(BatchOutcome {
        energy: measured.energy.read()?,
        cost: measured.cost.read()?,
        prediction: (measured.prediction.read()?.iter())
            .map(|&c| c as usize)
            .collect(),
        in_top5: (measured.in_top5.read()?.iter())
            .map(|&hit| hit != 0)
            .collect(),
    })
}

/// Norm and saturation of the free state, one entry per layer `1..=L`.
pub fn statistics(setup: &Setup, memory: &Memory) -> Result<Vec<LayerStatistics>> {
    let images = memory.images;
    let norm = Buffer::<f64>::new(&setup.device, images)?;
    let saturated = Buffer::<u32>::new(&setup.device, images)?;
    let of_layer = |l: usize| {
        let layer = &setup.network().layers()[l];
        let shape = layer.shape;
        let (low, high) = setup.bounds(l);
        let args = EqStatisticsArgs {
            state: memory.free[l].sides[0].ptr(),
            norm: norm.ptr(),
            saturated: saturated.ptr(),
            units: setup.units(l) as u32,
            channels: padded(shape.channels) as u32,
            live_channels: shape.channels as u32,
            low,
            high,
            padding: 0,
        };
        kernels::statistics(&*setup.device, setup.format, images, &args)?;
        let saturated: u64 = saturated.read()?.into_iter().map(u64::from).sum();
        let share = saturated as f64 / (images * shape.units()) as f64;
        Ok(LayerStatistics {
            norm: norm.read()?.iter().sum::<f64>() / images as f64,
            saturation: layer.activation.bounds().map(|_| share),
        })
    };
    setup.network().free_layers().map(of_layer).collect()
}
