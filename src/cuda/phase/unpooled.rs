//! Post states of max-pool edges at the resolution of their convolutions, for the gradient of a pair or a response.

use super::memory::Memory;
use super::pool::PoolUp;
use super::pooling::{convolution, pool_shape};
use super::states::{Kind, Side};
use super::update::layer_source;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::sweep::raw_args;
use crate::error::Result;
use std::ffi::c_void;

/// The launches for all pooled edges. Mean and half-difference lie on side 1 of the nudged states.
pub struct Unpooled(Vec<Edge>);

/// A pooled edge's part in the gradient.
struct Edge {
    /// finds the maxima, unless there are none or the image below is the same in both states
    up: Option<PoolUp>,
    down: Vec<EqPoolArgs>,
}

impl Unpooled {
    pub fn plan(setup: &Setup, memory: &Memory) -> Result<Self> {
        let network = setup.network();
        let pooled = (0..network.edges().len()).filter(|&e| Geometry::of(network, e).pooled);
        let edges = pooled.map(|e| match network.edges()[e].pre {
            0 => Ok(from_input(setup, memory, e)),
            _ => between(setup, memory, e),
        });
        Ok(Self(edges.collect::<Result<_>>()?))
    }

    /// By the maxima at mean and half-difference, which are looked for.
    pub fn at_mean(&self, setup: &Setup, weights: *const c_void) -> Result<()> {
        let args = raw_args(weights);
        for edge in &self.0 {
            (edge.up.iter()).try_for_each(|up| up.launch(setup, args))?;
            edge.bring_down(setup)?;
        }
        Ok(())
    }

    /// By the maxima of the free state, which were found with the pre-activations; it is in the place of the mean.
    pub fn at_free_state(&self, setup: &Setup, memory: &Memory) -> Result<()> {
        memory.freeze_maxima()?;
        self.0.iter().try_for_each(|edge| edge.bring_down(setup))
    }
}

impl Edge {
    fn bring_down(&self, setup: &Setup) -> Result<()> {
        let mut down = self.down.iter();
        down.try_for_each(|down| kernels::pool_down(&*setup.device, setup.format, down))
    }
}

/// The image is the same in both states, and so are its maxima.
fn from_input(setup: &Setup, memory: &Memory, e: usize) -> Edge {
    let pool = memory.pool(e);
    let post = &memory.states(Kind::Pair)[setup.network().edges()[e].post];
    let component = |component: usize| EqPoolArgs {
        form: EQ_FORM_STATES,
        components: 1,
        argmax: pool.argmax_free.ptr(),
        post: [post
            .component::<c_void>(1, component, setup.format)
            .cast_const(); 2],
        unpooled: (pool.unpooled).at(component * pool.full_units * setup.format.bytes()),
        ..pool_shape(memory, &Geometry::of(setup.network(), e))
    };
    Edge {
        up: None,
        down: vec![component(0), component(1)],
    }
}

fn between(setup: &Setup, memory: &Memory, e: usize) -> Result<Edge> {
    let edge = &setup.network().edges()[e];
    let g = Geometry::of(setup.network(), e);
    let pool = memory.pool(e);
    let post = &memory.states(Kind::Pair)[edge.post];
    let mut source = layer_source(setup, memory, edge.pre, Kind::Pair, Side::Old);
    source.sides = [source.sides[1]; 2];
    let of_pair = EqPoolArgs {
        components: 2,
        form: EQ_FORM_PAIR,
        argmax: pool.argmax.ptr(),
        ..pool_shape(memory, &g)
    };
    let full = pool.full.ptr();
    let up = PoolUp {
        convolution: convolution(setup, setup.relax, memory, e, 2, source, full)?,
        args: EqPoolArgs { full, ..of_pair },
    };
    Ok(Edge {
        up: (!g.average).then_some(up),
        down: vec![EqPoolArgs {
            unpooled: pool.unpooled.ptr(),
            post: [post.sides[1].ptr::<c_void>().cast_const(); 2],
            ..of_pair
        }],
    })
}
