//! The launches that carry values up and down max-pool edges, by kind of phase and by where the states of the layers are.

use super::memory::Memory;
use super::pool::PoolUp;
use super::states::{Kind, Side};
use super::update::layer_source;
use crate::cuda::machine::abi::{EqPoolArgs, EqSource};
use crate::cuda::machine::kernels::Relax;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::{Geometry, taps_up, whole};
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::sweep::{Sweep, SweepBuilder, Target};
use crate::error::Result;

/// Pooled edges between free layers.
pub fn pooled_edges(setup: &Setup) -> impl Iterator<Item = usize> {
    let network = setup.network();
    let is_pooled = |e: usize| network.edges()[e].pre != 0 && Geometry::of(network, e).pooled;
    (0..network.edges().len()).filter(move |&e| is_pooled(e))
}

/// Sizes of an edge with such a geometry.
pub fn pool_shape(memory: &Memory, g: &Geometry) -> EqPoolArgs {
    EqPoolArgs {
        images: memory.images as u32,
        height: g.full.height as u32,
        width: g.full.width as u32,
        channels: padded(g.full.channels) as u32,
        average: u32::from(g.average),
        ..EqPoolArgs::default()
    }
}

/// The convolution of edge `e` alone, before its pooling.
pub fn convolution(
    setup: &Setup,
    relax: Relax,
    memory: &Memory,
    e: usize,
    components: usize,
    source: EqSource,
    to: *mut f32,
) -> Result<Sweep> {
    let g = Geometry::of(setup.network(), e);
    let all = whole(g.full);
    let target = Target {
        raw: to,
        component_stride: memory.pool(e).full_units,
        ..Target::new(g.full)
    };
    let taps = taps_up(e, &g, &all).into_iter().map(|tap| (tap, source));
    let mut sweep = SweepBuilder::new(&setup.layout, relax, memory.images, components);
    sweep.add(&target, &all, &taps.collect::<Vec<_>>());
    sweep.build(&setup.device)
}

/// What edge `e` brings to its upper layer.
pub fn up(
    setup: &Setup,
    memory: &Memory,
    e: usize,
    kind: Kind,
    side: &dyn Fn(usize) -> Side,
) -> Result<PoolUp> {
    let network = setup.network();
    let edge = &network.edges()[e];
    let g = Geometry::of(network, e);
    let pool = memory.pool(e);
    let free = kind == Kind::Free;
    let full = if free { &pool.full_free } else { &pool.full };
    let components = kind.components();
    let source = layer_source(setup, memory, edge.pre, kind, side(edge.pre));
    // Several max-pool edges may enter a layer: the first one writes, the others add.
    let first = pooled_edges(setup).find(|&other| network.edges()[other].post == edge.post);
    let pair = kind == Kind::Pair;
    Ok(PoolUp {
        convolution: convolution(
            setup,
            setup.relax,
            memory,
            e,
            components,
            source,
            full.ptr(),
        )?,
        args: EqPoolArgs {
            full: full.ptr(),
            full_free: if pair {
                pool.full_free.ptr()
            } else {
                std::ptr::null()
            },
            argmax_free: if pair {
                pool.argmax_free.ptr()
            } else {
                std::ptr::null()
            },
            argmax: if free {
                pool.argmax_free.ptr()
            } else {
                pool.argmax.ptr()
            },
            pooled: memory.addend_of(edge.post).cast_mut(),
            phase: memory.phase.ptr(),
            components: components as u32,
            form: kind.form().code(),
            accumulate: u32::from(first.is_some_and(|first| first != e)),
            within_phase: 1,
            ..pool_shape(memory, &g)
        },
    })
}

/// What edge `e` sends down to its lower layer.
pub fn down(
    setup: &Setup,
    memory: &Memory,
    e: usize,
    kind: Kind,
    side: &dyn Fn(usize) -> Side,
) -> EqPoolArgs {
    let edge = &setup.network().edges()[e];
    let g = Geometry::of(setup.network(), e);
    let pool = memory.pool(e);
    let pair = kind == Kind::Pair;
    let post = &memory.states(kind)[edge.post];
    let side = side(edge.post);
    EqPoolArgs {
        argmax_free: if pair {
            pool.argmax_free.ptr()
        } else {
            std::ptr::null()
        },
        argmax: match kind {
            Kind::Free => pool.argmax_free.ptr(),
            // The maxima that a response sends down by lie behind those that it brings up.
            Kind::Response | Kind::Adjoint => pool.argmax.at(pool.argmax_free.len()),
            _ => pool.argmax.ptr(),
        },
        post: post.read_sides_as(side),
        post_free: if pair {
            memory.free[edge.post].sides[0].ptr()
        } else {
            std::ptr::null()
        },
        unpooled: pool.unpooled.ptr(),
        phase: memory.phase.ptr(),
        components: kind.components() as u32,
        form: kind.form().code(),
        updated: u32::from(side == Side::New),
        within_phase: 1,
        ..pool_shape(memory, &g)
    }
}
