//! A batch as chunks: cut apart to relax, and joined again.

use super::chunk::{After, Chunk};
use super::clamped::Clamped;
use super::pre_activation::constant_part;
use super::stack::Stack;
use super::states::Representation;
use super::weights::PackedNetwork;
use crate::cpu::ops::images::rows;
use crate::cpu::ops::real::Real;
use crate::network::Shape;
use ndarray::{Array2, Array4, Axis, Slice};
use rayon::prelude::*;

/// Most examples that relax together on one core. Few enough for its cache, many enough that the products of the
/// smallest layers (2x2 pixels) still have some rows.
const CHUNK: usize = 4;
/// The same where every free layer is flat: an image has one row then, and its states are small.
const FLAT_CHUNK: usize = 64;
/// A small batch is cut into at least this many chunks, so that it keeps as many cores busy.
const CHUNKS: usize = 2;

/// Cuts a batch into chunks, whose states are the rows of `kept`, or zero where there are none.
pub fn cut<T: Real>(
    packed: &PackedNetwork<T>,
    images: &Array4<f32>,
    labels: &[usize],
    kept: Option<&[Array2<T>]>,
) -> Vec<Chunk<T>> {
    let network = &packed.network;
    let n = labels.len();
    let is_flat = network.layers()[1..].iter().all(|l| l.shape.pixels() == 1);
    let most = if is_flat { FLAT_CHUNK } else { CHUNK };
    let size = most.min(n.div_ceil(CHUNKS));
    let starts: Vec<usize> = (0..n).step_by(size).collect();
    let chunk = |&first: &usize| {
        let examples = first..n.min(first + size);
        let slice = |pixels: usize| Slice::from(examples.start * pixels..examples.end * pixels);
        let input = rows(images.slice_axis(Axis(0), slice(1)), |v: f32| {
            T::of(f64::from(v))
        });
        let layers = network.layers().iter().enumerate().map(|(l, layer)| {
            let Shape { channels, .. } = layer.shape;
            let pixels = layer.shape.pixels();
            match &kept {
                _ if l == 0 => Array2::zeros((0, 0)),
                Some(kept) => kept[l].slice_axis(Axis(0), slice(pixels)).to_owned(),
                None => Array2::zeros((examples.len() * pixels, channels)),
            }
        });
        Chunk {
            free: Stack::new(
                Representation::Free,
                layers.collect(),
                network.edges().len(),
            ),
            clamped: Clamped {
                constant: constant_part(packed, input.view(), examples.len()),
                labels: labels[examples.clone()].to_vec(),
                input,
            },
            after: After::Nothing,
        }
    };
    starts.par_iter().map(chunk).collect()
}

/// Joins one layer's rows of all chunks; `None` where one of them has none.
pub fn join<T: Real>(
    chunks: &[Chunk<T>],
    layer: impl Fn(&Chunk<T>) -> Option<Array2<T>>,
) -> Option<Array2<T>> {
    let parts: Option<Vec<_>> = chunks.iter().map(layer).collect();
    let parts = parts?;
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    Some(ndarray::concatenate(Axis(0), &views).expect("chunks have the same channels"))
}

/// The state that a batch leaves to the next, layer by layer, if its nudged phases have run.
pub fn left_state<T: Real>(chunks: &[Chunk<T>]) -> Option<Vec<Array2<T>>> {
    let last: Option<Vec<Vec<Array2<T>>>> = chunks.par_iter().map(Chunk::last).collect();
    let last = last.filter(|last| !last.is_empty())?;
    let layers = (0..last[0].len()).map(|l| {
        let views: Vec<_> = last.iter().map(|s| s[l].view()).collect();
        ndarray::concatenate(Axis(0), &views).expect("chunks have the same channels")
    });
    Some(layers.collect())
}
