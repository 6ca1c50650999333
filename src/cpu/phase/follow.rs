//! Pre-activations where products are in `bf16` of what has changed (`ops/changes.rs`).
//!
//! The part of a pre-activation that convolutions of free layers make is kept from one iteration to the next, and changed by what they
//! make of the changes. Every layer is updated once in an iteration, and every neighbour reads it once in between: so one change is kept, which each of them
//! adds to what it has. A reader that has missed one, such as the first in a phase, begins anew.

use super::pre_activation::{Clamped, PreActivations, constant_of};
use super::states::States;
use super::weights::PackedNetwork;
use crate::cpu::ops::changes::{ChangeFilter, Changes};
use crate::cpu::ops::filter::Filter;
use crate::cpu::ops::product::Product;
use crate::cpu::ops::real::Real;
use ndarray::{Array2, ArrayView2};

/// How often a reader begins anew with all bits of the weights: with its first product in a phase, and then after so many. What is left
/// at the end is `2^-9` of what changed since, in a relaxation whose changes fall by a half in an iteration or two next to nothing.
const ANEW: usize = 8;

/// A state, or what max pooling sends down, as its readers know it.
#[derive(Clone)]
struct Known<T> {
    state: Array2<T>,
    /// the last of the changes that add up to it
    change: Changes<T>,
    /// how many there were; one more than there were where readers have to begin anew
    changes: usize,
    /// of the state that it follows
    version: u64,
}

impl<T: Real> Known<T> {
    fn new() -> Self {
        Self {
            state: Array2::zeros((0, 0)),
            change: Changes::default(),
            changes: 0,
            version: 0,
        }
    }

    /// Follows a state, which has changed if its version has. A state with another number of images is not followed, but known anew.
    fn follow(&mut self, state: ArrayView2<T>, version: u64) {
        if self.state.dim() != state.dim() {
            self.state = state.to_owned();
            self.changes += 2;
        } else if self.version != version {
            self.change.take(state, &mut self.state);
            self.changes += 1;
        }
        self.version = version;
    }
}

/// What all layers know of each other.
#[derive(Clone)]
pub struct Followed<T> {
    /// by layer
    layers: Vec<Known<T>>,
    /// by max-pool edge: its post state at the resolution of its convolution
    unpooled: Vec<Known<T>>,
    /// by edge and way: the changes that its reader has seen
    seen: Vec<[usize; 2]>,
    /// by layer: the part of its pre-activation that follows, if there is another part
    parts: Vec<Array2<T>>,
    /// by layer: how often it was computed, and by max-pool edge how often its convolution was
    computed: Vec<usize>,
    convolved: Vec<usize>,
}

/// A convolution that layers read through: its edge, which way, and whose state.
struct Read {
    edge: usize,
    way: Way,
    of: usize,
    is_pooled: bool,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl<T: Real> Followed<T> {
    fn new(layers: usize, edges: usize) -> Self {
        Self {
            layers: vec![Known::new(); layers],
            unpooled: vec![Known::new(); edges],
            seen: vec![[0; 2]; edges],
            parts: vec![Array2::zeros((0, 0)); layers],
            computed: vec![0; layers],
            convolved: vec![0; edges],
        }
    }

    fn follow(&mut self, states: &States<T>, l: usize) {
        self.layers[l].follow(states.layer(l).view(), states.version(l));
    }

    fn known(&self, read: &Read) -> &Known<T> {
        match read.is_pooled {
            true => &self.unpooled[read.edge],
            false => &self.layers[read.of],
        }
    }
}

impl<T: Real> PreActivations<T> {
    /// [`PreActivations::compute`], once the states that nudging has reached are apart.
    pub(super) fn compute_by_changes(
        &mut self,
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        states: &States<T>,
        l: usize,
    ) {
        let network = &packed.network;
        let is_pooled = |e: usize| matches!(packed.products[e], Product::Pooled(..));
        for (e, _) in network.edges_out_of(l).filter(|&(e, _)| is_pooled(e)) {
            self.refresh_pooling(packed, states, e, l);
        }
        let mut followed = self.take_followed();
        // What the kept part is made of, and what else the pre-activation has.
        let (mut reads, mut others) = (Vec::new(), Vec::new());
        let below = network.edges_into(l).filter(|(_, edge)| edge.pre != 0);
        let below = below.map(|(e, edge)| (e, Way::Up, edge.pre));
        let above = (network.edges_out_of(l)).map(|(e, edge)| (e, Way::Down, edge.post));
        for (edge, way, of) in below.chain(above) {
            let is_pooled = is_pooled(edge);
            match (packed.products[edge], way) {
                (Product::Conv(_), _) => followed.follow(states, of),
                (Product::Pooled(..), Way::Down) => {
                    let known = &mut followed.unpooled[edge];
                    let version = known.version + 1;
                    known.follow(self.unpool(packed, states, edge).view(), version);
                }
                (Product::Pooled(..), Way::Up) | (Product::Dense, _) => {
                    others.push((edge, way, of));
                    continue;
                }
            }
            reads.push(Read {
                edge,
                way,
                of,
                is_pooled,
            });
        }
        // The output's pre-activation is nudged where it lies.
        let is_whole = others.is_empty() && l != network.output_index();
        let mut p = std::mem::take(match is_whole {
            true => &mut self.layers[l],
            false => &mut followed.parts[l],
        });
        let has_missed = |read: &Read| {
            followed.seen[read.edge][read.way as usize] + 1 < followed.known(read).changes
        };
        let anew = p.dim() != states.layer(l).dim()
            || followed.computed[l].is_multiple_of(ANEW)
            || reads.iter().any(has_missed);
        followed.computed[l] += 1;
        if anew {
            constant_of(clamped, states, l, &mut p);
        }
        for read in &reads {
            let known = followed.known(read);
            let seen = followed.seen[read.edge][read.way as usize];
            let weight = match read.way {
                Way::Up => packed.up(read.edge),
                Way::Down => packed.down(read.edge),
            };
            let maps = weight.for_changes();
            let (full, changes) = maps.expect("the edges of free layers have both");
            let is_apart = read.is_pooled || states.is_apart(read.of);
            let images = 1 + usize::from(states.is_apart(l));
            for p in Self::targets(states.representation(), is_apart, images, p.view_mut()) {
                if anew {
                    full.add(known.state.view(), p, &mut self.scratch);
                } else if seen != known.changes {
                    changes.add(&known.change, p, &mut self.scratch);
                }
            }
            followed.seen[read.edge][read.way as usize] = known.changes;
        }
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

    /// What a max-pool edge pools, which was `before` when it was computed last.
    pub(super) fn convolved_by_changes(
        &mut self,
        (full, changes): (&Filter<T>, &ChangeFilter<T>),
        states: &States<T>,
        (e, pre): (usize, usize),
        before: Array2<T>,
    ) -> Array2<T> {
        let mut followed = self.take_followed();
        followed.follow(states, pre);
        let known = &followed.layers[pre];
        let seen = &mut followed.seen[e][Way::Up as usize];
        let shape = full.output(known.state.nrows());
        let anew = before.dim() != shape
            || followed.convolved[e].is_multiple_of(ANEW)
            || *seen + 1 < known.changes;
        let mut product = before;
        if anew {
            product = Array2::zeros(shape);
            full.add(known.state.view(), product.view_mut(), &mut self.scratch);
        } else if *seen != known.changes {
            changes.add(&known.change, product.view_mut(), &mut self.scratch);
        }
        *seen = known.changes;
        followed.convolved[e] += 1;
        self.followed = Some(followed);
        product
    }

    fn take_followed(&mut self) -> Followed<T> {
        let (layers, edges) = self.sizes();
        let followed = self.followed.take();
        followed.unwrap_or_else(|| Followed::new(layers, edges))
    }
}
