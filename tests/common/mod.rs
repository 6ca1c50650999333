//! Random networks, states and batches for property tests. Everything follows from a printed seed.

#![allow(dead_code, reason = "each test file uses its part")]

use eqprop_cuda::cpu::{Precision, backend};
use eqprop_cuda::network::{
    Activation, Convolution, Edge, Layer, LinearMap, Network, Pooling, Shape, parameters,
};
use eqprop_cuda::phase::{Backend, Mode, Relaxation, Start};
use ndarray::{Array4, ArrayD, IxDyn};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A random network of 2 to 4 hidden layers over a small image, with skip edges where shapes allow: kernels 1 to 3,
/// strides 1 and 2, paddings, max pooling, every activation, a dense head.
pub fn random_network(rng: &mut ChaCha8Rng) -> Network {
    let mut layers = vec![Layer {
        name: "input".into(),
        shape: Shape::new(
            rng.random_range(1..=3),
            rng.random_range(5..=9),
            rng.random_range(5..=9),
        ),
        activation: Activation::LINEAR,
    }];
    let mut edges = Vec::new();
    let hidden = rng.random_range(2..=4);
    while layers.len() <= hidden {
        let pre = layers.len() - 1;
        let op = random_op(rng);
        let channels = rng.random_range(1..=5);
        let Some(shape) = output_shape(layers[pre].shape, op, channels) else {
            continue;
        };
        let post = layers.len();
        layers.push(Layer {
            name: format!("h{post}"),
            shape,
            activation: random_activation(rng),
        });
        edges.push(edge(rng, pre, post, op));
        // A skip edge from any earlier layer, if some operator has this shape.
        let skip = rng.random_range(0..post);
        let candidate = (0..20).map(|_| random_op(rng)).find(|&op| {
            skip != pre && output_shape(layers[skip].shape, op, channels) == Some(shape)
        });
        if let Some(op) = candidate {
            edges.push(edge(rng, skip, post, op));
        }
    }
    let output = layers.len();
    layers.push(Layer {
        name: "output".into(),
        shape: Shape::flat(rng.random_range(2..=7)),
        activation: Activation::LINEAR,
    });
    edges.push(edge(
        rng,
        output - 1,
        output,
        (LinearMap::Dense, Pooling::None),
    ));
    Network::new("random", layers, edges).expect("the generator makes valid networks")
}

/// What an edge does.
type Op = (LinearMap, Pooling);

fn random_op(rng: &mut ChaCha8Rng) -> Op {
    let kernel = rng.random_range(1..=3);
    let conv = Convolution {
        kernel,
        stride: rng.random_range(1..=2),
        padding: rng.random_range(0..kernel),
    };
    let pooling = match rng.random_bool(0.3) {
        true => Pooling::Max2x2,
        false => Pooling::None,
    };
    (LinearMap::Conv(conv), pooling)
}

fn output_shape(pre: Shape, (map, pooling): Op, channels: usize) -> Option<Shape> {
    let output = pooling.output(map.output(pre, channels)?);
    (map != LinearMap::Dense && output.pixels() > 0).then_some(output)
}

fn random_activation(rng: &mut ChaCha8Rng) -> Activation {
    match rng.random_range(0..3) {
        0 => Activation::HARD_SIGMOID,
        1 => Activation::RELU6,
        _ => Activation::relu_clip(rng.random_range(1.0..4.0)),
    }
}

fn edge(rng: &mut ChaCha8Rng, pre: usize, post: usize, (map, pooling): Op) -> Edge {
    Edge {
        pre,
        post,
        map,
        pooling,
        gain: rng.random_range(0.6..1.2),
    }
}

/// `n` random images in the range of normalised ones, and labels.
pub fn random_batch(
    network: &Network,
    n: usize,
    rng: &mut ChaCha8Rng,
) -> (Array4<f32>, Vec<usize>) {
    let Shape {
        channels,
        height,
        width,
    } = network.input().shape;
    let shape = (n, channels, height, width);
    let images = Array4::from_shape_simple_fn(shape, || rng.random_range(-1.0..2.0));
    let labels = (0..n).map(|_| rng.random_range(0..network.classes()));
    let labels = labels.collect();
    (images, labels)
}

/// A state inside the clip of every layer.
pub fn random_state(network: &Network, n: usize, rng: &mut ChaCha8Rng) -> Vec<ArrayD<f64>> {
    let layer = |l: usize| {
        let layer = &network.layers()[l];
        let (low, high) = layer.activation.bounds().unwrap_or((-1.0, 1.0));
        let shape = if l == network.output_index() {
            vec![n, layer.shape.channels]
        } else {
            vec![
                n,
                layer.shape.channels,
                layer.shape.height,
                layer.shape.width,
            ]
        };
        ArrayD::from_shape_simple_fn(IxDyn(&shape), || rng.random_range(low..high))
    };
    network.free_layers().map(layer).collect()
}

/// A backend with initial parameters drawn from `rng`.
pub fn ready_backend(
    network: &Network,
    precision: Precision,
    rng: &mut ChaCha8Rng,
) -> Box<dyn Backend> {
    let mut backend = backend(network, precision);
    let parameters = parameters::initialise(network, rng.next_u64());
    backend.set_parameters(&parameters).expect("the shapes fit");
    backend
}

pub fn relaxation(mode: Mode, iterations: usize) -> Relaxation {
    Relaxation {
        mode,
        iterations,
        omega: 1.0,
        tolerance: None,
    }
}

/// Loads a batch whose free layers are at `state`.
pub fn load_at(
    backend: &mut dyn Backend,
    images: &Array4<f32>,
    labels: &[usize],
    state: &[ArrayD<f64>],
) {
    backend
        .set_kept_state(Some(state.to_vec()))
        .expect("the shapes fit");
    backend
        .load_batch(images, labels, Start::Kept)
        .expect("the shapes fit");
}
