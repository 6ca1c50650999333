//! The network itself: layers, edges, and what follows from them.

use super::check;
use super::edge::{Convolution, Edge, LinearMap, Pooling};
use super::error::NetworkError;
use super::layer::Layer;
use std::fmt;

/// A validated network: see the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    name: String,
    layers: Vec<Layer>,
    edges: Vec<Edge>,
}

impl Network {
    /// Checks the graph; see [`NetworkError`].
    ///
    /// # Errors
    /// What is wrong with which layer or edge.
    pub fn new(name: &str, layers: Vec<Layer>, edges: Vec<Edge>) -> Result<Self, NetworkError> {
        check::check(name, &layers, &edges)?;
        Ok(Self {
            name: name.to_string(),
            layers,
            edges,
        })
    }

    /// As messages and checkpoints call it.
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

    /// The same with other initial gains, one per edge.
    ///
    /// # Errors
    /// When there are more or fewer than edges, or one is no gain.
    pub fn with_gains(&self, gains: &[f64]) -> Result<Self, NetworkError> {
        if gains.len() != self.edges.len() {
            return Err(NetworkError(format!(
                "{} weight gains were given, but {} has {} weight tensors",
                gains.len(),
                self.name,
                self.edges.len()
            )));
        }
        let mut edges = self.edges.clone();
        for (edge, &gain) in edges.iter_mut().zip(gains) {
            edge.gain = gain;
        }
        Self::new(&self.name, self.layers.clone(), edges)
    }

    /// All layers, the input first and the output last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// All edges, in the order of the weights.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The layer that images are clamped to.
    pub fn input(&self) -> &Layer {
        &self.layers[0]
    }

    /// The layer that classes are read from.
    pub fn output(&self) -> &Layer {
        &self.layers[self.output_index()]
    }

    /// Its index, the last.
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

    /// The same for edges that begin at the layer.
    pub fn edges_out_of(&self, layer: usize) -> impl Iterator<Item = (usize, &Edge)> {
        self.edges
            .iter()
            .enumerate()
            .filter(move |(_, e)| e.pre == layer)
    }

    /// Shape of edge `e`'s weight tensor: `(C_post, C_pre, k_y, k_x)`, or for a dense edge `(C, H, W, classes)`.
    pub fn weight_shape(&self, e: usize) -> Vec<usize> {
        let edge = &self.edges[e];
        let (pre, post) = (self.layers[edge.pre].shape, self.layers[edge.post].shape);
        edge.map.weight_shape(pre, post.channels)
    }

    /// Units of `pre` that one unit of `post` sees through edge `e`.
    pub fn fan_in(&self, e: usize) -> usize {
        let edge = &self.edges[e];
        let fan_in = edge.map.fan_in(self.layers[edge.pre].shape);
        fan_in.expect("the network was checked")
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
        check::edge_name(&self.layers, &self.edges, e)
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
                    let map = match e.map {
                        LinearMap::Conv(c) => conv_name(&c),
                        LinearMap::Dense => "dense".to_string(),
                    };
                    let pooling = match e.pooling {
                        Pooling::None => "",
                        Pooling::Max2x2 => " + max pool",
                        Pooling::Average2x2 => " + average pool",
                    };
                    format!("{map}{pooling} from {}", self.layers[e.pre].name)
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

/// `conv 3x3/2`, with what is unusual about it.
fn conv_name(c: &Convolution) -> String {
    let [height, width] = c.kernel;
    let stride = match c.stride {
        [y, x] if y == x => y.to_string(),
        [y, x] => format!("{y}x{x}"),
    };
    let dilation = match c.dilation {
        [1, 1] => String::new(),
        [y, x] if y == x => format!(" dilation {y}"),
        [y, x] => format!(" dilation {y}x{x}"),
    };
    format!("conv {height}x{width}/{stride}{dilation}")
}
