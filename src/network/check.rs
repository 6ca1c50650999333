//! Whether layers and edges make a network. The time is linear in their number.

use super::activation::ActivationKind;
use super::edge::{Convolution, Edge, LinearMap, Pooling};
use super::error::NetworkError;
use super::layer::Layer;
use crate::shown::shown;
use std::collections::HashSet;

/// Most layers, most units of a layer per example, and most weights of an edge: far beyond what can be trained. Without
/// them, sizes that no machine holds would later be an overflow or a failed allocation.
pub const MOST_LAYERS: usize = 10_000;
const MOST_UNITS: usize = 1 << 28;
const MOST_WEIGHTS: usize = 1 << 31;

fn fail<T>(message: String) -> Result<T, NetworkError> {
    Err(NetworkError(message))
}

/// Layer 0 is the input, the last one the output.
pub fn check(name: &str, layers: &[Layer], edges: &[Edge]) -> Result<(), NetworkError> {
    check_count(name, layers.len())?;
    let mut names = HashSet::new();
    for (l, layer) in layers.iter().enumerate() {
        check_size(layer)?;
        if !names.insert(layer.name.as_str()) {
            return fail(format!("two layers are called {:?}", layer.name));
        }
        check_activation(layer, l == 0, l == layers.len() - 1)?;
    }
    let output = layers.last().expect("there are at least two layers");
    if output.shape.pixels() != 1 || output.shape.channels < 2 {
        return fail(format!(
            "output layer {:?} has shape {}; expected (classes, 1, 1) with at least 2 classes",
            output.name, output.shape
        ));
    }
    for (e, edge) in edges.iter().enumerate() {
        if let Err(NetworkError(message)) = check_edge(layers, edge) {
            return fail(format!("{}: {message}", edge_name(layers, edges, e)));
        }
    }
    let (mut is_post, mut is_pre) = (vec![false; layers.len()], vec![false; layers.len()]);
    for edge in edges {
        is_post[edge.post] = true;
        is_pre[edge.pre] = true;
    }
    for l in 1..layers.len() {
        let name = &layers[l].name;
        if !is_post[l] {
            return fail(format!(
                "layer {name:?} has no edge from a lower layer: nothing of the input would reach it"
            ));
        }
        if l < layers.len() - 1 && !is_pre[l] {
            return fail(format!(
                "layer {name:?} has no edge to a higher layer: it would not reach the output"
            ));
        }
    }
    Ok(())
}

/// Whether a network may have so many layers.
pub fn check_count(name: &str, layers: usize) -> Result<(), NetworkError> {
    match layers {
        0 | 1 => fail(format!(
            "network {name:?} has {layers} layer(s); expected an input, an output and what lies between"
        )),
        2..=MOST_LAYERS => Ok(()),
        _ => fail(format!(
            "network {name:?} has {layers} layers; at most {MOST_LAYERS} are possible"
        )),
    }
}

/// How an edge is called in messages.
pub fn edge_name(layers: &[Layer], edges: &[Edge], e: usize) -> String {
    let edge = &edges[e];
    let name = |l: usize| shown(layers.get(l).map_or("?", |layer| &layer.name));
    format!("edge {e} ({} -> {})", name(edge.pre), name(edge.post))
}

fn check_size(layer: &Layer) -> Result<(), NetworkError> {
    let Layer { name, shape, .. } = layer;
    let units = (shape.channels.checked_mul(shape.height)).and_then(|n| n.checked_mul(shape.width));
    match units {
        Some(0) => fail(format!(
            "layer {name:?} has shape {shape}; every size must be at least 1"
        )),
        Some(units) if units <= MOST_UNITS => Ok(()),
        _ => fail(format!(
            "layer {name:?} has shape {shape}, which is too large; at most {MOST_UNITS} units are possible"
        )),
    }
}

fn check_activation(layer: &Layer, is_input: bool, is_output: bool) -> Result<(), NetworkError> {
    let Layer {
        name, activation, ..
    } = layer;
    let kind = activation.kind();
    let is_hidden = !is_input && !is_output;
    if is_hidden && !kind.definition().is_for_hidden {
        let others: Vec<_> = ActivationKind::for_hidden()
            .map(ActivationKind::name)
            .collect();
        return fail(format!(
            "layer {name:?} is {}, which is for the input and the output; a hidden layer is one of {}",
            kind.name(),
            others.join(", ")
        ));
    }
    if !is_hidden && kind != ActivationKind::Linear {
        let end = if is_input { "input" } else { "output" };
        return fail(format!("layer {name:?} is the {end} and must be linear"));
    }
    match activation.clip() {
        Some(clip) if !(clip.is_finite() && clip > 0.0) => fail(format!(
            "layer {name:?} is clipped at {clip}; expected a positive number"
        )),
        _ => Ok(()),
    }
}

/// The message does not name the edge.
fn check_edge(layers: &[Layer], edge: &Edge) -> Result<(), NetworkError> {
    if edge.post >= layers.len() || edge.pre >= edge.post {
        return fail(format!(
            "joins layer {} to layer {}; expected a lower layer to a higher one among {} layers",
            edge.pre,
            edge.post,
            layers.len()
        ));
    }
    if !(edge.gain.is_finite() && edge.gain >= 0.0) {
        return fail(format!(
            "gain is {}; expected a number that is not negative",
            edge.gain
        ));
    }
    let (pre, post) = (layers[edge.pre].shape, layers[edge.post].shape);
    let fan_in = edge.map.fan_in(pre);
    let weights = fan_in.and_then(|n| n.checked_mul(post.channels));
    if weights.is_none_or(|n| n > MOST_WEIGHTS) {
        return fail(format!(
            "its weight tensor is too large; at most {MOST_WEIGHTS} weights are possible"
        ));
    }
    let conv = match edge.map {
        LinearMap::Conv(conv) => conv,
        LinearMap::Dense if post.pixels() != 1 => {
            return fail(format!(
                "a dense edge needs a post layer of 1x1 pixels, and this one is {post}"
            ));
        }
        LinearMap::Dense if edge.pooling != Pooling::None => {
            return fail("a dense edge leaves nothing to pool".into());
        }
        LinearMap::Dense => return Ok(()),
    };
    check_convolution(conv)?;
    let full = edge.map.output(pre, post.channels);
    let output = full.map(|full| edge.pooling.output(full));
    if output != Some(post) {
        let (height, width) = output.map_or((0, 0), |s| (s.height, s.width));
        let [ky, kx] = conv.kernel;
        let dilation = match conv.dilation {
            [1, 1] => String::new(),
            dilation => format!(" and dilation {}", along_axes(dilation)),
        };
        return fail(format!(
            "{}a {ky}x{kx} kernel with stride {} and padding {}{dilation} makes {height}x{width} pixels of {}x{}, but layer {:?} has {}x{}",
            match edge.pooling {
                Pooling::None => "",
                Pooling::Max2x2 | Pooling::Average2x2 => "2x2 pooling after ",
            },
            along_axes(conv.stride),
            along_axes(conv.padding),
            pre.height,
            pre.width,
            layers[edge.post].name,
            post.height,
            post.width,
        ));
    }
    Ok(())
}

/// One number where both axes have the same.
fn along_axes([y, x]: [usize; 2]) -> String {
    match y == x {
        true => y.to_string(),
        false => format!("{y}x{x}"),
    }
}

fn check_convolution(conv: Convolution) -> Result<(), NetworkError> {
    let Convolution {
        kernel,
        stride,
        padding,
        dilation,
    } = conv;
    for (name, value) in [
        ("kernel", kernel),
        ("stride", stride),
        ("dilation", dilation),
    ] {
        if value.contains(&0) || value.iter().any(|&v| v > MOST_UNITS) {
            return fail(format!(
                "{name} {} must be at least 1 and at most {MOST_UNITS}",
                along_axes(value)
            ));
        }
    }
    for (axis, padding) in padding.into_iter().enumerate() {
        match conv.extent(axis) {
            Some(extent) if extent <= MOST_UNITS && padding < extent => {}
            extent => {
                return fail(format!(
                    "padding {padding} must be smaller than the kernel, {}, which is at most {MOST_UNITS}",
                    extent.map_or("too large".to_string(), |e| e.to_string())
                ));
            }
        }
    }
    Ok(())
}
