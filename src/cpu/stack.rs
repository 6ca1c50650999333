//! The states of a few examples, and what one update does to them.
//!
//! This file is the relaxation step next to its formula. A layer's state is a matrix with one row per pixel of each
//! image and one column per channel.

use super::real::{Into, Real, vectorised};
use super::wiring::{Product, Wiring};
use crate::phase::CostFunction;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, CowArray, s};

/// What a stack holds of `n` examples.
///
/// Nudging starts at the output and moves by one edge per update. A layer that it has not reached is the same in both
/// nudged phases: such a layer has `n` images, and is computed once. A layer that it has reached is *apart*: it has `2n`
/// images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// the free state; no layer is apart
    Free,
    /// apart: the states of the first nudged phase, then those of the second
    Direct,
    /// apart: the mean `m` of the two nudged states, then half their difference `d`, which is zero before
    Pair,
}

/// What is clamped while a batch relaxes.
pub struct Clamped<T> {
    /// the input layer, `n` images
    pub input: Array2<T>,
    pub labels: Vec<usize>,
    /// for each layer the part of its pre-activation that does not change: `b_l + sum Op(input)`, `n` images
    pub drive: Vec<Array2<T>>,
}

/// Nudging strengths of the two phases, and the cost they nudge towards.
#[derive(Debug, Clone, Copy)]
pub struct Nudge<T> {
    pub first: T,
    pub second: T,
    pub cost: CostFunction,
}

/// Squared norm of what an update changed, and of the state after it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    pub delta: f64,
    pub norm: f64,
}

impl std::ops::AddAssign for Change {
    fn add_assign(&mut self, other: Self) {
        self.delta += other.delta;
        self.norm += other.norm;
    }
}

impl Change {
    /// `|s_new - s_old| / |s_new|`
    pub fn relative(&self) -> f64 {
        if self.delta == 0.0 {
            0.0
        } else {
            (self.delta / self.norm).sqrt()
        }
    }
}

/// `conv(s_pre)` of a max-pool edge and where its windows are largest, kept until `s_pre` changes: the way down from the
/// post layer needs the same positions as the way up.
#[derive(Clone)]
struct Pooling<T> {
    /// version of the pre layer that this was computed from
    version: u64,
    full: Array2<T>,
    argmax: Vec<u8>,
}

/// The states of `n` examples in one of the [`Form`]s.
#[derive(Clone)]
pub struct Stack<T> {
    form: Form,
    /// by layer; entry 0 is empty, the input is [`Clamped`]
    layers: Vec<Array2<T>>,
    apart: Vec<bool>,
    versions: Vec<u64>,
    pre_activations: Vec<Array2<T>>,
    pooling: Vec<Option<Pooling<T>>>,
    columns: Vec<T>,
}

impl<T: Real> Stack<T> {
    /// `layers` has `n` images each.
    pub fn new(form: Form, layers: Vec<Array2<T>>, edges: usize) -> Self {
        Self {
            form,
            versions: vec![1; layers.len()],
            apart: vec![false; layers.len()],
            pre_activations: layers.iter().map(|_| Array2::zeros((0, 0))).collect(),
            layers,
            pooling: (0..edges).map(|_| None).collect(),
            columns: Vec::new(),
        }
    }

    /// Layers of a free state, `n` images each.
    pub fn layers(&self) -> &[Array2<T>] {
        &self.layers
    }

    /// Mean of the two nudged states of layer `l`. [`Form::Pair`] only.
    pub fn mean(&self, l: usize) -> ArrayView2<'_, T> {
        let layer = self.layers[l].view();
        if self.apart[l] {
            halves(layer).0
        } else {
            layer
        }
    }

    /// Half the difference of the two nudged states of layer `l`; `None` where it is zero. [`Form::Pair`] only.
    pub fn half_difference(&self, l: usize) -> Option<ArrayView2<'_, T>> {
        self.apart[l].then(|| halves(self.layers[l].view()).1)
    }

    /// `m + sign d`: one of the two nudged states. [`Form::Pair`] only.
    pub fn nudged_state(&self, l: usize, sign: T) -> Array2<T> {
        let mut state = self.mean(l).to_owned();
        if let Some(half) = self.half_difference(l) {
            state.zip_mut_with(&half, |s, &d| *s += sign * d);
        }
        state
    }

    /// One iteration: every free layer once, group by group.
    pub fn iterate(
        &mut self,
        wiring: &Wiring<T>,
        clamped: &Clamped<T>,
        groups: &[Vec<usize>],
        omega: T,
        nudge: Option<&Nudge<T>>,
    ) -> Change {
        let mut change = Change::default();
        for group in groups {
            for &l in group {
                if l == wiring.network.output_index() && nudge.is_some() {
                    self.set_apart(l);
                }
                self.pre_activate(wiring, clamped, l);
                if l == wiring.network.output_index()
                    && let Some(nudge) = nudge
                {
                    self.nudge_output(l, &clamped.labels, nudge);
                }
            }
            for &l in group {
                change += self.activate(l, omega, wiring.network.layers()[l].activation.bounds());
            }
        }
        change
    }

    /// Gives layer `l` an image per state and example, once nudging has reached it.
    fn set_apart(&mut self, l: usize) {
        if self.form != Form::Free && !self.apart[l] {
            self.layers[l] = self.doubled(l);
            self.apart[l] = true;
            self.versions[l] += 1;
        }
    }

    /// The images of a layer that is not apart, in the form that they have when it is.
    fn doubled(&self, l: usize) -> Array2<T> {
        let layer = &self.layers[l];
        let mut both = Array2::zeros((2 * layer.nrows(), layer.ncols()));
        let (mut first, mut second) = both.view_mut().split_at(Axis(0), layer.nrows());
        first.assign(layer);
        if self.form == Form::Direct {
            second.assign(layer);
        }
        both
    }

    /// `p_l = b_l + sum_{e: post = l} Op_e(s_pre) + sum_{e: pre = l} Op_e^T(s_post)`
    fn pre_activate(&mut self, wiring: &Wiring<T>, clamped: &Clamped<T>, l: usize) {
        let network = &wiring.network;
        let below = network.edges_into(l).map(|(_, e)| e.pre);
        let above = network.edges_out_of(l).map(|(_, e)| e.post);
        if below.chain(above).any(|neighbour| self.apart[neighbour]) {
            self.set_apart(l);
        }
        let mut p = std::mem::take(&mut self.pre_activations[l]);
        if p.dim() != self.layers[l].dim() {
            p = Array2::zeros(self.layers[l].dim());
        }
        // The constant part: b_l and the input's edges. Half-differences have none: it cancels.
        let drive = &clamped.drive[l];
        let (mut first, mut second) = p.view_mut().split_at(Axis(0), drive.nrows());
        first.assign(drive);
        if self.apart[l] {
            match self.form {
                Form::Direct => second.assign(drive),
                _ => second.fill(T::zero()),
            }
        }
        self.edges_into_add(wiring, l, p.view_mut());
        for (e, edge) in network.edges_out_of(l) {
            self.top_down_add(wiring, e, edge.post, p.view_mut());
        }
        self.pre_activations[l] = p;
    }

    /// `p_l` at the present state, without nudging; a row per pixel like the state.
    pub fn pre_activation(
        &mut self,
        wiring: &Wiring<T>,
        clamped: &Clamped<T>,
        l: usize,
    ) -> ArrayView2<'_, T> {
        self.pre_activate(wiring, clamped, l);
        self.pre_activations[l].view()
    }

    /// `b_l + sum_{e: post = l} Op_e(s_pre)`: the part of a free state's pre-activation that comes from below.
    pub fn bottom_up(&mut self, wiring: &Wiring<T>, clamped: &Clamped<T>, l: usize) -> Array2<T> {
        let mut p = clamped.drive[l].clone();
        self.edges_into_add(wiring, l, p.view_mut());
        p
    }

    /// The edges from the free layers below; the input's are in the drive.
    fn edges_into_add(&mut self, wiring: &Wiring<T>, l: usize, mut p: ArrayViewMut2<T>) {
        for (e, edge) in wiring.network.edges_into(l) {
            if edge.pre != 0 {
                self.bottom_up_add(wiring, e, edge.pre, p.view_mut());
            }
        }
    }

    /// The part of `p` that a layer contributes to, and how often. A layer that is not apart has no half-difference, and
    /// is in both states of a direct phase.
    fn targets<'a>(
        form: Form,
        apart: bool,
        states: usize,
        p: ArrayViewMut2<'a, T>,
    ) -> Vec<ArrayViewMut2<'a, T>> {
        if apart || states == 1 {
            return vec![p];
        }
        let middle = p.nrows() / 2;
        let (first, second) = p.split_at(Axis(0), middle);
        match form {
            Form::Direct => vec![first, second],
            _ => vec![first],
        }
    }

    /// `p += Op_e(s_pre)`
    fn bottom_up_add(&mut self, wiring: &Wiring<T>, e: usize, pre: usize, p: ArrayViewMut2<T>) {
        let product = wiring.products[e];
        if let Product::Pooled(..) = product {
            self.refresh_pooling(wiring, e, pre);
        }
        let x = self.layers[pre].view();
        let post = wiring.network.edges()[e].post;
        let states = 1 + usize::from(self.apart[post]);
        for mut p in Self::targets(self.form, self.apart[pre], states, p) {
            match product {
                Product::Conv(g) => g.forward_add(x, wiring.weight(e), p, &mut self.columns),
                Product::Dense => {
                    let x = as_images(x, p.nrows());
                    wiring.weight(e).multiply(p, x, Into::Add);
                }
                Product::Pooled(_, windows) => {
                    let pooling = self.pooling[e].as_ref().expect("it was just refreshed");
                    let full = pooling.full.view();
                    if self.form == Form::Pair && self.apart[pre] {
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
    fn top_down_add(&mut self, wiring: &Wiring<T>, e: usize, post: usize, p: ArrayViewMut2<T>) {
        let w = wiring.transposed_weight(e);
        let product = wiring.products[e];
        let pre = wiring.network.edges()[e].pre;
        if let Product::Pooled(g, _) = product {
            self.refresh_pooling(wiring, e, pre);
            let unpooled = self.unpool(wiring, e);
            g.transpose_add(unpooled.view(), w, p, &mut self.columns);
            return;
        }
        let y = self.layers[post].view();
        let states = 1 + usize::from(self.apart[pre]);
        for p in Self::targets(self.form, self.apart[post], states, p) {
            match product.geometry() {
                Some(g) => g.transpose_add(y, w, p, &mut self.columns),
                None => w.multiply(as_images_mut(p, y.nrows()), y, Into::Add),
            }
        }
    }

    /// The post state of a max-pool edge at the resolution of its convolution, with as many images as were pooled.
    /// [`Self::refresh_pooling`] first.
    fn unpool(&self, wiring: &Wiring<T>, e: usize) -> Array2<T> {
        let Product::Pooled(_, windows) = wiring.products[e] else {
            unreachable!("only max-pool edges are unpooled")
        };
        let post = wiring.network.edges()[e].post;
        let Some(Pooling { full, argmax, .. }) = &self.pooling[e] else {
            unreachable!("pooling is refreshed first")
        };
        let mut unpooled = Array2::zeros(full.dim());
        let is_pooled_apart = argmax.len() > self.layers[post].len();
        let layer = if is_pooled_apart {
            CowArray::from(self.doubled(post))
        } else {
            CowArray::from(&self.layers[post])
        };
        if self.form == Form::Pair && (is_pooled_apart || self.apart[post]) {
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
    /// has reached. [`Form::Pair`] only.
    pub fn unpooled_pair(
        &mut self,
        wiring: &Wiring<T>,
        e: usize,
        input: ArrayView2<T>,
    ) -> Array2<T> {
        let edge = &wiring.network.edges()[e];
        if edge.pre == 0 {
            // Both states see the same image.
            let mut x = Array2::zeros((2 * input.nrows(), input.ncols()));
            x.slice_mut(s![..input.nrows(), ..]).assign(&input);
            self.pooling[e] = Some(pool_of(wiring, e, x.view(), true, 0, &mut self.columns));
        } else {
            self.set_apart(edge.pre);
            self.refresh_pooling(wiring, e, edge.pre);
        }
        self.unpool(wiring, e)
    }

    /// Convolves and finds the maxima again, if the pre layer has changed since.
    fn refresh_pooling(&mut self, wiring: &Wiring<T>, e: usize, pre: usize) {
        let version = self.versions[pre];
        let pooling = &mut self.pooling[e];
        if pooling.as_ref().is_none_or(|p| p.version != version) {
            let x = self.layers[pre].view();
            let pair = self.form == Form::Pair && self.apart[pre];
            *pooling = Some(pool_of(wiring, e, x, pair, version, &mut self.columns));
        }
    }

    /// The output's pre-activation loses `beta dC/ds_L`.
    ///
    /// Of a pair, with `g+` and `g-` the cost's gradients at `m + d` and `m - d`, and `gm`, `gd` their mean and half
    /// difference, the same in terms of mean and half-difference of the two strengths `bm`, `bd`:
    /// `pm -= bm gm + bd gd`, `pd -= bd gm + bm gd`.
    fn nudge_output(&mut self, l: usize, labels: &[usize], nudge: &Nudge<T>) {
        let state = &self.layers[l];
        let p = &mut self.pre_activations[l];
        let n = labels.len();
        let classes = state.ncols();
        let (mut g_plus, mut g_minus) = (vec![T::zero(); classes], vec![T::zero(); classes]);
        let row = |i: usize| state.row(i).to_slice().expect("a row is contiguous");
        match self.form {
            Form::Free => {}
            Form::Direct => {
                for (i, mut p) in p.rows_mut().into_iter().enumerate() {
                    let beta = if i < n { nudge.first } else { nudge.second };
                    nudge.cost.gradient(row(i), labels[i % n], &mut g_plus);
                    for (p, &g) in p.iter_mut().zip(&g_plus) {
                        *p -= beta * g;
                    }
                }
            }
            Form::Pair => {
                let two = T::of(2.0);
                let bm = (nudge.second + nudge.first) / two;
                let bd = (nudge.second - nudge.first) / two;
                for (i, &label) in labels.iter().enumerate() {
                    let (m, d) = (row(i), row(n + i));
                    let (gm, gd): (Vec<T>, Vec<T>) = match nudge.cost {
                        // Linear: no difference has to be formed.
                        CostFunction::Mse => {
                            nudge.cost.gradient(m, label, &mut g_plus);
                            (g_plus.clone(), d.to_vec())
                        }
                        CostFunction::Ce => {
                            let at = |sign: T| -> Vec<T> {
                                m.iter().zip(d).map(|(&m, &d)| m + sign * d).collect()
                            };
                            nudge.cost.gradient(&at(T::one()), label, &mut g_plus);
                            nudge.cost.gradient(&at(-T::one()), label, &mut g_minus);
                            let both = || g_plus.iter().zip(&g_minus);
                            (
                                both().map(|(&a, &b)| (a + b) / two).collect(),
                                both().map(|(&a, &b)| (a - b) / two).collect(),
                            )
                        }
                    };
                    for c in 0..classes {
                        p[(i, c)] -= bm * gm[c] + bd * gd[c];
                        p[(n + i, c)] -= bd * gm[c] + bm * gd[c];
                    }
                }
            }
        }
    }

    /// `s_l <- clip(s_l + omega (p_l - s_l))`
    fn activate(&mut self, l: usize, omega: T, bounds: Option<(f64, f64)>) -> Change {
        self.versions[l] += 1;
        let (low, high) = bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let (low, high) = (T::of(low), T::of(high));
        let state = self.layers[l]
            .as_slice_mut()
            .expect("states are contiguous");
        let p = self.pre_activations[l]
            .as_slice()
            .expect("states are contiguous");
        let pair = self.form == Form::Pair && self.apart[l];
        let change = if pair {
            let (m, d) = state.split_at_mut(state.len() / 2);
            let (pm, pd) = p.split_at(p.len() / 2);
            vectorised(
                #[inline(always)]
                || activate_pair(m, d, pm, pd, omega, low, high),
            )
        } else {
            vectorised(
                #[inline(always)]
                || activate_states(state, p, omega, low, high),
            )
        };
        match self.form {
            Form::Free => change,
            Form::Direct if self.apart[l] => change,
            // The same change in both states.
            Form::Direct => Change {
                delta: 2.0 * change.delta,
                norm: 2.0 * change.norm,
            },
            // The change of a pair is that of its difference.
            Form::Pair if self.apart[l] => change,
            Form::Pair => Change::default(),
        }
    }

    /// Turns the two states of a direct nudged phase into mean and half-difference.
    pub fn into_pair(mut self) -> Self {
        if self.form == Form::Direct {
            let two = T::of(2.0);
            let layers = self.layers.iter_mut().zip(&self.apart);
            for (layer, _) in layers.filter(|(_, apart)| **apart) {
                let middle = layer.nrows() / 2;
                let (mut first, mut second) = layer.view_mut().split_at(Axis(0), middle);
                ndarray::Zip::from(&mut first)
                    .and(&mut second)
                    .for_each(|a, b| {
                        (*a, *b) = ((*b + *a) / two, (*b - *a) / two);
                    });
            }
            self.versions.iter_mut().for_each(|v| *v += 1);
            self.form = Form::Pair;
        }
        self
    }
}

/// Lanes of an accumulator: float sums are only vectorised when they are written as such.
const LANES: usize = 16;
/// Entries that are summed in `T` before the sums are widened to f64.
const BLOCK: usize = LANES * 64;

/// Squared norms while they are summed.
#[derive(Default)]
struct Sums<T> {
    delta: [T; LANES],
    norm: [T; LANES],
    total: Change,
}

impl<T: Real> Sums<T> {
    #[inline(always)]
    fn end_block(&mut self) {
        self.total.delta += self.delta.iter().map(|v| v.wide()).sum::<f64>();
        self.total.norm += self.norm.iter().map(|v| v.wide()).sum::<f64>();
        self.delta = [T::zero(); LANES];
        self.norm = [T::zero(); LANES];
    }
}

#[inline(always)]
pub fn clip<T: Real>(value: T, low: T, high: T) -> T {
    // Written so that NaN stays NaN, and a diverged run is noticed.
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

#[inline(always)]
fn activate_states<T: Real>(state: &mut [T], p: &[T], omega: T, low: T, high: T) -> Change {
    let keep = T::one() - omega;
    let update = |s: &mut T, p: T, delta: &mut T, norm: &mut T| {
        let new = clip(keep * *s + omega * p, low, high);
        *delta += (new - *s) * (new - *s);
        *norm += new * new;
        *s = new;
    };
    let mut sums = Sums::default();
    for (state, p) in state.chunks_mut(BLOCK).zip(p.chunks(BLOCK)) {
        let (state, state_rest) = state.as_chunks_mut::<LANES>();
        let (p, p_rest) = p.as_chunks::<LANES>();
        for (state, p) in state.iter_mut().zip(p) {
            for i in 0..LANES {
                update(&mut state[i], p[i], &mut sums.delta[i], &mut sums.norm[i]);
            }
        }
        for (i, (s, &p)) in state_rest.iter_mut().zip(p_rest).enumerate() {
            update(s, p, &mut sums.delta[i], &mut sums.norm[i]);
        }
        sums.end_block();
    }
    sums.total
}

/// The update of both states `m +- d` at once. Where neither is clipped the pair follows `pm` and `pd` exactly, without
/// forming `(m + d) - (m - d)`, which would round `d` to the precision of `m`. The change is that of `d`, the signal.
#[inline(always)]
fn activate_pair<T: Real>(
    mean: &mut [T],
    half: &mut [T],
    pm: &[T],
    pd: &[T],
    omega: T,
    low: T,
    high: T,
) -> Change {
    let keep = T::one() - omega;
    let one_half = T::of(0.5);
    let update = |m: &mut T, d: &mut T, pm: T, pd: T, delta: &mut T, norm: &mut T| {
        let um = keep * *m + omega * pm;
        let ud = keep * *d + omega * pd;
        let (plus, minus) = (um + ud, um - ud);
        let (a, b) = (clip(plus, low, high), clip(minus, low, high));
        let inside = a == plus && b == minus;
        let new = if inside { ud } else { one_half * (a - b) };
        *m = if inside { um } else { one_half * (a + b) };
        *delta += (new - *d) * (new - *d);
        *norm += new * new;
        *d = new;
    };
    let mut sums = Sums::default();
    let states = mean.chunks_mut(BLOCK).zip(half.chunks_mut(BLOCK));
    for ((mean, half), (pm, pd)) in states.zip(pm.chunks(BLOCK).zip(pd.chunks(BLOCK))) {
        let (mean, mean_rest) = mean.as_chunks_mut::<LANES>();
        let (half, half_rest) = half.as_chunks_mut::<LANES>();
        let (pm, pm_rest) = pm.as_chunks::<LANES>();
        let (pd, pd_rest) = pd.as_chunks::<LANES>();
        for j in 0..mean.len() {
            let (m, d, pm, pd) = (&mut mean[j], &mut half[j], &pm[j], &pd[j]);
            for i in 0..LANES {
                let (delta, norm) = (&mut sums.delta[i], &mut sums.norm[i]);
                update(&mut m[i], &mut d[i], pm[i], pd[i], delta, norm);
            }
        }
        for i in 0..mean_rest.len() {
            let (m, d) = (&mut mean_rest[i], &mut half_rest[i]);
            let (delta, norm) = (&mut sums.delta[i], &mut sums.norm[i]);
            update(m, d, pm_rest[i], pd_rest[i], delta, norm);
        }
        sums.end_block();
    }
    sums.total
}

/// Upper and lower half of a stack's images.
fn halves<T>(stack: ArrayView2<T>) -> (ArrayView2<T>, ArrayView2<T>) {
    stack.split_at(Axis(0), stack.nrows() / 2)
}

/// One row per image instead of one per pixel: how a dense edge sees its pre layer.
/// The units of each image in one row.
pub(super) fn as_images<T>(x: ArrayView2<'_, T>, images: usize) -> ArrayView2<'_, T> {
    let units = x.len() / images;
    x.into_shape_with_order((images, units))
        .expect("states are contiguous")
}

pub(super) fn as_images_mut<T>(x: ArrayViewMut2<'_, T>, images: usize) -> ArrayViewMut2<'_, T> {
    let units = x.len() / images;
    x.into_shape_with_order((images, units))
        .expect("states are contiguous")
}

fn pool_of<T: Real>(
    wiring: &Wiring<T>,
    e: usize,
    x: ArrayView2<T>,
    pair: bool,
    version: u64,
    columns: &mut Vec<T>,
) -> Pooling<T> {
    let Product::Pooled(g, windows) = wiring.products[e] else {
        unreachable!("only max-pool edges pool")
    };
    let images = x.nrows() / g.pre.pixels();
    let mut full = Array2::zeros((images * g.post.pixels(), g.post.channels));
    g.forward_add(x, wiring.weight(e), full.view_mut(), columns);
    let mut argmax = vec![0; images * windows.pooled.units()];
    if pair {
        let (mean, half) = halves(full.view());
        let middle = argmax.len() / 2;
        let (minus, plus) = argmax.split_at_mut(middle);
        windows.argmax_pair(mean, half, minus, plus);
    } else {
        windows.argmax(full.view(), &mut argmax);
    }
    Pooling {
        version,
        full,
        argmax,
    }
}

/// `b_l + sum Op_e(input)` for every layer: what [`Clamped::drive`] holds.
pub fn drive<T: Real>(wiring: &Wiring<T>, input: ArrayView2<T>, images: usize) -> Vec<Array2<T>> {
    let network = &wiring.network;
    let mut columns = Vec::new();
    let layers = network.layers().iter().enumerate().map(|(l, layer)| {
        let mut drive = Array2::zeros((0, 0));
        if l > 0 {
            let bias = wiring.parameters.bias(l);
            let bias = bias
                .view()
                .into_dimensionality()
                .expect("a bias is a vector");
            let shape = (images * layer.shape.pixels(), layer.shape.channels);
            let bias: ndarray::ArrayView1<T> = bias;
            drive = bias
                .broadcast(shape)
                .expect("one bias per channel")
                .to_owned();
        }
        for (e, edge) in network.edges_into(l) {
            if edge.pre == 0 {
                match wiring.products[e] {
                    Product::Conv(g) => {
                        g.forward_add(input, wiring.weight(e), drive.view_mut(), &mut columns);
                    }
                    Product::Dense => {
                        let x = as_images(input, images);
                        wiring.weight(e).multiply(drive.view_mut(), x, Into::Add);
                    }
                    Product::Pooled(_, windows) => {
                        let pooling = pool_of(wiring, e, input, false, 0, &mut columns);
                        windows.take_add(pooling.full.view(), &pooling.argmax, drive.view_mut());
                    }
                }
            }
        }
        drive
    });
    layers.collect()
}
