//! What layers know of each other where products are in `bf16` of what has changed (`ops/changes.rs`).
//!
//! The part of a pre-activation that convolutions of free layers make is kept from one iteration to the next, and changed by what they
//! make of the changes. Every layer is updated once in an iteration, and every neighbour reads it once in between: so one change is kept, which each of them
//! adds to what it has. A reader that has missed one, such as the first in a phase, begins anew.

use super::clamped::{Clamped, constant_of};
use super::states::{States, targets};
use super::weights::PackedNetwork;
use crate::cpu::ops::changes::{ChangeFilter, Changes};
use crate::cpu::ops::filter::{Bordered, Filter};
use crate::cpu::ops::real::Real;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

/// How often a reader begins anew with all bits of the weights: with its first product in a phase, and then after so many. What is left
/// at the end is `2^-8` of what changed since, in a relaxation whose changes fall by a half in an iteration or two next to nothing.
const ANEW: usize = 8;

/// A state as its readers know it.
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

    /// Whether a reader that has seen so many changes has missed one.
    fn is_missed_by(&self, seen: usize) -> bool {
        seen + 1 < self.changes
    }

    /// Adds to `onto` what a reader's map makes of it, all of it or what the reader has not seen.
    fn add(
        &self,
        (full, changes): (&Filter<T>, &ChangeFilter<T>),
        (anew, seen): (bool, usize),
        onto: ArrayViewMut2<T>,
        scratch: &mut Bordered<T>,
    ) {
        if anew {
            full.add(self.state.view(), onto, scratch);
        } else if seen != self.changes {
            changes.add(&self.change, onto, scratch);
        }
    }
}

/// What all layers know of each other.
#[derive(Clone)]
pub struct Followed<T> {
    /// by layer
    layers: Vec<Known<T>>,
    /// by edge and way: the changes that its reader has seen
    seen: Vec<[usize; 2]>,
    /// by layer: the part of its pre-activation that follows, if there is another part
    pub parts: Vec<Array2<T>>,
    /// by layer: how often it was computed
    computed: Vec<usize>,
}

/// A convolution that layers read through: its edge, which way, and whose state.
pub struct Read {
    pub edge: usize,
    pub way: Way,
    pub of: usize,
}

#[derive(Debug, Clone, Copy)]
pub enum Way {
    Up,
    Down,
}

impl<T: Real> Followed<T> {
    pub fn new(layers: usize, edges: usize) -> Self {
        Self {
            layers: vec![Known::new(); layers],
            seen: vec![[0; 2]; edges],
            parts: vec![Array2::zeros((0, 0)); layers],
            computed: vec![0; layers],
        }
    }

    pub fn follow(&mut self, states: &States<T>, l: usize) {
        self.layers[l].follow(states.layer(l).view(), states.version(l));
    }

    /// The part of layer `l`'s pre-activation that is kept: its constant and what it reads. `p` is what it was.
    pub fn part(
        &mut self,
        (packed, clamped, states): (&PackedNetwork<T>, &Clamped<T>, &States<T>),
        l: usize,
        reads: &[Read],
        p: &mut Array2<T>,
        scratch: &mut Bordered<T>,
    ) {
        let has_missed = |read: &Read| {
            let seen = self.seen[read.edge][read.way as usize];
            self.layers[read.of].is_missed_by(seen)
        };
        let anew = p.dim() != states.layer(l).dim()
            || self.computed[l].is_multiple_of(ANEW)
            || reads.iter().any(has_missed);
        self.computed[l] += 1;
        if anew {
            constant_of(clamped, states, l, p);
        }
        for read in reads {
            let known = &self.layers[read.of];
            let seen = self.seen[read.edge][read.way as usize];
            let weight = match read.way {
                Way::Up => packed.up(read.edge),
                Way::Down => packed.down(read.edge),
            };
            let maps = weight.for_changes();
            let maps = maps.expect("the edges of free layers have both");
            let is_apart = states.is_apart(read.of);
            let images = 1 + usize::from(states.is_apart(l));
            for p in targets(states.representation(), is_apart, images, p.view_mut()) {
                known.add(maps, (anew, seen), p, scratch);
            }
            self.seen[read.edge][read.way as usize] = known.changes;
        }
    }
}
