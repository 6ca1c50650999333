//! A Hopfield network as a value: layers joined by edges.
//!
//! The energy of an example in state `s` (Elayedam & Srinivasan 2025, section 2; the quadratic term is implicit
//! in the update rule) is
//!
//! ```text
//! E(s) = - sum_l <b_l, s_l>  -  sum_edges <s_post, Op_e(s_pre; W_e)>
//! ```
//!
//! Layer 0 is the clamped input, the last layer is the linear output, and every edge runs from a layer to a
//! later one. Both published networks ([`presets`]) and networks read from TOML ([`description`]) are built into
//! the same [`Network`], and every backend reads only that.

pub mod description;
pub mod order;
pub mod parameters;
pub mod presets;

use std::fmt;

pub use description::NetworkDescription;
pub use order::Mode;
pub use parameters::{Learned, ParameterSet};

/// What can be wrong with a network. Every message names the layer or edge.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// Channels, rows and columns of a layer. The output layer is `(classes, 1, 1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Shape {
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    pub const fn flat(units: usize) -> Self {
        Self::new(units, 1, 1)
    }

    pub const fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Units of the layer per example.
    pub const fn units(&self) -> usize {
        self.channels * self.pixels()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// The function that confines a layer's state: `s = clip(pre-activation)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// clip to `[0, 1]`
    HardSigmoid,
    /// clip to `[0, 6]`
    Relu6,
    /// clip to `[0, c]`, where `c` was drawn for the layer when the network was made
    ReluClip(f64),
    /// no clip: the input (which is clamped) and the output
    Linear,
}

impl Activation {
    /// The interval that a state is confined to; `None` for a linear layer.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        match *self {
            Activation::HardSigmoid => Some((0.0, 1.0)),
            Activation::Relu6 => Some((0.0, 6.0)),
            Activation::ReluClip(max) => Some((0.0, max)),
            Activation::Linear => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub name: String,
    pub shape: Shape,
    pub activation: Activation,
}

/// Kernel side, stride and zero padding of a convolution (the same in both directions of the image).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Convolution {
    /// Side of the convolved image, or `None` where the kernel does not fit.
    pub fn output_side(&self, side: usize) -> Option<usize> {
        (side + 2 * self.padding)
            .checked_sub(self.kernel)
            .map(|room| room / self.stride + 1)
    }
}

/// What an edge computes from its pre layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Conv(Convolution),
    /// a convolution followed by 2x2 max pooling with stride 2
    ConvMaxPool(Convolution),
    /// every unit of `post` sees every unit of `pre`
    Dense,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// index of the lower layer
    pub pre: usize,
    /// index of the higher layer
    pub post: usize,
    pub op: Op,
    /// initial weights are uniform in `+-gain * sqrt(1 / fan_in)`
    pub gain: f64,
}

/// Most units of a layer per example, and most weights of an edge: far beyond what can be trained.
const MOST_UNITS: usize = 1 << 28;
const MOST_WEIGHTS: usize = 1 << 31;

/// A validated network: see the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    name: String,
    layers: Vec<Layer>,
    edges: Vec<Edge>,
}

impl Network {
    /// Checks the graph; see [`NetworkError`].
    pub fn new(name: &str, layers: Vec<Layer>, edges: Vec<Edge>) -> Result<Self, NetworkError> {
        let network = Self {
            name: name.to_string(),
            layers,
            edges,
        };
        network.check()?;
        Ok(network)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same under another name.
    pub fn named(&self, name: &str) -> Self {
        Self {
            name: name.to_string(),
            ..self.clone()
        }
    }

    /// All layers, the input first and the output last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    pub fn input(&self) -> &Layer {
        &self.layers[0]
    }

    pub fn output(&self) -> &Layer {
        &self.layers[self.output_index()]
    }

    pub fn output_index(&self) -> usize {
        self.layers.len() - 1
    }

    /// Number of classes that the output layer distinguishes.
    pub fn classes(&self) -> usize {
        self.output().shape.channels
    }

    /// Indices of the layers that relax: all but the input.
    pub fn free_layers(&self) -> std::ops::Range<usize> {
        1..self.layers.len()
    }

    /// Edges with their index, for readable loops over a layer's neighbours.
    pub fn edges_into(&self, layer: usize) -> impl Iterator<Item = (usize, &Edge)> {
        self.edges
            .iter()
            .enumerate()
            .filter(move |(_, e)| e.post == layer)
    }

    pub fn edges_out_of(&self, layer: usize) -> impl Iterator<Item = (usize, &Edge)> {
        self.edges
            .iter()
            .enumerate()
            .filter(move |(_, e)| e.pre == layer)
    }

    /// Shape of edge `e`'s weight tensor: `(C_post, C_pre, k, k)`, or for a dense edge `(C, H, W, classes)`.
    pub fn weight_shape(&self, e: usize) -> Vec<usize> {
        let edge = &self.edges[e];
        let (pre, post) = (self.layers[edge.pre].shape, self.layers[edge.post].shape);
        match edge.op {
            Op::Conv(c) | Op::ConvMaxPool(c) => {
                vec![post.channels, pre.channels, c.kernel, c.kernel]
            }
            Op::Dense => vec![pre.channels, pre.height, pre.width, post.channels],
        }
    }

    /// Units of `pre` that one unit of `post` sees through edge `e`.
    pub fn fan_in(&self, e: usize) -> usize {
        let edge = &self.edges[e];
        let pre = self.layers[edge.pre].shape;
        match edge.op {
            Op::Conv(c) | Op::ConvMaxPool(c) => pre.channels * c.kernel * c.kernel,
            Op::Dense => pre.units(),
        }
    }

    /// Number of parameter tensors: one bias per free layer, then one weight per edge.
    pub fn parameter_count(&self) -> usize {
        self.free_layers().len() + self.edges.len()
    }

    /// Names of the parameter tensors, biases first: `bias.1` .. `bias.L`, `weight.0` ..
    pub fn parameter_names(&self) -> Vec<String> {
        self.free_layers()
            .map(|l| format!("bias.{l}"))
            .chain((0..self.edges.len()).map(|e| format!("weight.{e}")))
            .collect()
    }

    /// What the parameter tensors are called in pictures: `bias.1: h1a` .., `weight.3: h1b → h2a` ..
    pub fn parameter_titles(&self) -> Vec<String> {
        let layer = |l: usize| self.layers[l].name.as_str();
        let biases = (self.free_layers()).map(|l| format!("bias.{l}: {}", layer(l)));
        let edges = self.edges.iter().enumerate();
        let weights = edges
            .map(|(e, edge)| format!("weight.{e}: {} → {}", layer(edge.pre), layer(edge.post)));
        biases.chain(weights).collect()
    }

    /// How an edge is called in messages.
    pub fn edge_name(&self, e: usize) -> String {
        let edge = &self.edges[e];
        let name = |l: usize| self.layers.get(l).map_or("?", |layer| &layer.name);
        format!("edge {e} ({} -> {})", name(edge.pre), name(edge.post))
    }

    /// Sizes that no machine holds are refused here: later they would be an overflow or a failed allocation.
    fn check_size(&self, l: usize) -> Result<(), NetworkError> {
        let Layer { name, shape, .. } = &self.layers[l];
        let units =
            (shape.channels.checked_mul(shape.height)).and_then(|n| n.checked_mul(shape.width));
        match units {
            Some(0) => Err(NetworkError(format!(
                "layer {name:?} has shape {shape}; every size must be at least 1"
            ))),
            Some(units) if units <= MOST_UNITS => Ok(()),
            _ => Err(NetworkError(format!(
                "layer {name:?} has shape {shape}, which is too large; at most {MOST_UNITS} units are possible"
            ))),
        }
    }

    fn check(&self) -> Result<(), NetworkError> {
        let fail = |message: String| Err(NetworkError(message));
        if self.layers.len() < 2 {
            return fail(format!(
                "network {:?} has {} layer(s); expected an input, an output and what lies between",
                self.name,
                self.layers.len()
            ));
        }
        for (l, layer) in self.layers.iter().enumerate() {
            self.check_size(l)?;
            if self.layers[..l]
                .iter()
                .any(|other| other.name == layer.name)
            {
                return fail(format!("two layers are called {:?}", layer.name));
            }
            let hidden = l > 0 && l < self.output_index();
            match layer.activation {
                Activation::Linear if hidden => {
                    return fail(format!(
                        "layer {:?} is linear; a hidden layer needs a clip, or the relaxation may not converge \
                         (hard-sigmoid, relu6 or reluclip)",
                        layer.name
                    ));
                }
                Activation::ReluClip(max) if !(max.is_finite() && max > 0.0) => {
                    return fail(format!(
                        "layer {:?} is clipped at {max}; expected a positive number",
                        layer.name
                    ));
                }
                Activation::Linear => {}
                _ if !hidden => {
                    return fail(format!(
                        "layer {:?} is the {} and must be linear",
                        layer.name,
                        if l == 0 { "input" } else { "output" }
                    ));
                }
                _ => {}
            }
        }
        let output = self.output();
        if output.shape.pixels() != 1 || output.shape.channels < 2 {
            return fail(format!(
                "output layer {:?} has shape {}; expected (classes, 1, 1) with at least 2 classes",
                output.name, output.shape
            ));
        }
        for e in 0..self.edges.len() {
            self.check_edge(e)?;
        }
        for l in self.free_layers() {
            if self.edges_into(l).next().is_none() {
                return fail(format!(
                    "layer {:?} has no edge from a lower layer: nothing of the input would reach it",
                    self.layers[l].name
                ));
            }
            if l != self.output_index() && self.edges_out_of(l).next().is_none() {
                return fail(format!(
                    "layer {:?} has no edge to a higher layer: it would not reach the output",
                    self.layers[l].name
                ));
            }
        }
        Ok(())
    }

    fn check_edge(&self, e: usize) -> Result<(), NetworkError> {
        let edge = &self.edges[e];
        let name = self.edge_name(e);
        let fail = |message: String| Err(NetworkError(format!("{name}: {message}")));
        if edge.post >= self.layers.len() || edge.pre >= edge.post {
            return fail(format!(
                "joins layer {} to layer {}; expected a lower layer to a higher one among {} layers",
                edge.pre,
                edge.post,
                self.layers.len()
            ));
        }
        if !(edge.gain.is_finite() && edge.gain >= 0.0) {
            return fail(format!(
                "gain is {}; expected a number that is not negative",
                edge.gain
            ));
        }
        let duplicate = |other: &Edge| other.pre == edge.pre && other.post == edge.post;
        if self.edges[..e].iter().any(duplicate) {
            return fail("these two layers are joined already".into());
        }
        let (pre, post) = (self.layers[edge.pre].shape, self.layers[edge.post].shape);
        let kernel = match edge.op {
            Op::Conv(conv) | Op::ConvMaxPool(conv) => conv.kernel.checked_mul(conv.kernel),
            Op::Dense => Some(pre.pixels()),
        };
        let weights = kernel.and_then(|k| k.checked_mul(pre.channels)?.checked_mul(post.channels));
        if weights.is_none_or(|n| n > MOST_WEIGHTS) {
            return fail(format!(
                "its weight tensor is too large; at most {MOST_WEIGHTS} weights are possible"
            ));
        }
        let (conv, pool) = match edge.op {
            Op::Dense if post.pixels() != 1 => {
                return fail(format!(
                    "a dense edge needs a post layer of 1x1 pixels, and this one is {post}"
                ));
            }
            Op::Dense => return Ok(()),
            Op::Conv(conv) => (conv, 1),
            Op::ConvMaxPool(conv) => (conv, 2),
        };
        if conv.kernel == 0 || conv.stride == 0 {
            return fail(format!(
                "kernel {} and stride {} must be at least 1",
                conv.kernel, conv.stride
            ));
        }
        if conv.padding >= conv.kernel {
            return fail(format!(
                "padding {} must be smaller than the kernel, {}",
                conv.padding, conv.kernel
            ));
        }
        let side = |side: usize| conv.output_side(side).map_or(0, |s| s / pool);
        let expected = (side(pre.height), side(pre.width));
        if expected != (post.height, post.width) {
            return fail(format!(
                "{}a {k}x{k} kernel with stride {} and padding {} makes {}x{} pixels of {}x{}, but layer {:?} has {}x{}",
                if pool == 2 { "2x2 pooling after " } else { "" },
                conv.stride,
                conv.padding,
                expected.0,
                expected.1,
                pre.height,
                pre.width,
                self.layers[edge.post].name,
                post.height,
                post.width,
                k = conv.kernel,
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Network {
    /// A table of the network: one line per layer, with the edges that enter it.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}:", self.name)?;
        for (l, layer) in self.layers.iter().enumerate() {
            let edges: Vec<String> = self
                .edges_into(l)
                .map(|(_, e)| {
                    let kind = match e.op {
                        Op::Conv(c) => format!("conv {k}x{k}/{}", c.stride, k = c.kernel),
                        Op::ConvMaxPool(c) => {
                            format!("conv {k}x{k}/{} + max pool", c.stride, k = c.kernel)
                        }
                        Op::Dense => "dense".to_string(),
                    };
                    format!("{kind} from {}", self.layers[e.pre].name)
                })
                .collect();
            let shape = layer.shape.to_string();
            writeln!(
                f,
                "  {l:>2} {:<8} {shape:<12} {}",
                layer.name,
                edges.join(", ")
            )?;
        }
        Ok(())
    }
}
