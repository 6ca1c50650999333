//! The phases of a batch, over all of its chunks.

use super::chunk::{After, Chunk};
use super::clamped::Clamped;
use super::gradient::gather;
use super::nudge::Nudge;
use super::relax::phase;
use super::response::{Response, cost_slope};
use super::stack::Stack;
use super::states::Representation;
use super::trajectory::Trajectory;
use super::weights::PackedNetwork;
use crate::cpu::ops::real::{Into, Real};
use crate::network::ParameterSet;
use crate::phase::{CostFunction, NudgedPhase, Nudging, OutputCondition, PhaseReport, Relaxation};
use rayon::prelude::*;

/// The free phase, with a look at the chunks after each iteration.
pub fn free<T: Real>(
    packed: &PackedNetwork<T>,
    chunks: &mut [Chunk<T>],
    relaxation: &Relaxation,
    mut observe: impl FnMut(&PackedNetwork<T>, &mut [Chunk<T>], &PhaseReport) + Send,
) -> PhaseReport {
    let groups = packed.network.update_groups(relaxation.mode);
    let iterate = |chunk: &mut Chunk<T>, omega: f64| {
        let (clamped, omega) = (&chunk.clamped, T::of(omega));
        chunk.free.iterate(packed, clamped, &groups, omega, None)
    };
    let observe = |chunks: &mut [Chunk<T>], report: &PhaseReport| observe(packed, chunks, report);
    let patience = relaxation.patience(&packed.network, 0.0);
    phase(chunks, relaxation, patience, iterate, observe)
}

/// Two phases that are nudged by these strengths, or clamped, with a look at the chunks after each iteration.
pub fn nudged<T: Real>(
    packed: &PackedNetwork<T>,
    chunks: &mut [Chunk<T>],
    nudging: &Nudging,
    (first, second): (f64, f64),
    cost: CostFunction,
    relaxation: &Relaxation,
    mut observe: impl FnMut(&PackedNetwork<T>, &mut [Chunk<T>], &PhaseReport) + Send,
) -> PhaseReport {
    let output = packed.network.output_index();
    let mut groups = packed.network.update_groups(relaxation.mode);
    let nudge = Nudge {
        first: T::of(first),
        second: T::of(second),
        cost,
    };
    let form = match nudging.form {
        NudgedPhase::Direct => Representation::Direct,
        NudgedPhase::SumDifference | NudgedPhase::Linear => Representation::SumDifference,
    };
    let is_clamped = nudging.output == OutputCondition::Clamped;
    if is_clamped {
        groups
            .iter_mut()
            .for_each(|group| group.retain(|&l| l != output));
    }
    let edges = packed.network.edges().len();
    chunks.par_iter_mut().for_each(|chunk| {
        let mut stack = Stack::new(form, chunk.free.states.layers().to_vec(), edges);
        if is_clamped {
            let at = chunk.free.states.layer(output).view();
            let slope = cost_slope(at, &chunk.clamped.labels, cost);
            stack.clamp_output(output, &slope, nudge.first, nudge.second);
        }
        chunk.after = After::Pair(Box::new(stack));
    });
    let nudge = (!is_clamped).then_some(&nudge);
    let iterate = |chunk: &mut Chunk<T>, omega: f64| {
        let After::Pair(stack) = &mut chunk.after else {
            unreachable!("it was just made")
        };
        stack.iterate(packed, &chunk.clamped, &groups, T::of(omega), nudge)
    };
    let observe = |chunks: &mut [Chunk<T>], report: &PhaseReport| observe(packed, chunks, report);
    let patience = relaxation.patience(&packed.network, nudging.stiffness());
    let report = phase(chunks, relaxation, patience, iterate, observe);
    for chunk in chunks {
        if let After::Pair(stack) = &mut chunk.after {
            stack.make_sum_difference();
        }
    }
    report
}

/// The linear response of the free state to nudging by one.
pub fn response<T: Real>(
    packed: &PackedNetwork<T>,
    chunks: &mut [Chunk<T>],
    cost: CostFunction,
    relaxation: &Relaxation,
) -> PhaseReport {
    let groups = packed.network.update_groups(relaxation.mode);
    chunks.par_iter_mut().for_each(|chunk| {
        let response = Response::new(packed, &chunk.clamped, &mut chunk.free, cost);
        chunk.after = After::Response(Box::new(response));
    });
    let iterate = |chunk: &mut Chunk<T>, omega: f64| {
        let After::Response(response) = &mut chunk.after else {
            unreachable!("it was just made")
        };
        response.iterate(packed, &chunk.clamped, &groups, T::of(omega))
    };
    let patience = relaxation.patience(&packed.network, 0.0);
    phase(chunks, relaxation, patience, iterate, |_, _| {})
}

/// Iterations on from the free state, and back through each of them: leaves the gradient of the mean cost at their end.
pub fn truncated<T: Real>(
    packed: &PackedNetwork<T>,
    chunks: &mut [Chunk<T>],
    cost: CostFunction,
    relaxation: &Relaxation,
    gradient: &mut ParameterSet<T>,
) -> PhaseReport {
    let order = packed.network.order(relaxation.mode);
    let start = |Chunk { clamped, free, .. }: &mut Chunk<T>| Trajectory::new(packed, clamped, free);
    let trajectories: Vec<Trajectory<T>> = chunks.par_iter_mut().map(start).collect();
    let clamped = chunks.iter().map(|chunk| &chunk.clamped);
    let mut pairs: Vec<_> = clamped.zip(trajectories).collect();
    let iterate = |(clamped, trajectory): &mut (&Clamped<T>, Trajectory<T>), omega: f64| {
        trajectory.iterate(packed, clamped, &order, T::of(omega))
    };
    let patience = relaxation.patience(&packed.network, 0.0);
    let report = phase(&mut pairs, relaxation, patience, iterate, |_, _| {});

    let examples: usize = pairs.iter().map(|(clamped, _)| clamped.labels.len()).sum();
    for t in (1..=report.iterations).rev() {
        pairs
            .par_iter_mut()
            .for_each(|(clamped, trajectory)| trajectory.back(packed, clamped, &order, cost, t));
        let terms: Vec<_> = pairs
            .par_iter()
            .map(|(clamped, trajectory)| trajectory.terms(packed, clamped, &order, t))
            .collect();
        let into = if t == report.iterations {
            Into::Replace
        } else {
            Into::Add
        };
        gather(packed, &terms, 1.0 / examples as f64, into, gradient);
    }
    if report.iterations == 0 {
        *gradient = packed.parameters.zeros_like();
    }
    let trajectories: Vec<_> = pairs
        .into_iter()
        .map(|(_, trajectory)| trajectory)
        .collect();
    for (chunk, trajectory) in chunks.iter_mut().zip(trajectories) {
        chunk.after = After::End(trajectory.into_end());
    }
    report
}
