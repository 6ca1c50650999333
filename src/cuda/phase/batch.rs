//! Device memory of a batch, and the tables of every launch that a batch needs.

use super::iteration::{Group, Iteration, Phase};
use super::pool::{Pool, PoolUp};
use super::setup::Setup;
use super::states::{Kind, Side, State};
use super::trajectory::Trajectory;
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels::{self, Format, Relax};
use crate::cuda::tables::geometry::{Geometry, classes, taps_down, taps_up, whole};
use crate::cuda::tables::gradient::GradientPlan;
use crate::cuda::tables::layout::padded;
use crate::cuda::tables::sweep::{Sweep, SweepBuilder, Target};
use crate::network::Mode;
use anyhow::{Result, ensure};
use std::ffi::c_void;

/// What `kernels/outcome.cu` writes per example, and its table of layers.
pub struct OutcomeBuffers {
    pub layers: Buffer<EqEnergyLayer>,
    pub energy: Buffer<f64>,
    pub cost: Buffer<f64>,
    pub prediction: Buffer<i32>,
    pub in_top5: Buffer<i32>,
}

/// Everything that depends on the batch size.
pub struct Batch {
    pub images: usize,
    pub labels: Buffer<i32>,
    /// the input in fp32, for the drive, and as an operand of the weight gradient
    pub input: Buffer<f32>,
    pub input_operand: Option<Buffer<u8>>,
    /// in fp32, where biases lie
    parameters: *const f32,
    /// `b_l + sum Op_e(input)` by layer; empty where no edge comes from the input, and the bias is all there is
    drive: Vec<Buffer<f32>>,
    /// pre-activations at the free state
    pub pre_activation: Vec<Buffer<f32>>,
    pub free: Vec<State>,
    pub nudged: Option<Vec<State>>,
    /// by layer where its units respond; made when a response is first asked for
    masks: Option<Vec<Buffer<u8>>>,
    pub trajectory: Option<Trajectory>,
    /// what max-pool edges bring to a layer; two components
    addend: Vec<Option<Buffer<f32>>>,
    pub pools: Vec<Option<Pool>>,
    pub outcome: OutcomeBuffers,
    pub phase: Buffer<EqPhase>,
    /// what the output's pre-activation loses in a nudged phase; two components
    pub nudge: Buffer<f32>,
    /// by mode, kind, and whether the output is clamped
    pub iterations: Vec<((Mode, Kind, bool), Iteration)>,
    drive_sweep: Option<(Sweep, Vec<PoolUp>)>,
    pre_activation_sweep: Option<(Sweep, Vec<PoolUp>, Vec<EqPoolArgs>)>,
    gradient_pools: Option<Vec<GradientPool>>,
    pub gradient: Option<GradientPlan>,
}

/// A pooled edge's part in the gradient.
struct GradientPool {
    /// finds the maxima, unless there are none or the image below is the same in both states
    up: Option<PoolUp>,
    down: Vec<EqPoolArgs>,
}

impl Batch {
    pub fn new(setup: &Setup, parameters: *const f32, images: usize) -> Result<Self> {
        let device = &setup.device;
        let layers = 0..setup.network.layers().len();
        for l in layers.clone() {
            let units = images * setup.units(l);
            ensure!(
                i32::try_from(units).is_ok(),
                "a batch of {images} is too large for the kernels: layer {:?} has {units} units, and they count to 2^31",
                setup.network.layers()[l].name
            );
        }
        let units = |l: usize| if l == 0 { 0 } else { images * setup.units(l) };
        let pooled_into = |l: usize| {
            let mut edges = setup.network.edges_into(l);
            edges.any(|(e, edge)| edge.pre != 0 && Geometry::of(&setup.network, e).pooled)
        };
        let input_units = images * setup.units(0);
        let driven_units = |l: usize| if setup.is_driven(l) { units(l) } else { 0 };
        let drive = (layers.clone())
            .map(|l| Buffer::new(device, driven_units(l)))
            .collect::<Result<Vec<_>>>()?;
        let pre_activation = (layers.clone())
            .map(|l| Buffer::new(device, units(l)))
            .collect::<Result<Vec<_>>>()?;
        let free = (layers.clone())
            .map(|l| State::new(device, units(l), 1, setup.format))
            .collect::<Result<Vec<_>>>()?;
        let energies: Vec<EqEnergyLayer> = (setup.network.free_layers())
            .map(|l| EqEnergyLayer {
                state: free[l].sides[0].ptr(),
                pre_activation: pre_activation[l].ptr(),
                drive: non_empty(&drive[l]),
                bias: bias_in(setup, parameters, l),
                units: setup.units(l) as u64,
                channels: padded(setup.shape(l).channels) as u64,
            })
            .collect();
        Ok(Self {
            outcome: OutcomeBuffers {
                layers: Buffer::from_slice(device, &energies)?,
                energy: Buffer::new(device, images)?,
                cost: Buffer::new(device, images)?,
                prediction: Buffer::new(device, images)?,
                in_top5: Buffer::new(device, images)?,
            },
            images,
            labels: Buffer::new(device, images)?,
            input: Buffer::new(device, input_units)?,
            input_operand: match setup.format {
                Format::F32 => None,
                Format::F16 => Some(Buffer::new(device, input_units * 2)?),
            },
            parameters,
            drive,
            pre_activation,
            free,
            nudged: None,
            masks: None,
            trajectory: None,
            addend: (layers.clone())
                .map(|l| {
                    let buffer = || Buffer::new(device, 2 * units(l));
                    pooled_into(l).then(buffer).transpose()
                })
                .collect::<Result<_>>()?,
            pools: (0..setup.network.edges().len())
                .map(|e| Pool::new(setup, e, images))
                .collect::<Result<_>>()?,
            phase: Buffer::new(device, 1)?,
            nudge: Buffer::new(device, 2 * units(setup.network.output_index()))?,
            iterations: Vec::new(),
            drive_sweep: None,
            pre_activation_sweep: None,
            gradient_pools: None,
            gradient: None,
        })
    }

    /// Allocates the nudged states, which evaluation does without.
    pub fn ensure_nudged(&mut self, setup: &Setup) -> Result<()> {
        if self.nudged.is_none() {
            let state = |l: usize| {
                let units = if l == 0 {
                    0
                } else {
                    self.images * setup.units(l)
                };
                State::new(&setup.device, units, 2, setup.format)
            };
            let states = (0..setup.network.layers().len()).map(state);
            self.nudged = Some(states.collect::<Result<_>>()?);
        }
        Ok(())
    }

    /// Says where the layers respond: at the units whose value lies strictly inside of their bounds.
    pub fn write_masks(
        &mut self,
        setup: &Setup,
        format: Format,
        values: impl Fn(&Self, usize) -> *const c_void,
    ) -> Result<()> {
        let network = &setup.network;
        let bytes = |l: usize| match l {
            0 => 0,
            l => self.images * setup.units(l) / EQ_CHANNEL_MULTIPLE as usize,
        };
        if self.masks.is_none() {
            let layers = 0..network.layers().len();
            let masks = layers.map(|l| Buffer::new(&setup.device, bytes(l)));
            self.masks = Some(masks.collect::<Result<_>>()?);
        }
        for l in network.free_layers() {
            let channels = setup.shape(l).channels;
            let (low, high) = bounds(setup, l);
            let args = EqMaskArgs {
                values: values(self, l),
                mask: self.mask(l).cast_mut(),
                count: bytes(l) as u64,
                channels: padded(channels) as u32,
                live_channels: channels as u32,
                low,
                high,
            };
            kernels::inside(&*setup.device, format, &args)?;
        }
        Ok(())
    }

    fn mask(&self, l: usize) -> *const u8 {
        let masks = self.masks.as_ref().expect("masks are written first");
        masks[l].ptr::<u8>().cast_const()
    }

    /// Gives a response the maxima of the free state, which were found with the pre-activations.
    pub fn freeze_maxima(&self) -> Result<()> {
        for pool in self.pools.iter().flatten() {
            pool.give_maxima([(&pool.argmax_free, 0); 2])?;
        }
        Ok(())
    }

    fn states(&self, kind: Kind) -> &[State] {
        match kind {
            Kind::Free => &self.free,
            _ => self
                .nudged
                .as_ref()
                .expect("nudged states are allocated first"),
        }
    }

    /// Drive of the layers that the input reaches: `b_l + sum Op_e(input)`.
    pub fn compute_drive(&mut self, setup: &Setup) -> Result<()> {
        if self.drive_sweep.is_none() {
            self.drive_sweep = Some(self.plan_drive(setup)?);
        }
        let (sweep, pools) = self.drive_sweep.as_ref().expect("it was just made");
        let args = EqRelaxArgs {
            weights: self.parameters.cast(),
            ..raw_args()
        };
        sweep.launch(&*setup.device, args)?;
        pools.iter().try_for_each(|up| up.launch(setup, args))
    }

    /// Input edges are computed in fp32 whatever the format of states: once per batch it costs little.
    fn plan_drive(&self, setup: &Setup) -> Result<(Sweep, Vec<PoolUp>)> {
        let network = &setup.network;
        let builder = || SweepBuilder::new(&setup.layout, Relax::Simt, self.images, 1);
        let input = self.input_source(setup);
        let mut sweep = builder();
        let mut pools = Vec::new();
        for l in network.free_layers().filter(|&l| setup.is_driven(l)) {
            let target = Target {
                bias: bias_in(setup, self.parameters, l),
                raw: self.drive[l].ptr(),
                ..Target::new(setup.shape(l))
            };
            let mut taps = Vec::new();
            for (e, _) in network.edges_into(l).filter(|(_, edge)| edge.pre == 0) {
                let g = Geometry::of(network, e);
                if !g.pooled {
                    taps.extend(taps_up(e, &g, &whole(target.shape)));
                    continue;
                }
                let pool = self.pool(e);
                let mut convolution = builder();
                let full = Target {
                    raw: pool.full_free.ptr(),
                    ..Target::new(g.full)
                };
                let with_source: Vec<_> = (taps_up(e, &g, &whole(g.full)).into_iter())
                    .map(|tap| (tap, input))
                    .collect();
                convolution.add(&full, &whole(g.full), &with_source);
                pools.push(PoolUp {
                    convolution: convolution.build(&setup.device)?,
                    args: EqPoolArgs {
                        full: pool.full_free.ptr(),
                        argmax: pool.argmax_free.ptr(),
                        pooled: self.drive[l].ptr(),
                        components: 1,
                        form: EQ_FORM_STATES,
                        accumulate: 1,
                        ..self.pool_shape(&g)
                    },
                });
            }
            let taps: Vec<_> = taps.into_iter().map(|tap| (tap, input)).collect();
            sweep.add(&target, &whole(target.shape), &taps);
        }
        Ok((sweep.build(&setup.device)?, pools))
    }

    fn input_source(&self, setup: &Setup) -> EqSource {
        let shape = setup.shape(0);
        EqSource {
            sides: [self.input.ptr(); 2],
            component_stride: 0,
            height: shape.height as i32,
            width: shape.width as i32,
            channels: padded(shape.channels) as u32,
            updated: 0,
        }
    }

    pub fn pool(&self, e: usize) -> &Pool {
        self.pools[e].as_ref().expect("a max-pool edge has buffers")
    }

    /// Pre-activations of all layers at the free state, in fp32.
    pub fn compute_pre_activations(&mut self, setup: &Setup, weights: *const c_void) -> Result<()> {
        if self.pre_activation_sweep.is_none() {
            self.pre_activation_sweep = Some(self.plan_pre_activations(setup)?);
        }
        let plan = self.pre_activation_sweep.as_ref();
        let (sweep, up, down) = plan.expect("it was just made");
        let args = EqRelaxArgs {
            weights,
            ..raw_args()
        };
        up.iter().try_for_each(|up| up.launch(setup, args))?;
        down.iter()
            .try_for_each(|down| kernels::pool_down(&*setup.device, setup.format, down))?;
        sweep.launch(&*setup.device, args)
    }

    fn plan_pre_activations(&self, setup: &Setup) -> Result<(Sweep, Vec<PoolUp>, Vec<EqPoolArgs>)> {
        let network = &setup.network;
        let not_updated = |_: usize| Side::Old;
        let mut up = Vec::new();
        let mut down = Vec::new();
        for (e, edge) in network.edges().iter().enumerate() {
            if edge.pre != 0 && Geometry::of(network, e).pooled {
                up.push(self.plan_pool_up(setup, e, Kind::Free, &not_updated)?);
                down.push(self.plan_pool_down(setup, e, Kind::Free, &not_updated));
            }
        }
        let mut sweep = SweepBuilder::new(&setup.layout, setup.relax, self.images, 1);
        for l in network.free_layers() {
            let target = Target {
                addend: self.addend_of(l),
                raw: self.pre_activation[l].ptr(),
                component_stride: self.images * setup.units(l),
                ..self.constant_target(setup, l)
            };
            self.add_layer(setup, &mut sweep, l, &target, Kind::Free, &not_updated);
        }
        // These run outside of the phase, on side 0.
        for up in &mut up {
            up.args.phase = std::ptr::null_mut();
            up.args.within_phase = 0;
        }
        for down in &mut down {
            down.phase = std::ptr::null_mut();
            down.within_phase = 0;
        }
        Ok((sweep.build(&setup.device)?, up, down))
    }

    /// Layer `l` with the constant part of its pre-activation: its drive, or its bias where that is all.
    fn constant_target(&self, setup: &Setup, l: usize) -> Target {
        let driven = setup.is_driven(l);
        let bias = bias_in(setup, self.parameters, l);
        Target {
            drive: non_empty(&self.drive[l]),
            bias: if driven { std::ptr::null() } else { bias },
            ..Target::new(setup.shape(l))
        }
    }

    fn addend_of(&self, l: usize) -> *const f32 {
        self.addend[l]
            .as_ref()
            .map_or(std::ptr::null(), |b| b.ptr())
    }

    /// Adds all classes of a free layer with the taps of all its edges to free layers.
    fn add_layer(
        &self,
        setup: &Setup,
        sweep: &mut SweepBuilder,
        l: usize,
        target: &Target,
        kind: Kind,
        side: &dyn Fn(usize) -> Side,
    ) {
        let network = &setup.network;
        for class in classes(network, l) {
            let mut taps = Vec::new();
            for (e, edge) in network.edges_into(l) {
                let g = Geometry::of(network, e);
                if edge.pre != 0 && !g.pooled {
                    let source = self.layer_source(setup, edge.pre, kind, side(edge.pre));
                    taps.extend(taps_up(e, &g, &class).into_iter().map(|t| (t, source)));
                }
            }
            for (e, edge) in network.edges_out_of(l) {
                let g = Geometry::of(network, e);
                let source = if g.pooled {
                    self.unpooled_source(e, &g)
                } else {
                    self.layer_source(setup, edge.post, kind, side(edge.post))
                };
                taps.extend(taps_down(e, &g, &class).into_iter().map(|t| (t, source)));
            }
            sweep.add(target, &class, &taps);
        }
    }

    fn layer_source(&self, setup: &Setup, l: usize, kind: Kind, side: Side) -> EqSource {
        let state = &self.states(kind)[l];
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

    fn unpooled_source(&self, e: usize, g: &Geometry) -> EqSource {
        let pool = self.pool(e);
        EqSource {
            sides: [pool.unpooled.ptr(); 2],
            component_stride: pool.full_units as u64,
            height: g.full.height as i32,
            width: g.full.width as i32,
            channels: padded(g.full.channels) as u32,
            updated: 0,
        }
    }

    pub fn pool_shape(&self, g: &Geometry) -> EqPoolArgs {
        EqPoolArgs {
            images: self.images as u32,
            height: g.full.height as u32,
            width: g.full.width as u32,
            channels: padded(g.full.channels) as u32,
            average: u32::from(g.average),
            ..EqPoolArgs::default()
        }
    }

    pub fn plan_pool_up(
        &self,
        setup: &Setup,
        e: usize,
        kind: Kind,
        side: &dyn Fn(usize) -> Side,
    ) -> Result<PoolUp> {
        let network = &setup.network;
        let edge = &network.edges()[e];
        let g = Geometry::of(network, e);
        let pool = self.pool(e);
        let free = kind == Kind::Free;
        let full = if free { &pool.full_free } else { &pool.full };
        let components = kind.components();
        let mut convolution =
            SweepBuilder::new(&setup.layout, setup.relax, self.images, components);
        let target = Target {
            raw: full.ptr(),
            component_stride: pool.full_units,
            ..Target::new(g.full)
        };
        let source = self.layer_source(setup, edge.pre, kind, side(edge.pre));
        let taps: Vec<_> = (taps_up(e, &g, &whole(g.full)).into_iter())
            .map(|tap| (tap, source))
            .collect();
        convolution.add(&target, &whole(g.full), &taps);
        // Several max-pool edges may enter a layer: the first one writes, the others add.
        let mut pooled = network.edges_into(edge.post);
        let first = pooled.find(|(o, edge)| edge.pre != 0 && Geometry::of(network, *o).pooled);
        let pair = kind == Kind::Pair;
        Ok(PoolUp {
            convolution: convolution.build(&setup.device)?,
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
                pooled: self.addend_of(edge.post).cast_mut(),
                phase: self.phase.ptr(),
                components: components as u32,
                form: kind.form().code(),
                accumulate: u32::from(first.is_some_and(|(o, _)| o != e)),
                within_phase: 1,
                ..self.pool_shape(&g)
            },
        })
    }

    fn plan_pool_down(
        &self,
        setup: &Setup,
        e: usize,
        kind: Kind,
        side: &dyn Fn(usize) -> Side,
    ) -> EqPoolArgs {
        let edge = &setup.network.edges()[e];
        let g = Geometry::of(&setup.network, e);
        let pool = self.pool(e);
        let pair = kind == Kind::Pair;
        let post = &self.states(kind)[edge.post];
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
                self.free[edge.post].sides[0].ptr()
            } else {
                std::ptr::null()
            },
            unpooled: pool.unpooled.ptr(),
            phase: self.phase.ptr(),
            components: kind.components() as u32,
            form: kind.form().code(),
            updated: u32::from(side == Side::New),
            within_phase: 1,
            ..self.pool_shape(&g)
        }
    }

    /// Position in `self.iterations` of the plan for a mode, made when it is first asked for.
    pub fn iteration(&mut self, setup: &Setup, key: (Mode, Kind, bool)) -> Result<usize> {
        if let Some(found) = (self.iterations.iter()).position(|(other, _)| *other == key) {
            return Ok(found);
        }
        let plan = self.plan_iteration(setup, key)?;
        self.iterations.push((key, plan));
        Ok(self.iterations.len() - 1)
    }

    fn plan_iteration(
        &self,
        setup: &Setup,
        (mode, kind, is_clamped): (Mode, Kind, bool),
    ) -> Result<Iteration> {
        let network = &setup.network;
        let mut order = network.update_groups(mode);
        if kind == Kind::Adjoint {
            order.reverse();
        }
        if is_clamped {
            let output = network.output_index();
            (order.iter_mut()).for_each(|group| group.retain(|&l| l != output));
            order.retain(|group| !group.is_empty());
        }
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
        let pooled_edges: Vec<usize> = (network.edges().iter().enumerate())
            .filter(|(e, edge)| edge.pre != 0 && Geometry::of(network, *e).pooled)
            .map(|(e, _)| e)
            .collect();
        let mut prelude = Vec::new();
        for &e in &pooled_edges {
            let edge = &network.edges()[e];
            // The way down then uses the maxima that the way up found in the iteration before.
            if group_of(edge.pre) < group_of(edge.post) && !kind.is_linear() {
                prelude.push(self.plan_pool_up(setup, e, kind, &old)?);
            }
        }
        let mut groups = Vec::new();
        let mut changes = 0;
        for (g, group) in order.iter().enumerate() {
            let side = |l: usize| match group_of(l) {
                Some(of) if of < g && !in_place[l] => Side::New,
                _ => old(l),
            };
            let mut refresh = Vec::new();
            let mut unpool = Vec::new();
            for &e in &pooled_edges {
                let edge = &network.edges()[e];
                if group.contains(&edge.post) {
                    refresh.push(self.plan_pool_up(setup, e, kind, &side)?);
                }
                if group.contains(&edge.pre) {
                    unpool.push(self.plan_pool_down(setup, e, kind, &side));
                }
            }
            let mut sweep =
                SweepBuilder::new(&setup.layout, setup.relax, self.images, kind.components());
            for &l in group {
                let target = self.update_target(setup, l, kind, old(l));
                self.add_layer(setup, &mut sweep, l, &target, kind, &side);
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

    fn update_target(&self, setup: &Setup, l: usize, kind: Kind, side: Side) -> Target {
        let state = &self.states(kind)[l];
        let constant = match kind {
            Kind::Pair => Target {
                drive: self.pre_activation[l].ptr(),
                free_state: self.free[l].sides[0].ptr(),
                ..Target::new(setup.shape(l))
            },
            Kind::Response | Kind::Adjoint => Target {
                mask: self.mask(l),
                ..Target::new(setup.shape(l))
            },
            Kind::Free | Kind::Direct | Kind::Onward => self.constant_target(setup, l),
        };
        let is_forced = !matches!(kind, Kind::Free | Kind::Onward);
        Target {
            addend: self.addend_of(l),
            sides: state.sides_as(side),
            component_stride: state.units,
            bounds: bounds(setup, l),
            nudge: if l == setup.network.output_index() && is_forced {
                self.nudge.ptr()
            } else {
                std::ptr::null()
            },
            ..constant
        }
    }

    /// Runs a phase to its end; the states of its kind are on side 0 before and after.
    pub fn run_phase(&mut self, setup: &Setup, phase: &Phase) -> Result<EqPhase> {
        let &Phase {
            mode,
            kind,
            is_clamped,
            iterations,
            start,
            weights,
            nudging,
        } = phase;
        let plan = self.iteration(setup, (mode, kind, is_clamped))?;
        self.phase.write(&[start])?;
        let args = EqRelaxArgs {
            weights,
            phase: self.phase.ptr(),
            form: kind.form().code(),
            within_phase: 1,
            ..EqRelaxArgs::default()
        };
        let output = setup.network.output_index();
        let side = self.iterations[plan].1.side(output);
        let classes = setup.network.classes();
        let nudge = nudging.map(|nudging| EqNudgeArgs {
            free_state: self.free[output].sides[0].ptr(),
            sides: self.states(kind)[output].read_sides_as(side),
            nudge: self.nudge.ptr(),
            labels: self.labels.ptr(),
            phase: self.phase.ptr(),
            images: self.images as u32,
            channels: padded(classes) as u32,
            classes: classes as u32,
            form: kind.form().code(),
            cost: nudging.cost,
            strengths: nudging.strengths,
            padding: 0,
        });
        let may_end = (start.tolerance >= 0.0).then_some(&self.phase);
        let plan_iterations = &mut self.iterations[plan].1;
        let ended_alone = plan_iterations.run(setup, args, nudge, iterations, may_end)?;
        let end = self.phase.read()?[0];
        ensure!(
            !ended_alone || end.done != 0,
            "kernel {}: the loop ended before the phase did, after {} of {iterations} iterations; EQPROP_WHILE=off does without it",
            kernels::CONTINUE_PHASE.name,
            end.iterations
        );
        if end.iterations % 2 == 1 {
            let plan = &self.iterations[plan].1;
            let moved = (setup.network.free_layers()).filter(|&l| plan.side(l) != Side::Only);
            for state in moved.map(|l| &self.states(kind)[l]) {
                let bytes = state.sides[0].len();
                state.sides[0].copy_from(0, &state.sides[1], 0, bytes)?;
            }
        }
        Ok(end)
    }

    /// The update of one layer alone, once its states exist: for measurements.
    pub fn layer_sweep(&self, setup: &Setup, l: usize, kind: Kind) -> Result<Sweep> {
        let components = kind.components();
        let mut sweep = SweepBuilder::new(&setup.layout, setup.relax, self.images, components);
        let target = self.update_target(setup, l, kind, Side::Only);
        self.add_layer(setup, &mut sweep, l, &target, kind, &|_| Side::Only);
        sweep.build(&setup.device)
    }

    /// An iteration, once the states exist: for measurements.
    pub fn one_iteration(&self, setup: &Setup, mode: Mode, kind: Kind) -> Result<Iteration> {
        self.plan_iteration(setup, (mode, kind, false))
    }

    /// The updates of one iteration, group by group, once the states exist: for estimates.
    pub fn group_sweeps(&self, setup: &Setup, mode: Mode, kind: Kind) -> Result<Vec<Sweep>> {
        let groups = self.plan_iteration(setup, (mode, kind, false))?.groups;
        Ok(groups.into_iter().map(|group| group.sweep).collect())
    }

    /// Maxima of all max-pool edges at mean and half-difference, which lie on side 1 of the nudged states, and the post
    /// states at the convolutions' resolution.
    pub fn unpool_for_gradient(&mut self, setup: &Setup, weights: *const c_void) -> Result<()> {
        if self.gradient_pools.is_none() {
            self.gradient_pools = Some(self.plan_gradient_pools(setup)?);
        }
        let args = EqRelaxArgs {
            weights,
            ..raw_args()
        };
        for pool in self.gradient_pools.iter().flatten() {
            (pool.up.iter()).try_for_each(|up| up.launch(setup, args))?;
            (pool.down.iter())
                .try_for_each(|down| kernels::pool_down(&*setup.device, setup.format, down))?;
        }
        Ok(())
    }

    /// The same with the free state in the place of the mean, and its maxima, which were found with the pre-activations.
    pub fn unpool_at_free_state(&mut self, setup: &Setup) -> Result<()> {
        if self.gradient_pools.is_none() {
            self.gradient_pools = Some(self.plan_gradient_pools(setup)?);
        }
        self.freeze_maxima()?;
        for pool in self.gradient_pools.iter().flatten() {
            (pool.down.iter())
                .try_for_each(|down| kernels::pool_down(&*setup.device, setup.format, down))?;
        }
        Ok(())
    }

    fn plan_gradient_pools(&self, setup: &Setup) -> Result<Vec<GradientPool>> {
        let network = &setup.network;
        let states = self.states(Kind::Pair);
        let mut pools = Vec::new();
        for (e, edge) in network.edges().iter().enumerate() {
            let g = Geometry::of(network, e);
            if !g.pooled {
                continue;
            }
            let pool = self.pool(e);
            let post = &states[edge.post];
            if edge.pre == 0 {
                // The image is the same in both states, and so are its maxima.
                let component = |component: usize| EqPoolArgs {
                    form: EQ_FORM_STATES,
                    components: 1,
                    argmax: pool.argmax_free.ptr(),
                    post: [post.component(1, component, setup.format); 2]
                        .map(|p: *mut c_void| p.cast_const()),
                    unpooled: (pool.unpooled)
                        .at(component * pool.full_units * setup.format.bytes()),
                    ..self.pool_shape(&g)
                };
                pools.push(GradientPool {
                    up: None,
                    down: vec![component(0), component(1)],
                });
                continue;
            }
            let mut convolution = SweepBuilder::new(&setup.layout, setup.relax, self.images, 2);
            let target = Target {
                raw: pool.full.ptr(),
                component_stride: pool.full_units,
                ..Target::new(g.full)
            };
            let mut source = self.layer_source(setup, edge.pre, Kind::Pair, Side::Old);
            source.sides = [source.sides[1]; 2];
            let taps: Vec<_> = (taps_up(e, &g, &whole(g.full)).into_iter())
                .map(|tap| (tap, source))
                .collect();
            convolution.add(&target, &whole(g.full), &taps);
            let of_pair = EqPoolArgs {
                components: 2,
                form: EQ_FORM_PAIR,
                argmax: pool.argmax.ptr(),
                ..self.pool_shape(&g)
            };
            let up = PoolUp {
                convolution: convolution.build(&setup.device)?,
                args: EqPoolArgs {
                    full: pool.full.ptr(),
                    ..of_pair
                },
            };
            pools.push(GradientPool {
                up: (!g.average).then_some(up),
                down: vec![EqPoolArgs {
                    unpooled: pool.unpooled.ptr(),
                    post: [post.sides[1].ptr(); 2].map(|p: *mut c_void| p.cast_const()),
                    ..of_pair
                }],
            });
        }
        Ok(pools)
    }
}

/// The bounds of layer `l`'s units.
fn bounds(setup: &Setup, l: usize) -> (f32, f32) {
    let bounds = setup.network.layers()[l].activation.bounds();
    let everything = (f64::NEG_INFINITY, f64::INFINITY);
    let (low, high) = bounds.unwrap_or(everything);
    (low as f32, high as f32)
}

/// Where layer `l`'s bias lies.
fn bias_in(setup: &Setup, parameters: *const f32, l: usize) -> *const f32 {
    parameters.wrapping_add(setup.layout.start(setup.bias(l)))
}

fn non_empty(buffer: &Buffer<f32>) -> *const f32 {
    if buffer.is_empty() {
        std::ptr::null()
    } else {
        buffer.ptr()
    }
}

fn raw_args() -> EqRelaxArgs {
    EqRelaxArgs {
        form: EQ_FORM_RAW,
        ..EqRelaxArgs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::machine::device::CountingDevice;
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
        let setup = Setup {
            device: Arc::new(CountingDevice::default()),
            layout: Arc::new(Layout::new(&network)),
            network,
            format: Format::F16,
            relax: Relax::MmaNarrow,
        };
        let batch = Batch::new(&setup, std::ptr::null(), 1).unwrap();
        let in_place = |mode| -> Vec<usize> {
            let plan = batch
                .plan_iteration(&setup, (mode, Kind::Free, false))
                .unwrap();
            let layers = setup.network.free_layers();
            layers.filter(|&l| plan.side(l) == Side::Only).collect()
        };
        assert_eq!(in_place(Mode::Coloured), Vec::from_iter(1..=9));
        // Layers 2, 4, 6 and 8 are joined by skip edges.
        assert_eq!(in_place(Mode::Asynchronous), [1, 3, 5, 7, 9]);
        assert!(in_place(Mode::Synchronous).is_empty());
    }
}
