//! What the weight gradients would take on a GPU, by the model of [`super::estimate`], and with the kernel for Hopper by that of
//! [`super::hopper`].
//!
//! A step of the `mma.sync` kernel (32 pixels of 128 post channels and 128 columns) brings 16 KB from L2: no tap finds in L1 what another
//! has fetched. A slot of Hopper's (64 pixels, 256 columns) brings 48 KB. What splits have summed is written, and read when it is gathered.

use super::chip::Chip;
use super::hopper::{Hopper, slot};
use super::model::{Asked, Demand, Estimate, Launch, makespan};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::kernels::WeightGrad;
use crate::cuda::phase::gradient::ep_parts;
use crate::cuda::phase::memory::Memory;
use crate::cuda::setup::Setup;
use crate::cuda::tables::gradient_boxes::{self, GradientBoxesBuilder};
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::products::{Products, TensorGradient};

/// Instructions of a warp of the `mma.sync` kernel in a step, and outside of its loop, read off the machine code for sm_90a.
const STEP: f64 = 260.0;
const TILE: f64 = 1100.0;
/// Of a consumer's warp outside of its loop, in the kernel for Hopper.
const HOPPER_TILE: f64 = 350.0;

/// The edges of a network one by one, and all of them.
pub(super) fn estimates(
    setup: &Setup,
    memory: &Memory,
    images: usize,
    chip: &Chip,
) -> Vec<Estimate> {
    let network = setup.network();
    let parts = ep_parts(setup, memory);
    let boxes = gradient_boxes::splits(&parts, images);
    let names = network.parameter_names();
    let edges = parts.iter().zip(boxes).zip(&names);
    let edges = edges.filter_map(|((part, boxes), name)| match part {
        TensorGradient::Products(products) => Some((products, boxes, name)),
        _ => None,
    });
    let edges: Vec<_> = edges.collect();
    let of = |chosen: &[(&Products, Option<usize>, &String)], shape: String| {
        let launch = by_mma(chosen.iter().map(|(products, ..)| *products), images, chip);
        // What Hopper's kernel does not take.
        let others = chosen.iter().filter(|(_, boxes, _)| boxes.is_none());
        let others = by_mma(others.map(|(products, ..)| *products), images, chip);
        let others = if others.tiles > 0 {
            others.seconds
        } else {
            0.0
        };
        let taken = chosen
            .iter()
            .filter_map(|&(products, boxes, _)| Some((products, boxes?)));
        Estimate {
            kernel: "gradient",
            shape,
            launches: vec![launch],
            hopper: by_hopper(taken, images, chip).plus(others),
        }
    };
    let mut table: Vec<Estimate> = (edges.iter())
        .map(|edge @ (products, _, name)| {
            let g = &products.geometry;
            let (pre, post) = (g.pre.channels, g.full.channels);
            let shape = format!("{name} {} x {pre} to {}", g.taps(), post);
            of(std::slice::from_ref(edge), shape)
        })
        .collect();
    // As the measurement of the same launches is called.
    let all = format!("{} edges x {images}", edges.len());
    table.push(Estimate {
        kernel: "gradient, all",
        ..of(&edges, all)
    });
    table
}

fn products_of(products: &Products) -> f64 {
    if products.one { 1.0 } else { 2.0 }
}

/// Useful operations, and bytes of states that must come from device memory at least.
fn needed(products: &Products, images: usize) -> (f64, f64) {
    let g = &products.geometry;
    let per_pixel = g.taps() * g.full.channels * g.pre.channels;
    let states =
        g.full.pixels() * padded(g.full.channels) + g.pre.pixels() * padded(g.pre.channels);
    let count = products_of(products);
    (
        2.0 * count * (images * g.full.pixels() * per_pixel) as f64,
        2.0 * count * (images * states) as f64,
    )
}

/// Bytes of sums that so many splits write, and that are read again.
fn sums(products: &Products, splits: usize) -> f64 {
    let g = &products.geometry;
    4.0 * (splits * padded(g.full.channels) * g.taps() * padded(g.pre.channels)) as f64
}

/// One launch and the gathering of what it has summed.
fn by_mma<'a>(edges: impl Iterator<Item = &'a Products>, images: usize, chip: &Chip) -> Launch {
    let (rows, depth) = (f64::from(EQ_GRAD_WIDE), f64::from(EQ_MMA_DEPTH));
    let warps = f64::from(EQ_GRAD_THREADS) / 32.0;
    let (mut work, mut total, mut l2_bytes) = (Vec::new(), Demand::default(), 0.0);
    let (mut operations, mut bytes, mut gathered) = (0.0, 0.0, 0.0);
    for products in edges {
        let mut tiles = Vec::new();
        let splits = products.divide(WeightGrad::MmaWide, images, 0, 0, &mut tiles);
        let needed = needed(products, images);
        operations += needed.0;
        bytes += needed.1;
        gathered += sums(products, splits);
        for tile in &tiles {
            let steps = products_of(products) * (f64::from(tile.pixels) / depth).ceil();
            let fetched = 2.0 * depth * 2.0 * rows * steps;
            let asked = fetched + 4.0 * rows * rows;
            // Slices are written once, and read by the two warps that multiply their rows or columns.
            let demand = Demand([
                2.0 * rows * rows * depth * steps / chip.per_clock(chip.mma),
                warps * (TILE + STEP * steps) / chip.issue.value,
                3.0 * fetched / chip.shared.value,
                asked / chip.per_clock(chip.l2),
            ]);
            for (total, clocks) in total.0.iter_mut().zip(demand.0) {
                *total += clocks;
            }
            l2_bytes += asked;
            work.push(demand.largest());
        }
    }
    let clocks = makespan(
        &work,
        chip.latency.value,
        chip.multiprocessors.value as usize,
    );
    let asked = Asked {
        tiles: work.len(),
        channels: EQ_GRAD_WIDE as usize,
        launches: 2.0,
        total,
        clocks,
        l2_bytes,
        asked_bytes: l2_bytes,
    };
    let launch = asked.launch((operations, bytes), chip);
    Launch {
        seconds: launch.seconds + gathered / chip.memory.value,
        ..launch
    }
}

/// A launch of Hopper's kernel, for edges with the boxes of a split, and the gathering.
fn by_hopper<'a>(
    edges: impl Iterator<Item = (&'a Products, usize)>,
    images: usize,
    chip: &Chip,
) -> Hopper {
    let mut builder = GradientBoxesBuilder::default();
    let (mut bytes, mut gathered) = (0.0, 0.0);
    for (products, boxes) in edges {
        let splits = builder.add(products, images, boxes, 0);
        bytes += needed(products, images).1;
        gathered += sums(products, splits);
    }
    let multiprocessors = chip.multiprocessors.value as usize;
    let (rows, columns) = (
        f64::from(EQ_HOPPER_GRAD_POST),
        f64::from(EQ_HOPPER_GRAD_COLUMNS),
    );
    let depth = f64::from(EQ_HOPPER_BOX);
    let [post, taps] = [rows, columns].map(|side| 2.0 * depth * side);
    let stored = 4.0 * rows * columns / chip.per_clock(chip.l2);
    let instructions = 8.0 * HOPPER_TILE / chip.issue.value;
    let ends = stored.max(instructions) + chip.latency.value;
    let tiles: Vec<[f64; 2]> = (builder.slots_in_turn(multiprocessors).into_iter())
        .map(|(slots, shared)| {
            let together = match shared {
                EQ_SHARED_RIGHT => post + taps / 2.0,
                EQ_SHARED_LEFT => post / 2.0 + taps,
                _ => post + taps,
            };
            slot(2.0 * rows * columns * depth, [post + taps, together], chip)
                .map(|clocks| f64::from(slots) * clocks + ends)
        })
        .collect();
    if tiles.is_empty() {
        return Hopper::default();
    }
    let gathering = gathered / chip.memory.value + chip.launch.value;
    Hopper::of(&tiles, bytes, chip).plus(gathering)
}
