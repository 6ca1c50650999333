//! The pre-activation `p_l = b_l + sum Op(s_pre) + sum Op^T(s_post)` of each layer, whatever the states are held as.

use super::clamped::{Clamped, constant_of};
use super::follow::{Followed, Read, Way};
use super::states::{Representation, States, halves, targets};
use super::weights::PackedNetwork;
use crate::cpu::ops::filter::Bordered;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use crate::cpu::ops::weight::Products;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, CowArray, s};

/// `conv(s_pre)` of a max-pool edge and where its windows are largest, kept until `s_pre` changes: the way down from the
/// post layer needs the same positions as the way up.
#[derive(Clone)]
struct MaxPooling<T> {
    /// version of the pre layer that this was computed from
    version: u64,
    full: Array2<T>,
    argmax: Vec<u8>,
}

/// The pre-activations of `n` examples, and what is kept between one and the next.
#[derive(Clone)]
pub struct PreActivations<T> {
    layers: Vec<Array2<T>>,
    pooling: Vec<Option<MaxPooling<T>>>,
    scratch: Bordered<T>,
    /// where products are in `bf16`
    followed: Option<Followed<T>>,
}

impl<T: Real> PreActivations<T> {
    pub fn new(layers: usize, edges: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| Array2::zeros((0, 0))).collect(),
            pooling: (0..edges).map(|_| None).collect(),
            scratch: Bordered::default(),
            followed: None,
        }
    }

    /// Begins anew with whatever is kept from one pre-activation to the next, after states were given another meaning.
    pub fn forget(&mut self) {
        self.followed = None;
    }

    /// What was computed last for layer `l`.
    pub fn layer(&self, l: usize) -> &Array2<T> {
        &self.layers[l]
    }

    pub fn layer_mut(&mut self, l: usize) -> &mut Array2<T> {
        &mut self.layers[l]
    }

    /// `p_l = b_l + sum_{e: post = l} Op_e(s_pre) + sum_{e: pre = l} Op_e^T(s_post)`
    pub fn compute(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        states: &mut States<T>,
        l: usize,
    ) {
        let network = &packed.network;
        let below = network.edges_into(l).map(|(_, e)| e.pre);
        let above = network.edges_out_of(l).map(|(_, e)| e.post);
        if below
            .chain(above)
            .any(|neighbour| states.is_apart(neighbour))
        {
            states.set_apart(l);
        }
        if packed.multiplied == Products::Bf16 {
            self.compute_by_changes(packed, clamped, states, l);
            return;
        }
        let mut p = std::mem::take(&mut self.layers[l]);
        constant_of(clamped, states, l, &mut p);
        self.edges_into_add(packed, states, l, p.view_mut());
        for (e, edge) in network.edges_out_of(l) {
            self.top_down_add(packed, states, e, edge.post, p.view_mut());
        }
        self.layers[l] = p;
    }

    /// [`PreActivations::compute`], once the states that nudging has reached are apart.
    fn compute_by_changes(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        states: &States<T>,
        l: usize,
    ) {
        let network = &packed.network;
        let (layers, edges) = (self.layers.len(), self.pooling.len());
        let followed = self.followed.take();
        let mut followed = followed.unwrap_or_else(|| Followed::new(layers, edges));
        // What the kept part is made of, and what else the pre-activation has.
        let (mut reads, mut others) = (Vec::new(), Vec::new());
        let below = network.edges_into(l).filter(|(_, edge)| edge.pre != 0);
        let below = below.map(|(e, edge)| (e, Way::Up, edge.pre));
        let above = (network.edges_out_of(l)).map(|(e, edge)| (e, Way::Down, edge.post));
        for (edge, way, of) in below.chain(above) {
            let Product::Conv(_) = packed.products[edge] else {
                others.push((edge, way, of));
                continue;
            };
            followed.follow(states, of);
            reads.push(Read { edge, way, of });
        }
        // The output's pre-activation is nudged where it lies.
        let is_whole = others.is_empty() && l != network.output_index();
        let mut p = std::mem::take(match is_whole {
            true => &mut self.layers[l],
            false => &mut followed.parts[l],
        });
        followed.part(
            (packed, clamped, states),
            l,
            &reads,
            &mut p,
            &mut self.scratch,
        );
        if is_whole {
            self.layers[l] = p;
            self.followed = Some(followed);
            return;
        }
        let mut whole = std::mem::take(&mut self.layers[l]);
        whole.clone_from(&p);
        followed.parts[l] = p;
        self.followed = Some(followed);
        for (e, way, of) in others {
            match way {
                Way::Up => self.bottom_up_add(packed, states, e, of, whole.view_mut()),
                Way::Down => self.top_down_add(packed, states, e, of, whole.view_mut()),
            }
        }
        self.layers[l] = whole;
    }

    /// `b_l + sum_{e: post = l} Op_e(s_pre)`: the part of a free state's pre-activation that comes from below.
    pub fn bottom_up(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        states: &States<T>,
        l: usize,
    ) -> Array2<T> {
        let mut p = clamped.constant[l].clone();
        self.edges_into_add(packed, states, l, p.view_mut());
        p
    }

    /// The edges from the free layers below; the input's are in the constant.
    fn edges_into_add(
        &mut self,
        packed: &PackedNetwork<T>,
        states: &States<T>,
        l: usize,
        mut p: ArrayViewMut2<T>,
    ) {
        for (e, edge) in packed.network.edges_into(l) {
            if edge.pre != 0 {
                self.bottom_up_add(packed, states, e, edge.pre, p.view_mut());
            }
        }
    }

    /// `p += Op_e(s_pre)`
    fn bottom_up_add(
        &mut self,
        packed: &PackedNetwork<T>,
        states: &States<T>,
        e: usize,
        pre: usize,
        p: ArrayViewMut2<T>,
    ) {
        let product = packed.products[e];
        if let Product::Pooled(..) = product {
            self.refresh_pooling(packed, states, e, pre);
        }
        let x = states.layer(pre).view();
        let post = packed.network.edges()[e].post;
        let images = 1 + usize::from(states.is_apart(post));
        for mut p in targets(states.representation(), states.is_apart(pre), images, p) {
            match product {
                Product::Conv(_) | Product::Dense => packed.up(e).add(x, p, &mut self.scratch),
                Product::Pooled(_, windows) => {
                    let pooling = self.pooling[e].as_ref().expect("it was just refreshed");
                    let full = pooling.full.view();
                    if states.representation() == Representation::SumDifference
                        && states.is_apart(pre)
                    {
                        let (mean, half) = halves(full);
                        let (minus, plus) = pooling.argmax.split_at(pooling.argmax.len() / 2);
                        let middle = p.nrows() / 2;
                        let (p_mean, p_half) = p.view_mut().split_at(Axis(0), middle);
                        windows.take_pair_add(mean, half, minus, plus, p_mean, p_half);
                    } else {
                        windows.take_add(full, &pooling.argmax, p);
                    }
                }
            }
        }
    }

    /// `p += Op_e^T(s_post)`
    fn top_down_add(
        &mut self,
        packed: &PackedNetwork<T>,
        states: &States<T>,
        e: usize,
        post: usize,
        p: ArrayViewMut2<T>,
    ) {
        let weight = packed.down(e);
        let pre = packed.network.edges()[e].pre;
        if let Product::Pooled(..) = packed.products[e] {
            self.refresh_pooling(packed, states, e, pre);
            let unpooled = self.unpool(packed, states, e);
            weight.add(unpooled.view(), p, &mut self.scratch);
            return;
        }
        let y = states.layer(post).view();
        let images = 1 + usize::from(states.is_apart(pre));
        for p in targets(states.representation(), states.is_apart(post), images, p) {
            weight.add(y, p, &mut self.scratch);
        }
    }

    /// The post state of a max-pool edge at the resolution of its convolution, with as many images as were pooled.
    /// [`Self::refresh_pooling`] first.
    fn unpool(&self, packed: &PackedNetwork<T>, states: &States<T>, e: usize) -> Array2<T> {
        let Product::Pooled(_, windows) = packed.products[e] else {
            unreachable!("only max-pool edges are unpooled")
        };
        let post = packed.network.edges()[e].post;
        let Some(MaxPooling { full, argmax, .. }) = &self.pooling[e] else {
            unreachable!("pooling is refreshed first")
        };
        let mut unpooled = Array2::zeros(full.dim());
        let is_pooled_apart = argmax.len() > states.layer(post).len();
        let layer = if is_pooled_apart {
            CowArray::from(states.doubled(post))
        } else {
            CowArray::from(states.layer(post))
        };
        if states.representation() == Representation::SumDifference
            && (is_pooled_apart || states.is_apart(post))
        {
            let (mean, half) = halves(layer.view());
            let (minus, plus) = argmax.split_at(argmax.len() / 2);
            let middle = full.nrows() / 2;
            let (mean_out, half_out) = unpooled.view_mut().split_at(Axis(0), middle);
            windows.unpool_pair(mean, half, minus, plus, mean_out, half_out);
        } else {
            windows.unpool(layer.view(), argmax, unpooled.view_mut());
        }
        unpooled
    }

    /// Mean and half-difference of a max-pool edge's post states at the resolution of its convolution, whatever nudging
    /// has reached. [`Representation::SumDifference`] only.
    pub fn unpooled_pair(
        &mut self,
        packed: &PackedNetwork<T>,
        states: &mut States<T>,
        e: usize,
        input: ArrayView2<T>,
    ) -> Array2<T> {
        let edge = &packed.network.edges()[e];
        if edge.pre == 0 {
            // Both states see the same image.
            let mut x = Array2::zeros((2 * input.nrows(), input.ncols()));
            x.slice_mut(s![..input.nrows(), ..]).assign(&input);
            self.pooling[e] = Some(pool_of(packed, e, x.view(), true, 0, &mut self.scratch));
        } else {
            states.set_apart(edge.pre);
            self.refresh_pooling(packed, states, e, edge.pre);
        }
        self.unpool(packed, states, e)
    }

    /// Where the windows of max-pool edge `e` are largest at a free state.
    pub fn maxima(
        &mut self,
        packed: &PackedNetwork<T>,
        states: &States<T>,
        e: usize,
        input: ArrayView2<T>,
    ) -> Vec<u8> {
        match packed.network.edges()[e].pre {
            0 => pool_of(packed, e, input, false, 0, &mut self.scratch).argmax,
            pre => {
                self.refresh_pooling(packed, states, e, pre);
                let pooling = self.pooling[e].as_ref();
                pooling.expect("it was just refreshed").argmax.clone()
            }
        }
    }

    /// Says which maxima max-pool edge `e` passes on. [`Representation::Tangent`] only.
    pub fn set_maxima(&mut self, e: usize, maxima: &[u8]) {
        let pooling = self.pooling[e].get_or_insert_with(|| MaxPooling {
            version: 0,
            full: Array2::zeros((0, 0)),
            argmax: Vec::new(),
        });
        pooling.argmax.clear();
        pooling.argmax.extend_from_slice(maxima);
    }

    /// Convolves and finds the maxima again, if the pre layer has changed since. A linearisation keeps the maxima that it was
    /// given.
    fn refresh_pooling(
        &mut self,
        packed: &PackedNetwork<T>,
        states: &States<T>,
        e: usize,
        pre: usize,
    ) {
        let version = states.version(pre);
        if (self.pooling[e].as_ref()).is_some_and(|pooling| pooling.version == version) {
            return;
        }
        let given = self.pooling[e].take().map_or_else(Vec::new, |p| p.argmax);
        let full = convolved(packed, e, states.layer(pre).view(), &mut self.scratch);
        let is_pair =
            states.representation() == Representation::SumDifference && states.is_apart(pre);
        let argmax = match states.representation() {
            Representation::Tangent => given,
            _ => maxima(packed, e, full.view(), is_pair),
        };
        self.pooling[e] = Some(MaxPooling {
            version,
            full,
            argmax,
        });
    }
}

/// Where the windows of a max-pool edge are largest.
fn maxima<T: Real>(
    packed: &PackedNetwork<T>,
    e: usize,
    full: ArrayView2<T>,
    is_pair: bool,
) -> Vec<u8> {
    let Product::Pooled(g, windows) = packed.products[e] else {
        unreachable!("only max-pool edges pool")
    };
    let images = full.nrows() / g.post.pixels();
    let mut argmax = vec![0; images * windows.pooled.units()];
    if is_pair {
        let (mean, half) = halves(full);
        let middle = argmax.len() / 2;
        let (minus, plus) = argmax.split_at_mut(middle);
        windows.argmax_pair(mean, half, minus, plus);
    } else {
        windows.argmax(full, &mut argmax);
    }
    argmax
}

fn pool_of<T: Real>(
    packed: &PackedNetwork<T>,
    e: usize,
    x: ArrayView2<T>,
    pair: bool,
    version: u64,
    scratch: &mut Bordered<T>,
) -> MaxPooling<T> {
    let full = convolved(packed, e, x, scratch);
    MaxPooling {
        version,
        argmax: maxima(packed, e, full.view(), pair),
        full,
    }
}

/// What a max-pool edge pools.
fn convolved<T: Real>(
    packed: &PackedNetwork<T>,
    e: usize,
    x: ArrayView2<T>,
    scratch: &mut Bordered<T>,
) -> Array2<T> {
    let Product::Pooled(g, _) = packed.products[e] else {
        unreachable!("only max-pool edges pool")
    };
    let images = x.nrows() / g.pre.pixels();
    let mut full = Array2::zeros((images * g.post.pixels(), g.post.channels));
    packed.up(e).add(x, full.view_mut(), scratch);
    full
}

/// A max-pool edge's post states at the resolution of its convolution, at the positions `maxima`.
pub fn unpooled<T: Real>(
    packed: &PackedNetwork<T>,
    e: usize,
    post: ArrayView2<T>,
    maxima: &[u8],
) -> Array2<T> {
    let Product::Pooled(g, windows) = packed.products[e] else {
        unreachable!("only max-pool edges are unpooled")
    };
    let images = post.nrows() / windows.pooled.pixels();
    let mut full = Array2::zeros((images * g.post.pixels(), g.post.channels));
    windows.unpool(post, maxima, full.view_mut());
    full
}

/// `b_l + sum Op_e(input)` for every layer: what [`Clamped::constant`] holds.
pub fn constant_part<T: Real>(
    packed: &PackedNetwork<T>,
    input: ArrayView2<T>,
    images: usize,
) -> Vec<Array2<T>> {
    let network = &packed.network;
    let mut scratch = Bordered::default();
    let layers = network.layers().iter().enumerate().map(|(l, layer)| {
        let mut constant = Array2::zeros((0, 0));
        if l > 0 {
            let bias = packed.parameters.bias(l);
            let bias = bias
                .view()
                .into_dimensionality()
                .expect("a bias is a vector");
            let shape = (images * layer.shape.pixels(), layer.shape.channels);
            let bias: ndarray::ArrayView1<T> = bias;
            constant = bias
                .broadcast(shape)
                .expect("one bias per channel")
                .to_owned();
        }
        for (e, edge) in network.edges_into(l) {
            if edge.pre == 0 {
                match packed.products[e] {
                    Product::Conv(_) | Product::Dense => {
                        packed.up(e).add(input, constant.view_mut(), &mut scratch);
                    }
                    Product::Pooled(_, windows) => {
                        let pooling = pool_of(packed, e, input, false, 0, &mut scratch);
                        windows.take_add(pooling.full.view(), &pooling.argmax, constant.view_mut());
                    }
                }
            }
        }
        constant
    });
    layers.collect()
}
