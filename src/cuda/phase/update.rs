//! The update of a layer as an entry of a sweep: what its pre-activation is the sum of, and what becomes of it.

use super::memory::Memory;
use super::states::{Kind, Side};
use crate::cuda::machine::abi::EqSource;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::{Geometry, classes, taps_down, taps_up};
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::sweep::{SweepBuilder, Target};

/// Adds all classes of free layer `l` with the taps of all its edges to free layers. `side` says on which side of its state each of them
/// is.
pub fn add_layer(
    setup: &Setup,
    memory: &Memory,
    sweep: &mut SweepBuilder,
    l: usize,
    target: &Target,
    kind: Kind,
    side: &dyn Fn(usize) -> Side,
) {
    let network = setup.network();
    for class in classes(network, l) {
        let mut taps = Vec::new();
        for (e, edge) in network.edges_into(l) {
            let g = Geometry::of(network, e);
            if edge.pre != 0 && !g.pooled {
                let source = layer_source(setup, memory, edge.pre, kind, side(edge.pre));
                taps.extend(taps_up(e, &g, &class).into_iter().map(|t| (t, source)));
            }
        }
        for (e, edge) in network.edges_out_of(l) {
            let g = Geometry::of(network, e);
            let source = if g.pooled {
                unpooled_source(memory, e, &g)
            } else {
                layer_source(setup, memory, edge.post, kind, side(edge.post))
            };
            taps.extend(taps_down(e, &g, &class).into_iter().map(|t| (t, source)));
        }
        sweep.add(target, &class, &taps);
    }
}

/// Layer `l` as it is read.
pub fn layer_source(setup: &Setup, memory: &Memory, l: usize, kind: Kind, side: Side) -> EqSource {
    let state = &memory.states(kind)[l];
    let shape = setup.shape(l);
    EqSource {
        sides: state.read_sides_as(side),
        component_stride: state.units as u64,
        height: shape.height as i32,
        width: shape.width as i32,
        channels: padded(shape.channels) as u32,
        updated: u32::from(side == Side::New),
    }
}

/// What is above max-pool edge `e`, at the resolution of its convolution.
fn unpooled_source(memory: &Memory, e: usize, g: &Geometry) -> EqSource {
    let pool = memory.pool(e);
    EqSource {
        sides: [pool.unpooled.ptr(); 2],
        component_stride: pool.full_units as u64,
        height: g.full.height as i32,
        width: g.full.width as i32,
        channels: padded(g.full.channels) as u32,
        updated: 0,
    }
}

/// Layer `l` with the constant part of its pre-activation, or its bias where that is all.
pub fn constant_target(setup: &Setup, memory: &Memory, l: usize) -> Target {
    let bias = memory.bias(setup, l);
    Target {
        constant: memory.constant_of(l),
        bias: if setup.sees_input(l) {
            std::ptr::null()
        } else {
            bias
        },
        ..Target::new(setup.shape(l))
    }
}

/// Layer `l` as a phase of this kind updates it.
pub fn update_target(setup: &Setup, memory: &Memory, l: usize, kind: Kind, side: Side) -> Target {
    let state = &memory.states(kind)[l];
    let constant = match kind {
        Kind::Pair => Target {
            constant: memory.pre_activation[l].ptr(),
            free_state: memory.free[l].sides[0].ptr(),
            ..Target::new(setup.shape(l))
        },
        Kind::Response | Kind::Adjoint => Target {
            mask: memory.mask(l),
            ..Target::new(setup.shape(l))
        },
        Kind::Free | Kind::Direct | Kind::Onward => constant_target(setup, memory, l),
    };
    let is_forced = !matches!(kind, Kind::Free | Kind::Onward);
    Target {
        addend: memory.addend_of(l),
        sides: state.sides_as(side),
        component_stride: state.units,
        bounds: setup.bounds(l),
        nudge: if l == setup.network().output_index() && is_forced {
            memory.nudge.ptr()
        } else {
            std::ptr::null()
        },
        ..constant
    }
}
