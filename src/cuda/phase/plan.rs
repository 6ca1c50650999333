//! The sweeps of an iteration, from the order of its groups.

use super::iteration::{Group, Iteration};
use super::memory::Memory;
use super::pooling;
use super::states::{Kind, Side};
use super::update::{add_layer, update_target};
use crate::cuda::setup::Setup;
use crate::cuda::tables::sweep::{Sweep, SweepBuilder};
use crate::error::Result;
use crate::network::Mode;

/// What the iterations of a phase are planned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IterationKey {
    pub mode: Mode,
    pub kind: Kind,
    /// the output stays as it is
    pub is_clamped: bool,
}

/// The iteration of such a phase.
pub fn iteration(setup: &Setup, memory: &Memory, key: IterationKey) -> Result<Iteration> {
    let network = setup.network();
    let kind = key.kind;
    let order = order(setup, key);
    let group_of = |l: usize| order.iter().position(|group| group.contains(&l));
    // Nothing that is computed together with a layer reads it: it is updated in place, and needs half of the cache.
    let joined = |l: usize, m: usize| {
        (network.edges().iter()).any(|e| (e.pre, e.post) == (l, m) || (e.pre, e.post) == (m, l))
    };
    let in_place: Vec<bool> = (0..network.layers().len())
        .map(|l| {
            let mut group = group_of(l).map_or([].iter(), |g| order[g].iter());
            !group.any(|&m| joined(l, m))
        })
        .collect();
    let old = |l: usize| if in_place[l] { Side::Only } else { Side::Old };
    let pooled: Vec<usize> = pooling::pooled_edges(setup).collect();
    let mut prelude = Vec::new();
    for &e in &pooled {
        let edge = &network.edges()[e];
        // The way down then uses the maxima that the way up found in the iteration before.
        if group_of(edge.pre) < group_of(edge.post) && !kind.is_linear() {
            prelude.push(pooling::up(setup, memory, e, kind, &old)?);
        }
    }
    let mut groups = Vec::new();
    let mut changes = 0;
    for (g, group) in order.iter().enumerate() {
        let side = |l: usize| match group_of(l) {
            Some(of) if of < g && !in_place[l] => Side::New,
            _ => old(l),
        };
        let (mut refresh, mut unpool) = (Vec::new(), Vec::new());
        for &e in &pooled {
            let edge = &network.edges()[e];
            if group.contains(&edge.post) {
                refresh.push(pooling::up(setup, memory, e, kind, &side)?);
            }
            if group.contains(&edge.pre) {
                unpool.push(pooling::down(setup, memory, e, kind, &side));
            }
        }
        let components = kind.components();
        let mut sweep = SweepBuilder::new(&setup.layout, setup.relax, memory.images, components);
        for &l in group {
            let target = update_target(setup, memory, l, kind, old(l));
            add_layer(setup, memory, &mut sweep, l, &target, kind, &side);
        }
        let sweep = sweep.build(&setup.device)?;
        groups.push(Group {
            has_output: group.contains(&network.output_index()),
            refresh,
            unpool,
            first_change: changes,
            sweep,
        });
        changes += groups[g].sweep.changes();
    }
    Iteration::new(setup, prelude, groups, in_place, changes)
}

/// The layers that are updated together, in order.
fn order(setup: &Setup, key: IterationKey) -> Vec<Vec<usize>> {
    let mut order = setup.network().update_groups(key.mode);
    if key.kind == Kind::Adjoint {
        order.reverse();
    }
    if key.is_clamped {
        let output = setup.network().output_index();
        (order.iter_mut()).for_each(|group| group.retain(|&l| l != output));
        order.retain(|group| !group.is_empty());
    }
    order
}

/// The update of one layer alone, once its states exist: for measurements.
pub fn layer_sweep(setup: &Setup, memory: &Memory, l: usize, kind: Kind) -> Result<Sweep> {
    let components = kind.components();
    let mut sweep = SweepBuilder::new(&setup.layout, setup.relax, memory.images, components);
    let target = update_target(setup, memory, l, kind, Side::Only);
    add_layer(setup, memory, &mut sweep, l, &target, kind, &|_| Side::Only);
    sweep.build(&setup.device)
}

/// The updates of one iteration, group by group, once the states exist: for estimates.
pub fn group_sweeps(setup: &Setup, memory: &Memory, mode: Mode, kind: Kind) -> Result<Vec<Sweep>> {
    let key = IterationKey {
        mode,
        kind,
        is_clamped: false,
    };
    let groups = iteration(setup, memory, key)?.groups;
    Ok(groups.into_iter().map(|group| group.sweep).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::machine::device::CountingDevice;
    use crate::cuda::machine::kernels::Format;
    use crate::cuda::tables::layout::Layout;
    use crate::network::ActivationKind;
    use crate::network::presets::{self, PresetOptions};
    use rand::SeedableRng;
    use std::sync::Arc;

    #[test]
    fn layers_are_updated_in_place_unless_a_neighbour_is_updated_with_them() {
        let options = PresetOptions {
            input_channels: 3,
            classes: 10,
            channels: [8; 4],
            activation: ActivationKind::Relu6,
            gains: None,
        };
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        let network = presets::build("hopfieldresnet13", &options, &mut rng).unwrap();
        let device = Arc::new(CountingDevice::default());
        let layout = Layout::new(&network);
        let setup = Setup::new(device, network, layout, Format::F16);
        let memory = Memory::new(&setup, std::ptr::null(), 1).unwrap();
        let in_place = |mode| -> Vec<usize> {
            let key = IterationKey {
                mode,
                kind: Kind::Free,
                is_clamped: false,
            };
            let iteration = iteration(&setup, &memory, key).unwrap();
            let layers = setup.network().free_layers();
            layers
                .filter(|&l| iteration.side(l) == Side::Only)
                .collect()
        };
        assert_eq!(in_place(Mode::Coloured), Vec::from_iter(1..=9));
        // Layers 2, 4, 6 and 8 are joined by skip edges.
        assert_eq!(in_place(Mode::Asynchronous), [1, 3, 5, 7, 9]);
        assert!(in_place(Mode::Synchronous).is_empty());
    }
}
