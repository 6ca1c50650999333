//! What the tile lists of a network's sweeps would give on a GPU, by a model: no kernel runs here.
//!
//! A tile asks for clocks of its multiprocessor's tensor cores, of its instruction schedulers, of its shared memory, and of its
//! share of L2's bandwidth: weights, and pixels where no tap before has brought them into L1 (`traffic.rs`). The largest is its work; it
//! takes besides a latency in which it asks for nothing. Two tiles are on a multiprocessor at once and slow each other down only where they
//! ask together for more than there is. Blocks start in the order of the list, as multiprocessors become free. A launch takes what its last
//! tile takes, or what device memory takes for the bytes that must move at least once, whichever is longer.

use super::chip::{Chip, INSTRUCTIONS, Instructions};
use super::hopper;
use super::model::{Asked, Demand, Estimate, Launch, makespan};
use super::relaxation::{self, ORDERS, trained, update};
use super::traffic::Traffic;
use super::weight_gradient;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::capabilities::Capabilities;
use crate::cuda::machine::device::{CountingDevice, Device};
use crate::cuda::machine::kernels::Format;
use crate::cuda::phase::plan;
use crate::cuda::phase::states::Kind;
use crate::cuda::tables::sweep::Sweep;
use crate::error::Result;
use crate::network::Network;
use std::sync::Arc;

/// Updates of each layer alone, and whole iterations in each order, of the free state and of pairs; the weight gradients.
///
/// # Errors
/// When the kernels cannot compute such a network.
pub fn estimates(network: &Network, images: usize, chip: &Chip) -> Result<Vec<Estimate>> {
    let device: Arc<dyn Device> =
        Arc::new(CountingDevice::with(chip.multiprocessors.value as usize));
    let backend = trained(network, &device, Format::F16, images)?;
    let (setup, memory) = (backend.setup(), &backend.batch()?.memory);
    let capable = CountingDevice::with(chip.multiprocessors.value as usize);
    let hopper: Arc<dyn Device> = Arc::new(capable.capable(Capabilities {
        hopper: true,
        clusters: true,
    }));
    let on_hopper = trained(network, &hopper, Format::F16, images)?;
    let (hopper_setup, hopper_memory) = (on_hopper.setup(), &on_hopper.batch()?.memory);
    let mut table = Vec::new();
    for kind in [Kind::Free, Kind::Pair] {
        let launch = |sweep: &Sweep, layers: &[usize]| {
            let of_layer = layers.iter().map(|&l| update(setup, l, kind, images));
            let (operations, bytes) = of_layer.fold((0.0, 0.0), |(operations, bytes), line| {
                (operations + line.operations, bytes + line.bytes)
            });
            model(sweep, kind, (operations, bytes), chip)
        };
        let by_hopper = |sweep: &Sweep, layers: &[usize]| {
            let bytes = layers.iter().map(|&l| update(setup, l, kind, images).bytes);
            let (list, ..) = sweep.tiles();
            hopper::update(list, kind, bytes.sum(), chip)
        };
        for l in network.free_layers() {
            let line = update(setup, l, kind, images);
            table.push(Estimate {
                kernel: line.kernel,
                shape: line.shape,
                launches: vec![launch(&plan::layer_sweep(setup, memory, l, kind)?, &[l])],
                hopper: by_hopper(
                    &plan::layer_sweep(hopper_setup, hopper_memory, l, kind)?,
                    &[l],
                ),
            });
        }
        for mode in ORDERS {
            let sweeps = plan::group_sweeps(setup, memory, mode, kind)?;
            let on_hopper = plan::group_sweeps(hopper_setup, hopper_memory, mode, kind)?;
            let groups = network.update_groups(mode);
            let line = relaxation::sweep(setup, mode, kind, images);
            table.push(Estimate {
                kernel: line.kernel,
                shape: line.shape,
                launches: (sweeps.iter().zip(&groups))
                    .map(|(sweep, group)| launch(sweep, group))
                    .collect(),
                hopper: (on_hopper.iter().zip(&groups))
                    .map(|(sweep, group)| by_hopper(sweep, group))
                    .sum(),
            });
        }
    }
    table.extend(weight_gradient::estimates(setup, memory, images, chip));
    Ok(table)
}

/// A launch that does so many operations and moves so many bytes of device memory at least.
pub(super) fn model(
    sweep: &Sweep,
    kind: Kind,
    (operations, memory_bytes): (f64, f64),
    chip: &Chip,
) -> Launch {
    let (list, extents, tables) = sweep.tiles();
    let channels = list.relax.tile().channels;
    let traffic: Vec<Traffic> = (0..extents.len())
        .map(|target| Traffic::of(tables, target, kind.components(), chip))
        .collect();
    let multiprocessors = chip.multiprocessors.value as usize;
    let (mut total, mut l2_bytes, mut asked_bytes, mut clocks) = (Demand::default(), 0.0, 0.0, 0.0);
    // The joining of parts begins when the last of them is done.
    for tiles in [&list.tiles, &list.joins] {
        let work: Vec<f64> = (tiles.iter())
            .map(|tile| {
                let traffic = &traffic[tile.target as usize];
                let (demand, bytes) = demand(tile, traffic, channels, kind, chip);
                for (total, clocks) in total.0.iter_mut().zip(demand.0) {
                    *total += clocks;
                }
                l2_bytes += bytes;
                asked_bytes +=
                    bytes + (traffic.delivered - traffic.fetched) * f64::from(tile.steps);
                demand.largest()
            })
            .collect();
        clocks += makespan(&work, chip.latency.value, multiprocessors);
    }
    let asked = Asked {
        tiles: list.tiles.len(),
        channels,
        launches: if list.joins.is_empty() { 1.0 } else { 2.0 },
        total,
        clocks,
        l2_bytes,
        asked_bytes,
    };
    asked.launch((operations, memory_bytes), chip)
}

/// What a tile asks for, and its bytes from L2.
fn demand(
    tile: &EqTile,
    traffic: &Traffic,
    channels: usize,
    kind: Kind,
    chip: &Chip,
) -> (Demand, f64) {
    let (rows, depth) = (EQ_MMA_ROWS as f64, EQ_MMA_DEPTH as f64);
    let (steps, columns) = (f64::from(tile.steps), channels as f64);
    let pair = kind == Kind::Pair;
    let products = 2.0 * rows * columns * depth * steps / chip.per_clock(chip.mma);
    let counted = instructions(channels, pair);
    let warps = f64::from(EQ_RELAX_THREADS) / 32.0;
    let begun = counted.run * traffic.runs + counted.tap * traffic.taps;
    let instructions = warps * (counted.tile + begun + counted.step * steps) / chip.issue.value;
    // Bytes of 16-bit numbers. Slices are written once, and read by each warp that multiplies their rows or columns.
    let slices = 2.0 * depth * (rows + columns);
    let (across, down) = if channels == EQ_MMA_NARROW as usize {
        (1.0, 4.0)
    } else {
        (2.0, 2.0)
    };
    let read = 2.0 * depth * (rows * across + columns * down);
    // The state arrives, is read and written where it lies, and goes.
    let state = 2.0 * rows * columns;
    // In and out, and four bytes a unit of constants; s0 of a pair is half as many units as its state.
    let update = 2.0 * state + if pair { 1.5 * state } else { 2.0 * state };
    let sums = 4.0 * rows * columns;
    let (shared_state, ends) = match tile.kind {
        EQ_TILE_PART => (0.0, sums),
        EQ_TILE_JOIN => (4.0 * state, update + f64::from(tile.parts) * sums),
        _ => (4.0 * state, update),
    };
    // What L1 delivers is read there, and what it lacks is written there.
    let by_l1 = traffic.delivered + traffic.fetched;
    let shared = ((slices + read + by_l1) * steps + shared_state) / chip.shared.value;
    let bytes = (traffic.fetched + 2.0 * depth * columns) * steps + ends;
    let l2 = bytes / chip.per_clock(chip.l2);
    (Demand([products, instructions, shared, l2]), bytes)
}

fn instructions(channels: usize, pair: bool) -> Instructions {
    let found = (INSTRUCTIONS.iter()).find(|of| of.channels == channels && of.pair == pair);
    *found.expect("every tile of a tensor-core kernel was counted")
}
