//! A look at a relaxation, iteration by iteration: how far each state is from its fixed point.
//!
//! A phase with nudging `beta` relaxes towards a minimum, within the clips, of
//!
//! ```text
//! F(s) = 1/2 |s|^2 + E(s) + beta C(s_L, y)          -dF/ds_l = p_l - s_l
//! ```
//!
//! and ends where `clip(p_l) = s_l` for every layer. Measuring that takes about as long as the iteration itself, so
//! training does not.

use super::backend::CpuBackend;
use super::chunk::{After, Chunk};
use super::clamped::Clamped;
use super::measure::layer_energies;
use super::stack::Stack;
use super::states::{Representation, States};
use super::update::{Change, clip};
use super::weights::PackedNetwork;
use crate::cpu::ops::real::Real;
use crate::error::Result;
use crate::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, PhaseReport, Relaxation,
};
use ndarray::Array2;
use rayon::prelude::*;

/// A batch after one iteration of a phase. Norms are over all examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// `|s_new - s_old| / |s_new|` over all layers
    pub change: f64,
    /// what each of the layers `1..=L` contributes to `F` as above, mean over the examples: `1/2 |s_l|^2 - <s_l, b_l + sum Op(s_pre)>`
    /// over the edges from below, and at the output `beta C`
    pub energies: Vec<f64>,
    /// `|clip(p_l) - s_l| / |s_l|` of the layers `1..=L`; infinite for a layer at zero that is not to stay there
    pub residuals: Vec<f64>,
}

impl Snapshot {
    /// `F`, mean over the examples.
    pub fn energy(&self) -> f64 {
        self.energies.iter().sum()
    }
}

/// One phase: entry `i` is the state after iteration `i + 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseTrace {
    /// nudging strength
    pub beta: f64,
    /// one per iteration
    pub snapshots: Vec<Snapshot>,
}

impl PhaseTrace {
    /// The relative change by iteration.
    pub fn changes(&self) -> Vec<f64> {
        self.snapshots.iter().map(|s| s.change).collect()
    }
}

/// Both nudged phases.
#[derive(Debug, Clone, PartialEq)]
pub struct NudgedTrace {
    /// `-beta` when centred
    pub first: PhaseTrace,
    /// `+beta` when centred
    pub second: PhaseTrace,
    /// relative change of the difference of the two states, which the gradient is taken from, by iteration
    pub difference: Vec<f64>,
}

/// A backend that can be watched.
pub trait TracingBackend: Backend {
    /// [`Backend::free_phase`], watched.
    fn trace_free_phase(&mut self, relaxation: &Relaxation) -> PhaseTrace;

    /// [`Backend::nudged_phases`], watched.
    ///
    /// # Errors
    /// When no batch is loaded.
    fn trace_nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<NudgedTrace>;
}

impl<T: Real> TracingBackend for CpuBackend<T> {
    fn trace_free_phase(&mut self, relaxation: &Relaxation) -> PhaseTrace {
        let mut before = self.each_chunk(|chunk| chunk.free.states.layers().to_vec());
        let mut snapshots = Vec::new();
        self.observed_free_phase(relaxation, |packed, chunks, _| {
            let pairs = chunks.par_iter_mut().zip(&mut before);
            let sums = pairs.map(|(chunk, before)| {
                let state = chunk.free.states.layers().to_vec();
                let sums = Sums::of(packed, &chunk.clamped, &state, before, None);
                *before = state;
                sums
            });
            snapshots.push(snapshot(sums.collect()));
        });
        PhaseTrace {
            beta: 0.0,
            snapshots,
        }
    }

    fn trace_nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<NudgedTrace> {
        if nudging.form == NudgedPhase::Linear || nudging.output == OutputCondition::Clamped {
            return Err(self.unsupported("a trace of anything but nudged pairs"));
        }
        let (low, high) = nudging.strengths();
        let mut before = self.each_chunk(|chunk| Pair::free(chunk.free.states.layers()));
        let (mut first, mut second, mut difference) = (Vec::new(), Vec::new(), Vec::new());
        let observe = |packed: &PackedNetwork<T>, chunks: &mut [Chunk<T>], _: &PhaseReport| {
            let pairs = chunks.par_iter_mut().zip(&mut before);
            let sums = pairs.map(|(chunk, before)| {
                let After::Pair(stack) = &chunk.after else {
                    unreachable!("the nudged phases are running")
                };
                let mut states = stack.states.clone();
                states.make_sum_difference();
                let after = Pair::of(&states);
                let clamped = &chunk.clamped;
                let of = |state, before, beta| {
                    Sums::of(packed, clamped, state, before, Some((beta, cost)))
                };
                let sums = (
                    of(&after.first, &before.first, low),
                    of(&after.second, &before.second, high),
                    change(&after.difference, &before.difference),
                );
                *before = after;
                sums
            });
            let sums: Vec<_> = sums.collect();
            let mut total = Change::default();
            sums.iter().for_each(|(_, _, change)| total += *change);
            difference.push(total.relative());
            let (firsts, seconds) = sums.into_iter().map(|(a, b, _)| (a, b)).unzip();
            first.push(snapshot(firsts));
            second.push(snapshot(seconds));
        };
        self.observed_nudged_phases(nudging, cost, relaxation, observe)?;
        let trace = |beta, snapshots| PhaseTrace { beta, snapshots };
        Ok(NudgedTrace {
            first: trace(low, first),
            second: trace(high, second),
            difference,
        })
    }
}

/// The two nudged states of a chunk and half their difference, layer by layer from 0, whose entry is empty.
struct Pair<T> {
    first: Vec<Array2<T>>,
    second: Vec<Array2<T>>,
    difference: Vec<Array2<T>>,
}

impl<T: Real> Pair<T> {
    /// Before nudging both are the free state.
    fn free(layers: &[Array2<T>]) -> Self {
        Self {
            first: layers.to_vec(),
            second: layers.to_vec(),
            difference: layers.iter().map(|l| Array2::zeros(l.dim())).collect(),
        }
    }

    /// Of a stack in [`Representation::SumDifference`].
    fn of(states: &States<T>) -> Self {
        let layers = 0..states.layers().len();
        let state = |sign: T| {
            layers
                .clone()
                .map(|l| states.nudged_state(l, sign))
                .collect()
        };
        let difference = |l| match states.half_difference(l) {
            Some(half) => half.to_owned(),
            None => Array2::zeros(states.mean(l).dim()),
        };
        Self {
            first: state(-T::one()),
            second: state(T::one()),
            difference: layers.clone().map(difference).collect(),
        }
    }
}

/// What a [`Snapshot`] is made of, summed over the examples of a chunk.
struct Sums {
    examples: usize,
    /// by layer
    energies: Vec<f64>,
    change: Change,
    residuals: Vec<Change>,
}

impl Sums {
    fn of<T: Real>(
        packed: &PackedNetwork<T>,
        clamped: &Clamped<T>,
        state: &[Array2<T>],
        before: &[Array2<T>],
        nudging: Option<(f64, CostFunction)>,
    ) -> Self {
        let network = &packed.network;
        let mut probe = Stack::new(Representation::Free, state.to_vec(), network.edges().len());
        let (energies, residuals) = (network.free_layers())
            .map(|l| {
                let mut energy: f64 = layer_energies(&mut probe, packed, clamped, l).iter().sum();
                let mut p = probe.pre_activation(packed, clamped, l).to_owned();
                if let (true, Some((beta, cost))) = (l == network.output_index(), nudging) {
                    energy += nudge(&mut p, &state[l], &clamped.labels, beta, cost);
                }
                if let Some((low, high)) = network.layers()[l].activation.bounds() {
                    p.mapv_inplace(|p| clip(p, T::of(low), T::of(high)));
                }
                let residual = distance(&p, &state[l]);
                (energy + 0.5 * residual.norm, residual)
            })
            .unzip();
        Self {
            residuals,
            examples: clamped.labels.len(),
            change: change(state, before),
            energies,
        }
    }
}

/// Takes `beta dC/ds_L` from the output's pre-activation; returns `beta C`, summed over the examples.
fn nudge<T: Real>(
    p: &mut Array2<T>,
    output: &Array2<T>,
    labels: &[usize],
    beta: f64,
    cost: CostFunction,
) -> f64 {
    let mut gradient = vec![T::zero(); output.ncols()];
    let examples = p.rows_mut().into_iter().zip(output.rows()).zip(labels);
    let costs = examples.map(|((mut p, output), &label)| {
        let output = output.to_slice().expect("a row is contiguous");
        cost.gradient(output, label, &mut gradient);
        for (p, &g) in p.iter_mut().zip(&gradient) {
            *p -= T::of(beta) * g;
        }
        beta * cost.value(output, label)
    });
    costs.sum()
}

/// `|from - to|^2` and `|to|^2`.
fn distance<T: Real>(from: &Array2<T>, to: &Array2<T>) -> Change {
    let mut sums = Change::default();
    for (&a, &b) in from.iter().zip(to) {
        sums.delta += (a - b).wide().powi(2);
        sums.norm += b.wide().powi(2);
    }
    sums
}

fn change<T: Real>(after: &[Array2<T>], before: &[Array2<T>]) -> Change {
    let mut sums = Change::default();
    for (after, before) in after.iter().zip(before) {
        sums += distance(before, after);
    }
    sums
}

/// Joins the chunks of a batch.
fn snapshot(chunks: Vec<Sums>) -> Snapshot {
    let examples: usize = chunks.iter().map(|c| c.examples).sum();
    let layers = chunks.first().map_or(0, |c| c.residuals.len());
    let mut energies = vec![0.0; layers];
    let mut change = Change::default();
    let mut residuals = vec![Change::default(); layers];
    for chunk in chunks {
        change += chunk.change;
        for (sum, residual) in residuals.iter_mut().zip(chunk.residuals) {
            *sum += residual;
        }
        for (sum, energy) in energies.iter_mut().zip(chunk.energies) {
            *sum += energy / examples as f64;
        }
    }
    Snapshot {
        change: change.relative(),
        energies,
        residuals: residuals.iter().map(Change::relative).collect(),
    }
}
