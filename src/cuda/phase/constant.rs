//! What is computed once: the constant part of a batch's pre-activations, and all pre-activations at its free state.

use super::memory::Memory;
use super::pool::PoolUp;
use super::pooling;
use super::states::{Kind, Side};
use super::update::{add_layer, constant_target};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::kernels::{self, Relax};
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::{Geometry, taps_up, whole};
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::sweep::{Sweep, SweepBuilder, Target, raw_args};
use crate::error::Result;
use std::ffi::c_void;

/// The constant part of the pre-activation of the layers that the input reaches: `b_l + sum Op_e(input)`. It is computed in fp32 whatever the format of states: once per
/// batch it costs little.
pub struct ConstantPart {
    sweep: Sweep,
    pools: Vec<PoolUp>,
}

impl ConstantPart {
    pub fn plan(setup: &Setup, memory: &Memory) -> Result<Self> {
        let network = setup.network();
        let input = input_source(setup, memory);
        let mut sweep = SweepBuilder::new(&setup.layout, Relax::Simt, memory.images, 1);
        let mut pools = Vec::new();
        for l in network.free_layers().filter(|&l| setup.sees_input(l)) {
            let target = Target {
                bias: memory.bias(setup, l),
                raw: memory.constant[l].ptr(),
                ..Target::new(setup.shape(l))
            };
            let all = whole(target.shape);
            let mut taps = Vec::new();
            for (e, _) in network.edges_into(l).filter(|(_, edge)| edge.pre == 0) {
                let g = Geometry::of(network, e);
                if !g.pooled {
                    taps.extend(taps_up(e, &g, &all).into_iter().map(|tap| (tap, input)));
                    continue;
                }
                let pool = memory.pool(e);
                let full = pool.full_free.ptr();
                pools.push(PoolUp {
                    convolution: pooling::convolution(
                        setup,
                        Relax::Simt,
                        memory,
                        e,
                        1,
                        input,
                        full,
                    )?,
                    args: EqPoolArgs {
                        full,
                        argmax: pool.argmax_free.ptr(),
                        pooled: memory.constant[l].ptr(),
                        components: 1,
                        form: EQ_FORM_STATES,
                        accumulate: 1,
                        ..pooling::pool_shape(memory, &g)
                    },
                });
            }
            sweep.add(&target, &all, &taps);
        }
        Ok(Self {
            sweep: sweep.build(&setup.device)?,
            pools,
        })
    }

    /// `weights` are the master weights.
    pub fn compute(&self, setup: &Setup, weights: *const c_void) -> Result<()> {
        let args = raw_args(weights);
        self.sweep.launch(&*setup.device, args)?;
        (self.pools.iter()).try_for_each(|up| up.launch(setup, args))
    }
}

fn input_source(setup: &Setup, memory: &Memory) -> EqSource {
    let shape = setup.shape(0);
    EqSource {
        sides: [memory.input.ptr(); 2],
        component_stride: 0,
        height: shape.height as i32,
        width: shape.width as i32,
        channels: padded(shape.channels) as u32,
        updated: 0,
    }
}

/// Pre-activations of all layers at the free state, in fp32.
pub struct PreActivations {
    sweep: Sweep,
    up: Vec<PoolUp>,
    down: Vec<EqPoolArgs>,
}

impl PreActivations {
    pub fn plan(setup: &Setup, memory: &Memory) -> Result<Self> {
        let not_updated = |_: usize| Side::Old;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for e in pooling::pooled_edges(setup) {
            up.push(pooling::up(setup, memory, e, Kind::Free, &not_updated)?);
            down.push(pooling::down(setup, memory, e, Kind::Free, &not_updated));
        }
        let mut sweep = SweepBuilder::new(&setup.layout, setup.relax, memory.images, 1);
        for l in setup.network().free_layers() {
            let target = Target {
                addend: memory.addend_of(l),
                raw: memory.pre_activation[l].ptr(),
                component_stride: memory.images * setup.units(l),
                ..constant_target(setup, memory, l)
            };
            let kind = Kind::Free;
            add_layer(setup, memory, &mut sweep, l, &target, kind, &not_updated);
        }
        // These run outside of the phase, on side 0.
        for args in up.iter_mut().map(|up| &mut up.args).chain(&mut down) {
            args.phase = std::ptr::null_mut();
            args.within_phase = 0;
        }
        Ok(Self {
            sweep: sweep.build(&setup.device)?,
            up,
            down,
        })
    }

    /// `weights` are those that relaxations read.
    pub fn compute(&self, setup: &Setup, weights: *const c_void) -> Result<()> {
        let device = &*setup.device;
        let args = raw_args(weights);
        (self.up.iter()).try_for_each(|up| up.launch(setup, args))?;
        (self.down.iter()).try_for_each(|down| kernels::pool_down(device, setup.format, down))?;
        self.sweep.launch(device, args)
    }
}
