//! Truncated backpropagation: iterations on from the free state, differentiated backwards.
//!
//! `src/cpu/phase/trajectory.rs` has the maths. Forwards, the states after each iteration are kept, and with them the maxima of max
//! pooling. Backwards, iteration `t` is one sweep over the groups in reverse, on `k_l = omega_t mask_l^t dC/ds_l^t`:
//!
//! ```text
//! k_l <- mask_l (keep k_l + omega_t p_l)      keep = omega_t (1 - omega_{t+1}) / omega_{t+1}
//! ```
//!
//! with a mask from the state after iteration `t`; then it adds its part to the gradient, `corr(s_pre, k_post) + corr(k_pre, s_post)` with
//! the states that its updates read. The host looks at each iteration, because the safeguard may have changed omega.

use super::batch::Batch;
use super::gradient;
use super::iteration::{Iteration, Phase};
use super::memory::Memory;
use super::plan::IterationKey;
use super::pooling::{self, pool_shape};
use super::states::{Kind, Side};
use super::trajectory::Trajectory;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::gradient::GradientPlan;
use crate::cuda::tables::products::TensorGradient;
use crate::error::Result;
use crate::network::Mode;
use crate::network::order::Order;
use std::ffi::c_void;

/// Components of the operands: what an update of iteration 1 reads after so many iterations, then `k`.
const BEFORE: usize = 0;
const AFTER: usize = 1;
const ADJOINT: usize = 2;

/// Relaxes on from the free state, whose pre-activations were computed, and remembers the way.
pub fn forwards(batch: &mut Batch, setup: &Setup, phase: &Phase) -> Result<EqPhase> {
    let network = setup.network();
    batch.memory.ensure_nudged(setup)?;
    let plan = batch.iteration(setup, key(phase.mode, Kind::Onward))?;
    let fits = |trajectory: &Trajectory| {
        trajectory.mode == phase.mode && trajectory.room >= phase.iterations
    };
    if !batch.trajectory.as_ref().is_some_and(fits) {
        let iteration = &batch.iterations[plan].1;
        batch.trajectory = None;
        batch.trajectory = Some(new_trajectory(&batch.memory, setup, iteration, phase)?);
    }
    let mut trajectory = batch.trajectory.take().expect("it was just made");
    let nudged = batch.memory.nudged();
    for l in network.free_layers() {
        let (free, bytes) = (&batch.memory.free[l].sides[0], trajectory.state_bytes(l));
        nudged[l].sides[0].copy_from(0, free, 0, bytes)?;
        trajectory.states[l].copy_from(0, free, 0, bytes)?;
    }
    for (e, _) in &trajectory.find_maxima {
        let free = &batch.memory.pool(*e).argmax_free;
        let (maxima, _) = trajectory.maxima_at(*e, 0);
        maxima.copy_from(0, free, 0, free.len())?;
    }
    batch.memory.phase.write(&[phase.start])?;
    trajectory.omegas.clear();
    let args = EqRelaxArgs {
        weights: phase.weights,
        phase: batch.memory.phase.ptr(),
        form: Kind::Onward.form().code(),
        within_phase: 1,
        ..EqRelaxArgs::default()
    };
    let plan = &batch.iterations[plan].1;
    plan.begin(setup, args)?;
    let mut now = phase.start;
    for t in 1..=phase.iterations {
        trajectory.omegas.push(now.omega);
        plan.launch(setup, args, None)?;
        for l in network.free_layers() {
            let side = side_after(plan.side(l), t);
            let (at, bytes) = (trajectory.state_at(l, t), trajectory.state_bytes(l));
            trajectory.states[l].copy_from(at, &nudged[l].sides[side], 0, bytes)?;
        }
        for (e, up) in &trajectory.find_maxima {
            let (maxima, at) = trajectory.maxima_at(*e, t);
            let (convolution, mut pooling) = (&up.convolution, up.args);
            pooling.argmax = maxima.at(at);
            // The last iteration ends the phase, and its state counts.
            let args = EqRelaxArgs {
                form: EQ_FORM_RAW,
                within_phase: 0,
                ..args
            };
            convolution.launch(&*setup.device, args)?;
            kernels::pool_up(&*setup.device, &pooling)?;
        }
        now = batch.memory.phase.read()?[0];
        if now.done != 0 {
            break;
        }
    }
    batch.trajectory = Some(trajectory);
    Ok(now)
}

/// Goes back through all iterations of [`forwards`]; `slope` is `dC/ds_L` at their end, in the layout of the output. Leaves the gradient
/// of the mean cost.
pub fn backwards(
    batch: &mut Batch,
    setup: &Setup,
    weights: *const c_void,
    slope: &[f64],
    gradient: &Buffer<f32>,
) -> Result<()> {
    let network = setup.network();
    let mut trajectory = batch.trajectory.take().expect("there is a way forwards");
    let mode = trajectory.mode;
    // The kernels take it away from the pre-activation; what lies behind it is the second component of a pair.
    let mut force: Vec<f32> = slope.iter().map(|&g| -g as f32).collect();
    force.resize(batch.memory.nudge.len(), 0.0);
    batch.memory.nudge.write(&force)?;
    for l in network.free_layers() {
        batch.memory.nudged()[l].sides[0].zero()?;
    }
    let order = network.order(mode);
    let last = trajectory.omegas.len();
    for t in (1..=last).rev() {
        let states = &trajectory.states;
        batch.memory.write_masks(setup, setup.format, |_, l| {
            states[l].at::<c_void>(trajectory.state_at(l, t))
        })?;
        for (e, _) in &trajectory.find_maxima {
            let edge = &network.edges()[*e];
            // What the next updates of the neighbours passed on: the post layer's read the pre layer as it is after iteration t, and the
            // pre layer's sent down by the maxima before it.
            let before = t - usize::from(order.is_before(edge.post, edge.pre));
            let maxima = [before, t].map(|moment| trajectory.maxima_at(*e, moment));
            batch.memory.pool(*e).give_maxima(maxima)?;
        }
        let plan = batch.iteration(setup, key(mode, Kind::Adjoint))?;
        let omega = trajectory.omegas[t - 1];
        let next = trajectory.omegas.get(t);
        let start = EqPhase {
            omega,
            keep: next.map_or(0.0, |next| omega * (1.0 - next) / next),
            tolerance: -1.0,
            iterations: (last - t) as u32,
            ..EqPhase::default()
        };
        batch.memory.phase.write(&[start])?;
        let args = EqRelaxArgs {
            weights,
            phase: batch.memory.phase.ptr(),
            form: Kind::Adjoint.form().code(),
            within_phase: 1,
            ..EqRelaxArgs::default()
        };
        let plan = &batch.iterations[plan].1;
        plan.launch(setup, args, None)?;
        if t == last {
            batch.memory.nudge.zero()?;
        }
        let nudged = batch.memory.nudged();
        for l in network.free_layers() {
            let side = side_after(plan.side(l), last - t + 1);
            let (to, bytes) = (&trajectory.operands[l], trajectory.state_bytes(l));
            for (component, moment) in [(BEFORE, t - 1), (AFTER, t)] {
                let from = trajectory.state_at(l, moment);
                to.copy_from(component * bytes, &trajectory.states[l], from, bytes)?;
            }
            to.copy_from(ADJOINT * bytes, &nudged[l].sides[side], 0, bytes)?;
        }
        unpool(&batch.memory, setup, &trajectory, &order, t)?;
        let scale = 1.0 / batch.memory.images as f32;
        let plan = &trajectory.gradient;
        match t == last {
            true => plan.run(&*setup.device, scale, gradient)?,
            false => plan.add(&*setup.device, scale, gradient)?,
        }
    }
    if last == 0 {
        gradient.zero()?;
        (trajectory.gradient).rescale(&setup.device, 1.0, gradient)?;
    }
    batch.trajectory = Some(trajectory);
    Ok(())
}

fn key(mode: Mode, kind: Kind) -> IterationKey {
    IterationKey {
        mode,
        kind,
        is_clamped: false,
    }
}

/// The side that a layer is on after so many iterations of a phase.
fn side_after(side: Side, iterations: usize) -> usize {
    match side {
        Side::Only => 0,
        Side::Old | Side::New => iterations % 2,
    }
}

/// Post states and their `k` at the resolution of the convolutions, for the gradient of iteration `t`.
fn unpool(
    memory: &Memory,
    setup: &Setup,
    trajectory: &Trajectory,
    order: &Order,
    t: usize,
) -> Result<()> {
    for (e, edge) in setup.network().edges().iter().enumerate() {
        let g = Geometry::of(setup.network(), e);
        if !g.pooled {
            continue;
        }
        let (pool, post) = (memory.pool(e), &trajectory.operands[edge.post]);
        let bytes = trajectory.state_bytes(edge.post);
        let down = |operand: usize, argmax: *mut u8, component: usize| {
            let args = EqPoolArgs {
                form: EQ_FORM_STATES,
                components: 1,
                argmax,
                post: [post.at::<c_void>(operand * bytes).cast_const(); 2],
                unpooled: (pool.unpooled).at(component * pool.full_units * setup.format.bytes()),
                ..pool_shape(memory, &g)
            };
            kernels::pool_down(&*setup.device, setup.format, &args)
        };
        if edge.pre == 0 {
            // The image does not move, nor do its maxima.
            down(ADJOINT, pool.argmax_free.ptr(), 1)?;
            continue;
        }
        let maxima = |moment: usize| {
            if g.average {
                return std::ptr::null_mut();
            }
            let (maxima, at) = trajectory.maxima_at(e, moment);
            maxima.at(at)
        };
        down(order.read(edge.post, edge.pre, 1), maxima(t - 1), 0)?;
        let read = order.read(edge.pre, edge.post, t);
        down(ADJOINT, maxima(read), 1)?;
    }
    Ok(())
}

fn new_trajectory(
    memory: &Memory,
    setup: &Setup,
    iteration: &Iteration,
    phase: &Phase,
) -> Result<Trajectory> {
    let (network, device) = (setup.network(), &setup.device);
    let room = phase.iterations;
    let layers = 0..network.layers().len();
    let bytes = |l: usize| match l {
        0 => 0,
        l => memory.images * setup.units(l) * setup.format.bytes(),
    };
    let states = layers
        .clone()
        .map(|l| Buffer::new(device, (room + 1) * bytes(l)));
    let operands = layers.map(|l| Buffer::new(device, 3 * bytes(l)));
    let (mut maxima, mut find_maxima) = (Vec::new(), Vec::new());
    for (e, edge) in network.edges().iter().enumerate() {
        let g = Geometry::of(network, e);
        if edge.pre == 0 || !g.pooled || g.average {
            maxima.push(None);
            continue;
        }
        let mut up = pooling::up(setup, memory, e, Kind::Onward, &|l| iteration.side(l))?;
        up.args.pooled = std::ptr::null_mut();
        up.args.within_phase = 0;
        find_maxima.push((e, up));
        let count = memory.pool(e).argmax_free.len();
        maxima.push(Some(Buffer::new(device, (room + 1) * count)?));
    }
    let operands: Vec<Buffer<u8>> = operands.collect::<Result<_>>()?;
    let parts = parts(memory, setup, &operands, &network.order(phase.mode));
    let arithmetic = (setup.format, setup.relax);
    Ok(Trajectory {
        mode: phase.mode,
        room,
        omegas: Vec::new(),
        states: states.collect::<Result<_>>()?,
        maxima,
        find_maxima,
        output: Buffer::new(device, bytes(network.output_index()))?,
        gradient: GradientPlan::new(device, &setup.layout, arithmetic, memory.images, &parts)?,
        operands,
    })
}

/// What an iteration adds to the gradient: the states that its updates read, with `k`.
fn parts(
    memory: &Memory,
    setup: &Setup,
    operands: &[Buffer<u8>],
    order: &Order,
) -> Vec<TensorGradient> {
    let units = |l: usize| memory.images * setup.units(l);
    let component = |l: usize, component: usize| {
        let at = component * units(l) * setup.format.bytes();
        operands[l].at::<c_void>(at).cast_const()
    };
    let rows = |l: usize| component(l, ADJOINT);
    gradient::parts(setup, memory, rows, |l, other| {
        let read = order.read(l, other, 1);
        (component(l, read), (ADJOINT - read) * units(l))
    })
}
