//! The pre-activation `p_l = b_l + sum Op(s_pre) + sum Op^T(s_post)` of each layer, whatever the states are held as.

use super::clamped::{Clamped, constant_of};
use super::follow::{Followed, Read, Way};
use super::pooling::MaxPooling;
use super::states::{Representation, States, halves, targets};
use super::weights::PackedNetwork;
use crate::cpu::ops::filter::Bordered;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

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
        if packed.follows(l) {
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
            let pooling = self.pooling[e].as_mut().expect("it was just refreshed");
            let unpooled = pooling.unpool(packed, states, e);
            weight.add(unpooled.view(), p, &mut self.scratch);
            return;
        }
        let y = states.layer(post).view();
        let images = 1 + usize::from(states.is_apart(pre));
        for p in targets(states.representation(), states.is_apart(post), images, p) {
            weight.add(y, p, &mut self.scratch);
        }
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
            let pooling = MaxPooling::of(packed, e, x.view(), true, &mut self.scratch);
            self.pooling[e] = Some(pooling);
        } else {
            states.set_apart(edge.pre);
            self.refresh_pooling(packed, states, e, edge.pre);
        }
        let pooling = self.pooling[e].as_mut().expect("it was just refreshed");
        std::mem::take(pooling.unpool(packed, states, e))
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
            0 => MaxPooling::of(packed, e, input, false, &mut self.scratch).argmax,
            pre => {
                self.refresh_pooling(packed, states, e, pre);
                let pooling = self.pooling[e].as_ref();
                pooling.expect("it was just refreshed").argmax.clone()
            }
        }
    }

    /// Says which maxima max-pool edge `e` passes on. [`Representation::Tangent`] only.
    pub fn set_maxima(&mut self, e: usize, maxima: &[u8]) {
        let pooling = self.pooling[e].get_or_insert_with(MaxPooling::new);
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
        let pooling = self.pooling[e].get_or_insert_with(MaxPooling::new);
        pooling.version = version;
        let x = states.layer(pre).view();
        pooling.convolve(packed, e, x, &mut self.scratch);
        let is_pair =
            states.representation() == Representation::SumDifference && states.is_apart(pre);
        if states.representation() != Representation::Tangent {
            pooling.find_maxima(packed, e, is_pair);
        }
    }
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
                        let pooling = MaxPooling::of(packed, e, input, false, &mut scratch);
                        windows.take_add(pooling.full.view(), &pooling.argmax, constant.view_mut());
                    }
                }
            }
        }
        constant
    });
    layers.collect()
}
