//! Device memory of a batch: its images, the states of its layers, and what is computed from them.

use super::pool::Pool;
use super::states::{Kind, State};
use crate::cuda::machine::abi::*;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels::{self, Format};
use crate::cuda::setup::Setup;
use crate::cuda::tables::geometry::Geometry;
use crate::cuda::tables::layout::padded;
use crate::error::{Result, ensure};
use std::ffi::c_void;

/// What `kernels/outcome.cu` writes per example, and its table of layers.
pub struct OutcomeBuffers {
    pub layers: Buffer<EqEnergyLayer>,
    pub energy: Buffer<f64>,
    pub cost: Buffer<f64>,
    pub prediction: Buffer<i32>,
    pub in_top5: Buffer<i32>,
}

/// The buffers of a batch.
pub struct Memory {
    pub images: usize,
    pub labels: Buffer<i32>,
    /// the input in fp32, for the constant part, and as an operand of the weight gradient
    pub input: Buffer<f32>,
    pub input_operand: Option<Buffer<u8>>,
    /// in fp32, where biases lie
    pub parameters: *const f32,
    /// `b_l + sum Op_e(input)` by layer; empty where no edge comes from the input, and the bias is all there is
    pub constant: Vec<Buffer<f32>>,
    /// pre-activations at the free state
    pub pre_activation: Vec<Buffer<f32>>,
    pub free: Vec<State>,
    nudged: Option<Vec<State>>,
    /// by layer where its units respond; made when a response is first asked for
    masks: Option<Vec<Buffer<u8>>>,
    /// what max-pool edges bring to a layer; two components
    addend: Vec<Option<Buffer<f32>>>,
    pub pools: Vec<Option<Pool>>,
    pub outcome: OutcomeBuffers,
    pub phase: Buffer<EqPhase>,
    /// what the output's pre-activation loses in a nudged phase; two components
    pub nudge: Buffer<f32>,
}

impl Memory {
    pub fn new(setup: &Setup, parameters: *const f32, images: usize) -> Result<Self> {
        let device = &setup.device;
        let layers = 0..setup.network().layers().len();
        for l in layers.clone() {
            let units = images * setup.units(l);
            ensure!(
                Mismatch,
                i32::try_from(units).is_ok(),
                "a batch of {images} is too large for the kernels: layer {:?} has {units} units, and they count to 2^31",
                setup.network().layers()[l].name
            );
        }
        let units = |l: usize| if l == 0 { 0 } else { images * setup.units(l) };
        let pooled_into = |l: usize| {
            let mut edges = setup.network().edges_into(l);
            edges.any(|(e, edge)| edge.pre != 0 && Geometry::of(setup.network(), e).pooled)
        };
        let input_units = images * setup.units(0);
        let constant_units = |l: usize| if setup.sees_input(l) { units(l) } else { 0 };
        let constant = (layers.clone())
            .map(|l| Buffer::new(device, constant_units(l)))
            .collect::<Result<Vec<_>>>()?;
        let pre_activation = (layers.clone())
            .map(|l| Buffer::new(device, units(l)))
            .collect::<Result<Vec<_>>>()?;
        let free = (layers.clone())
            .map(|l| State::new(device, units(l), 1, setup.format))
            .collect::<Result<Vec<_>>>()?;
        let energies: Vec<EqEnergyLayer> = (setup.network().free_layers())
            .map(|l| EqEnergyLayer {
                state: free[l].sides[0].ptr(),
                pre_activation: pre_activation[l].ptr(),
                constant: non_empty(&constant[l]),
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
            constant,
            pre_activation,
            free,
            nudged: None,
            masks: None,
            addend: (layers.clone())
                .map(|l| {
                    let buffer = || Buffer::new(device, 2 * units(l));
                    pooled_into(l).then(buffer).transpose()
                })
                .collect::<Result<_>>()?,
            pools: (0..setup.network().edges().len())
                .map(|e| Pool::new(setup, e, images))
                .collect::<Result<_>>()?,
            phase: Buffer::new(device, 1)?,
            nudge: Buffer::new(device, 2 * units(setup.network().output_index()))?,
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
            let states = (0..setup.network().layers().len()).map(state);
            self.nudged = Some(states.collect::<Result<_>>()?);
        }
        Ok(())
    }

    /// The states that relax in a phase of this kind.
    pub fn states(&self, kind: Kind) -> &[State] {
        match kind {
            Kind::Free => &self.free,
            _ => self.nudged(),
        }
    }

    /// The nudged states, which were allocated.
    pub fn nudged(&self) -> &[State] {
        let nudged = self.nudged.as_ref();
        nudged.expect("nudged states are allocated first")
    }

    /// Elementwise arguments over the nudged states of layer `l`.
    pub fn both_states(&self, kind: Kind, l: usize, format: Format) -> EqStateArgs {
        let nudged = &self.nudged()[l];
        EqStateArgs {
            free_state: self.free[l].sides[0].ptr(),
            first: nudged.component(0, 0, format),
            second: nudged.component(0, 1, format),
            count: nudged.units as u64,
            pair: u32::from(kind == Kind::Pair),
            ..EqStateArgs::default()
        }
    }

    /// Says where the layers respond: at the units whose value lies strictly inside of their bounds.
    pub fn write_masks(
        &mut self,
        setup: &Setup,
        format: Format,
        values: impl Fn(&Self, usize) -> *const c_void,
    ) -> Result<()> {
        let network = setup.network();
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
            let (low, high) = setup.bounds(l);
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

    /// Where layer `l` responds.
    pub fn mask(&self, l: usize) -> *const u8 {
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

    /// Where the bias of layer `l` lies.
    pub fn bias(&self, setup: &Setup, l: usize) -> *const f32 {
        bias_in(setup, self.parameters, l)
    }

    /// The constant part of layer `l`'s pre-activation; null where it has none.
    pub fn constant_of(&self, l: usize) -> *const f32 {
        non_empty(&self.constant[l])
    }

    /// What max-pool edges bring to layer `l`; null where there are none.
    pub fn addend_of(&self, l: usize) -> *const f32 {
        self.addend[l]
            .as_ref()
            .map_or(std::ptr::null(), |b| b.ptr())
    }

    pub fn pool(&self, e: usize) -> &Pool {
        self.pools[e].as_ref().expect("a max-pool edge has buffers")
    }
}

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
