//! Parameters on the device, and the optimizer that moves them: the same for every kind of learning.

use super::machine::abi::*;
use super::machine::device::{Buffer, Device};
use super::machine::kernels::{self, Format};
use super::tables::layout::Layout;
use crate::error::{Error, Result, ensure};
use crate::network::ParameterSet;
use crate::optim::{ADAM_EPSILON, BETA1, BETA2, NORM_EPSILON, OptimizerConfig, OptimizerState};
use std::ffi::c_void;
use std::sync::Arc;

struct Optimizer {
    config: OptimizerConfig,
    steps: u64,
    moments: Vec<Buffer<f32>>,
}

/// The fp32 master, its 16-bit copy, the gradient, and the optimizer's moments, all in one [`Layout`].
pub struct Parameters {
    device: Arc<dyn Device>,
    layout: Arc<Layout>,
    master: Buffer<f32>,
    /// the copy that tensor-core kernels read
    packed: Option<Buffer<u8>>,
    pub gradient: Buffer<f32>,
    tensor_of_block: Buffer<u32>,
    rates: Buffer<f32>,
    optimizer: Option<Optimizer>,
}

impl Parameters {
    /// All parameters are zero.
    pub fn new(device: &Arc<dyn Device>, layout: &Arc<Layout>, format: Format) -> Result<Self> {
        let packed = match format {
            Format::F32 => None,
            Format::F16 => Some(Buffer::zeros(device, 2 * layout.len())?),
        };
        Ok(Self {
            device: device.clone(),
            layout: layout.clone(),
            master: Buffer::zeros(device, layout.len())?,
            packed,
            gradient: Buffer::zeros(device, layout.len())?,
            tensor_of_block: Buffer::from_slice(device, &layout.tensor_of_block())?,
            rates: Buffer::zeros(device, layout.tensors())?,
            optimizer: None,
        })
    }

    pub fn master(&self) -> *const f32 {
        self.master.ptr::<f32>().cast_const()
    }

    /// Weights in the format of a product's operands.
    pub fn operands(&self) -> *const c_void {
        match &self.packed {
            Some(packed) => packed.ptr::<c_void>().cast_const(),
            None => self.master.ptr::<c_void>().cast_const(),
        }
    }

    pub fn read(&self) -> Result<ParameterSet<f64>> {
        Ok(self.layout.unpack(&self.master.read()?))
    }

    pub fn write(&self, parameters: &ParameterSet<f64>) -> Result<()> {
        self.master.write(&self.layout.pack(parameters))?;
        let Some(packed) = &self.packed else {
            return Ok(());
        };
        let args = EqPackArgs {
            parameters: self.master.ptr(),
            packed: packed.ptr(),
            count: self.layout.len() as u64,
        };
        kernels::pack_parameters(&*self.device, &args)
    }

    pub fn read_gradient(&self) -> Result<ParameterSet<f64>> {
        Ok(self.layout.unpack(&self.gradient.read()?))
    }

    pub fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()> {
        let moments = config.moments();
        let zeros = || Buffer::zeros(&self.device, self.layout.len());
        self.optimizer = Some(Optimizer {
            config,
            steps: 0,
            moments: (0..moments).map(|_| zeros()).collect::<Result<_>>()?,
        });
        Ok(())
    }

    pub fn optimizer_state(&self) -> Result<OptimizerState> {
        let optimizer = self
            .optimizer
            .as_ref()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        let mut state = OptimizerState {
            steps: optimizer.steps,
            moments: Vec::new(),
        };
        if optimizer.steps > 0 {
            for moment in &optimizer.moments {
                state.moments.push(self.layout.unpack(&moment.read()?));
            }
        }
        Ok(state)
    }

    pub fn set_optimizer_state(&mut self, state: &OptimizerState) -> Result<()> {
        let optimizer = self
            .optimizer
            .as_mut()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        ensure!(
            Mismatch,
            state.moments.is_empty() || state.moments.len() == optimizer.moments.len(),
            "the optimizer's state has {} moments, but this optimizer keeps {}",
            state.moments.len(),
            optimizer.moments.len()
        );
        optimizer.steps = state.steps;
        for (i, buffer) in optimizer.moments.iter().enumerate() {
            match state.moments.get(i) {
                Some(moment) => buffer.write(&self.layout.pack(moment))?,
                None => buffer.zero()?,
            }
        }
        Ok(())
    }

    /// Clips the gradient, whose global norm is `norm`, to `max_norm` and moves every tensor by its own learning rate.
    pub fn step(
        &mut self,
        learning_rates: &[f64],
        norm: &Buffer<f64>,
        max_norm: f64,
    ) -> Result<()> {
        let layout = &self.layout;
        ensure!(
            Mismatch,
            learning_rates.len() == layout.tensors(),
            "{} learning rates for {} parameter tensors",
            learning_rates.len(),
            layout.tensors()
        );
        let optimizer = self
            .optimizer
            .as_mut()
            .ok_or(Error::OutOfOrder("no optimizer is set"))?;
        optimizer.steps += 1;
        let rates: Vec<f32> = learning_rates.iter().map(|&rate| rate as f32).collect();
        self.rates.write(&rates)?;
        let (kind, momentum, weight_decay) = match optimizer.config {
            OptimizerConfig::Sgd {
                momentum,
                weight_decay,
            } => (EQ_OPTIMIZER_SGD, momentum, weight_decay),
            OptimizerConfig::HeavyBall {
                momentum,
                weight_decay,
            } => (EQ_OPTIMIZER_HEAVY_BALL, momentum, weight_decay),
            OptimizerConfig::Adam { weight_decay } => (EQ_OPTIMIZER_ADAM, 0.0, weight_decay),
            OptimizerConfig::AdamW { weight_decay } => (EQ_OPTIMIZER_ADAMW, 0.0, weight_decay),
        };
        let t = optimizer.steps as f64;
        let or_null =
            |buffer: Option<&Buffer<f32>>| buffer.map_or(std::ptr::null_mut(), Buffer::ptr);
        let args = EqOptimizerArgs {
            parameters: self.master.ptr(),
            packed: (self.packed.as_ref()).map_or(std::ptr::null_mut(), Buffer::ptr),
            gradient: self.gradient.ptr(),
            first: or_null(optimizer.moments.first()),
            second: or_null(optimizer.moments.get(1)),
            norm: norm.ptr(),
            rates: self.rates.ptr(),
            tensor_of_block: self.tensor_of_block.ptr(),
            kind,
            momentum: momentum as f32,
            weight_decay: weight_decay as f32,
            beta1: BETA1 as f32,
            beta2: BETA2 as f32,
            epsilon: ADAM_EPSILON as f32,
            correction1: (1.0 / (1.0 - BETA1.powf(t))) as f32,
            correction2: (1.0 / (1.0 - BETA2.powf(t)).sqrt()) as f32,
            max_norm,
            norm_epsilon: NORM_EPSILON,
        };
        kernels::optimizer_step(&*self.device, layout.blocks(), &args)
    }
}
