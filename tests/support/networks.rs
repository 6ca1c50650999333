//! Random networks, states and batches for property tests. Everything follows from a printed seed.

use eqprop_cuda::cpu::{Real, backend};
use eqprop_cuda::network::{
    Activation, ActivationKind, Bias, Convolution, Edge, Initial, Layer, LinearMap, Network,
    ParameterSet, Pooling, Shape, parameters,
};
use eqprop_cuda::phase::{Backend, Mode, Relaxation, Start};
use ndarray::{Array4, ArrayD, IxDyn};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A random graph of few units, which a test of the CPU backend can take apart.
pub fn small_network(rng: &mut ChaCha8Rng) -> Network {
    random_network(rng, &[1, 2, 3, 4, 5], true)
}

/// The same of every kind of edge: rectangular or dilated kernels, average pooling, edges side by side.
pub fn small_varied_network(rng: &mut ChaCha8Rng) -> Network {
    let pooling = [Pooling::None, Pooling::Max2x2, Pooling::Average2x2];
    varied_network(rng, &[1, 2, 3, 4, 5], &pooling)
}

fn pick<T: Copy>(rng: &mut ChaCha8Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// A kernel of up to 3x3 positions; one in three is rectangular or dilated.
fn random_convolution(rng: &mut ChaCha8Rng) -> Convolution {
    let side = rng.random_range(1..4);
    let square = Convolution::square(side, rng.random_range(1..4), rng.random_range(0..side));
    if rng.random_range(0..3) > 0 {
        return square;
    }
    let kernel = [rng.random_range(1..4), rng.random_range(1..4)];
    Convolution {
        kernel,
        stride: [rng.random_range(1..4), rng.random_range(1..4)],
        padding: kernel.map(|k| rng.random_range(0..k)),
        dilation: [rng.random_range(1..3), rng.random_range(1..3)],
    }
}

/// Edges of a random graph under way: lower layer, higher layer, map, pooling.
type Edges = Vec<(usize, usize, LinearMap, Pooling)>;

fn random_image(rng: &mut ChaCha8Rng) -> Shape {
    let channels = pick(rng, &[1, 3]);
    Shape::new(channels, rng.random_range(5..11), rng.random_range(5..11))
}

/// All convolutions of small square kernels that lead from an image of one size to one of another.
fn fitting(from: Shape, to: Shape) -> Vec<Convolution> {
    let all = (1..4usize).flat_map(|kernel| {
        (1..6usize).flat_map(move |stride| {
            (0..kernel).map(move |padding| Convolution::square(kernel, stride, padding))
        })
    });
    all.filter(|c| c.output_size([from.height, from.width]) == Some([to.height, to.width]))
        .collect()
}

/// Whether states stay within bounds, which gives every energy a minimum.
fn is_bounded(kind: &ActivationKind) -> bool {
    let bounds = Activation::new(*kind, None).map(|activation| activation.bounds());
    bounds.is_none_or(|bounds| bounds.is_some_and(|(_, high)| high.is_finite()))
}

/// The network of these convolutional layers under a dense head, with random activations.
fn with_head(mut shapes: Vec<Shape>, mut edges: Edges, rng: &mut ChaCha8Rng) -> Network {
    let output = shapes.len();
    shapes.push(Shape::flat(pick(rng, &[2, 10, 19])));
    edges.push((output - 1, output, LinearMap::Dense, Pooling::None));
    if output > 2 && rng.random_range(0..2) == 0 {
        edges.push((output - 2, output, LinearMap::Dense, Pooling::None));
    }
    let kinds: Vec<_> = ActivationKind::for_hidden().filter(is_bounded).collect();
    let activation = |rng: &mut ChaCha8Rng| {
        let kind = kinds[rng.random_range(0..kinds.len())];
        Activation::new(kind, None)
            .unwrap_or_else(|| Activation::relu_clip(rng.random_range(1.0..3.0)))
    };
    let layers = shapes.iter().enumerate().map(|(l, &shape)| Layer {
        name: format!("layer{l}"),
        shape,
        activation: if l == 0 || l == output {
            Activation::LINEAR
        } else {
            activation(rng)
        },
        bias: Bias::PUBLISHED,
    });
    let layers = layers.collect();
    let edges = edges.into_iter().map(|(pre, post, map, pooling)| Edge {
        pre,
        post,
        map,
        pooling,
        initial: Initial::default(),
        gain: 0.7,
    });
    Network::new("random", layers, edges.collect()).expect("the graph is valid by construction")
}

/// Layers one above the other, each with one edge from the last.
pub fn chain(
    name: &str,
    layers: &[(&str, Shape, Activation)],
    maps: &[LinearMap],
    gain: f64,
) -> Network {
    let layers = layers.iter().map(|&(name, shape, activation)| Layer {
        name: name.into(),
        shape,
        activation,
        bias: Bias::PUBLISHED,
    });
    let edges = maps.iter().enumerate().map(|(pre, &map)| Edge {
        pre,
        post: pre + 1,
        map,
        pooling: Pooling::None,
        initial: Initial::default(),
        gain,
    });
    Network::new(name, layers.collect(), edges.collect()).expect("it fits")
}

/// A random graph: a chain of convolutions (some pooled) and a dense head, with skip edges wherever one fits.
pub fn random_network(rng: &mut ChaCha8Rng, widths: &[usize], pooling: bool) -> Network {
    let mut shapes = vec![random_image(rng)];
    let mut edges = Edges::new();
    for l in 1..=rng.random_range(2..5) {
        let below = shapes[l - 1];
        let (conv, pool, [height, width]) = loop {
            let kernel = rng.random_range(1..4);
            let conv =
                Convolution::square(kernel, rng.random_range(1..4), rng.random_range(0..kernel));
            let pool = match pooling && rng.random_range(0..3) == 0 {
                true => Pooling::Max2x2,
                false => Pooling::None,
            };
            let full = conv.output_size([below.height, below.width]);
            let size = full.map(|[h, w]| pool.output(Shape::new(1, h, w)));
            if let Some(size) = size.filter(|s| s.height >= 1 && s.width >= 1) {
                break (conv, pool, [size.height, size.width]);
            }
        };
        shapes.push(Shape::new(pick(rng, widths), height, width));
        edges.push((l - 1, l, LinearMap::Conv(conv), pool));
        for pre in 0..l - 1 {
            let fits = fitting(shapes[pre], shapes[l]);
            if !fits.is_empty() && rng.random_range(0..2) == 0 {
                let conv = pick(rng, &fits);
                edges.push((pre, l, LinearMap::Conv(conv), Pooling::None));
            }
        }
    }
    with_head(shapes, edges, rng)
}

/// A random graph: a chain of convolutions (pooled in one of these ways, each of which is as likely) and a dense head, with skip edges
/// wherever one fits.
pub fn varied_network(rng: &mut ChaCha8Rng, widths: &[usize], pooling: &[Pooling]) -> Network {
    let mut shapes = vec![random_image(rng)];
    let mut edges = Edges::new();
    for l in 1..=rng.random_range(2..5) {
        let below = shapes[l - 1];
        let (conv, pool) = loop {
            let conv = random_convolution(rng);
            let pool = pick(rng, pooling);
            let full = LinearMap::Conv(conv).output(below, pick(rng, widths));
            let shape = full.map(|full| pool.output(full));
            if let Some(shape) = shape.filter(|s| s.height >= 1 && s.width >= 1) {
                shapes.push(shape);
                break (conv, pool);
            }
        };
        edges.push((l - 1, l, LinearMap::Conv(conv), pool));
        for pre in 0..l - 1 {
            let fits = fitting(shapes[pre], shapes[l]);
            // Sometimes two, side by side.
            for chance in [2, 8] {
                if !fits.is_empty() && rng.random_range(0..chance) == 0 {
                    let conv = pick(rng, &fits);
                    edges.push((pre, l, LinearMap::Conv(conv), Pooling::None));
                }
            }
        }
    }
    with_head(shapes, edges, rng)
}

/// The same network with `relu` and `identity` in every other hidden layer, which may relax to no fixed point.
pub fn unclipped(network: &Network) -> Network {
    let kinds = [ActivationKind::Relu, ActivationKind::Identity];
    let mut layers = network.layers().to_vec();
    for l in (1..network.output_index()).step_by(2) {
        layers[l].activation = Activation::new(kinds[l / 2 % 2], None).unwrap();
    }
    Network::new("unclipped", layers, network.edges().to_vec()).unwrap()
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
        let high = high.min(6.0);
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
pub fn ready_backend<T: Real>(network: &Network, rng: &mut ChaCha8Rng) -> Box<dyn Backend> {
    let mut backend = backend::<T>(network);
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

pub fn cosine(a: &ParameterSet<f64>, b: &ParameterSet<f64>) -> f64 {
    let pairs = a.tensors().iter().zip(b.tensors());
    let product: f64 = pairs.map(|(a, b)| (a * b).sum()).sum();
    product / (a.norm() * b.norm())
}
