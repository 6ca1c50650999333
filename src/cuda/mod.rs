//! The CUDA backend: training on one GPU with the project's own kernels (`kernels/`, and its README).
//!
//! Four rooms, each of which knows only those before it:
//!
//! - `machine/` is what runs kernels: [`Device`], a GPU or the emulation of one on the CPU (cargo feature `emulation`),
//!   or the interpreter of what nvcc made of them (feature `interpreter`),
//!   and the launch wrappers of [`kernels`], the only place that knows block sizes;
//! - `tables/` turns a network into the tables that a launch reads;
//! - `phase/` relaxes ([`CudaBackend`] is the [`Backend`]);
//! - `feedforward/` does the same for networks trained by backpropagation, of the same sweeps and products.
//!
//! The structs that host and kernels share are declared once, in `kernels/abi.h`; [`abi`] is generated from it by
//! `kernels/generate_abi.sh` and checked in, so that building needs no libclang.

mod feedforward;
mod machine;
pub mod measure;
mod parameters;
mod phase;
mod recent;
mod setup;
mod tables;

pub use feedforward::CudaFeedForward;
pub use machine::capabilities::Capabilities;
pub use machine::device::{Buffer, Device, KernelSpec, peak_bytes};
pub use machine::driver::{Gpu, GpuInfo, driver_version, list_gpus};
#[cfg(feature = "emulation")]
pub use machine::emulated;
pub use machine::error::CudaError;
pub use machine::image::architectures as kernel_architectures;
#[cfg(feature = "interpreter")]
pub use machine::interpreted;
pub use machine::kernels::Format;
pub use machine::tensor_map::TensorMap;
pub use machine::{abi, kernels};
pub use phase::CudaBackend;

use crate::error::Result;
use crate::feedforward::{Backend as FeedForwardBackend, FeedForward};
use crate::network::{Mode, Network};
use crate::optim::OptimizerConfig;
use crate::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, OutputCondition, Relaxation, Start, Variant,
};
use machine::device::CountingDevice;
use ndarray::Array4;
use std::sync::Arc;

/// Makes the backend for a network on GPU number `ordinal`, with all parameters at zero.
///
/// # Errors
/// When there is no such GPU, this build has no kernels, or the kernels cannot compute the network.
pub fn backend(network: &Network, ordinal: usize, format: Format) -> Result<Box<dyn Backend>> {
    let device: Arc<dyn Device> = Arc::new(Gpu::open(ordinal)?);
    Ok(Box::new(CudaBackend::new(network, device, format)?))
}

/// Makes the backend of a feed-forward network on GPU number `ordinal`, with all parameters at zero.
///
/// # Errors
/// When there is no such GPU, this build has no kernels, or the kernels cannot compute the network.
pub fn feed_forward(
    model: &FeedForward,
    ordinal: usize,
    format: Format,
) -> Result<Box<dyn FeedForwardBackend>> {
    let device: Arc<dyn Device> = Arc::new(Gpu::open(ordinal)?);
    Ok(Box::new(CudaFeedForward::new(model, device, format)?))
}

/// [`memory_need`] of training a feed-forward network.
///
/// # Errors
/// When the kernels cannot compute the network.
pub fn feed_forward_memory_need(
    model: &FeedForward,
    format: Format,
    images: usize,
    optimizer: OptimizerConfig,
) -> Result<usize> {
    use crate::feedforward::{Backend, NormMode};
    let device = Arc::new(CountingDevice::default());
    let mut backend = CudaFeedForward::new(model, device.clone(), format)?;
    backend.set_optimizer(optimizer)?;
    let shape = model.network().input().shape;
    let input = Array4::zeros((images, shape.channels, shape.height, shape.width));
    backend.forward(&input, &vec![0; images], NormMode::Train)?;
    backend.backward()?;
    Ok(device.bytes())
}

/// Bytes of device memory that training takes with batches of so many images, nearly all of it for states: found by
/// going through a training step on a device that only counts. With `truncated` it is truncated backpropagation through so many iterations,
/// else a pair of nudged phases; a linear response takes no more than these.
///
/// # Errors
/// When the kernels cannot compute the network.
pub fn memory_need(
    network: &Network,
    format: Format,
    images: usize,
    optimizer: OptimizerConfig,
    truncated: Option<usize>,
) -> Result<usize> {
    let device = Arc::new(CountingDevice::default());
    let mut backend = CudaBackend::new(network, device.clone(), format)?;
    backend.set_optimizer(optimizer)?;
    let shape = network.input().shape;
    let input = Array4::zeros((images, shape.channels, shape.height, shape.width));
    let relaxation = Relaxation {
        mode: Mode::Asynchronous,
        iterations: 1,
        omega: 1.0,
        tolerance: None,
    };
    let nudging = Nudging {
        beta: 1.0,
        variant: Variant::Centered,
        form: NudgedPhase::SumDifference,
        output: OutputCondition::Nudged,
    };
    // Twice, because the second batch keeps the first one's state.
    for _ in 0..2 {
        backend.load_batch(&input, &vec![0; images], Start::Kept)?;
        backend.free_phase(&relaxation)?;
        match truncated {
            Some(iterations) => {
                let relaxation = Relaxation {
                    iterations,
                    ..relaxation
                };
                backend.truncated_backpropagation(CostFunction::Mse, &relaxation)?;
            }
            None => {
                backend.nudged_phases(&nudging, CostFunction::Mse, &relaxation)?;
                backend.estimate_gradient()?;
            }
        }
    }
    Ok(device.bytes())
}

/// [`backend`] on the emulated GPU.
///
/// # Errors
/// When the kernels cannot compute the network, or EQPROP_WHILE is neither `on` nor `off`.
#[cfg(feature = "emulation")]
pub fn emulated_backend(network: &Network, format: Format) -> Result<Box<dyn Backend>> {
    let loops = machine::capabilities::loops_wanted()?;
    let device: Arc<dyn Device> = Arc::new(emulated::EmulatedDevice::new().with_loops(loops));
    Ok(Box::new(CudaBackend::new(network, device, format)?))
}

/// [`feed_forward`] on the emulated GPU.
///
/// # Errors
/// When the kernels cannot compute the network.
#[cfg(feature = "emulation")]
pub fn emulated_feed_forward(
    model: &FeedForward,
    format: Format,
) -> Result<Box<dyn FeedForwardBackend>> {
    let device: Arc<dyn Device> = Arc::new(emulated::EmulatedDevice::new());
    Ok(Box::new(CudaFeedForward::new(model, device, format)?))
}

/// [`backend`] on the interpreter of compiled kernels.
///
/// # Errors
/// When this build has none, or they cannot compute the network.
#[cfg(feature = "interpreter")]
pub fn interpreted_backend(network: &Network, format: Format) -> Result<Box<dyn Backend>> {
    let device: Arc<dyn Device> = Arc::new(interpreted::InterpretedDevice::new()?);
    Ok(Box::new(CudaBackend::new(network, device, format)?))
}

/// [`feed_forward`] on the interpreter of compiled kernels.
///
/// # Errors
/// When this build has none, or they cannot compute the network.
#[cfg(feature = "interpreter")]
pub fn interpreted_feed_forward(
    model: &FeedForward,
    format: Format,
) -> Result<Box<dyn FeedForwardBackend>> {
    let device: Arc<dyn Device> = Arc::new(interpreted::InterpretedDevice::new()?);
    Ok(Box::new(CudaFeedForward::new(model, device, format)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::ActivationKind;
    use crate::network::presets::{self, PAPER_CHANNELS, PresetOptions};
    use rand::SeedableRng;

    #[test]
    fn truncated_backpropagation_keeps_a_state_for_each_iteration() {
        let options = PresetOptions {
            input_channels: 1,
            classes: 8,
            channels: [8; 4],
            activation: ActivationKind::Relu6,
            gains: None,
        };
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        let network = presets::build("hopfieldresnet13", &options, &mut rng).unwrap();
        let sgd = OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 0.0,
        };
        let need = |iterations| memory_need(&network, Format::F16, 3, sgd, Some(iterations));
        let units = network.layers()[1..]
            .iter()
            .map(|layer| layer.shape.units());
        let state = 2 * 3 * units.sum::<usize>();
        assert_eq!(need(11).unwrap() - need(4).unwrap(), 7 * state);
    }

    #[test]
    fn memory_need_is_that_of_the_states() {
        let options = PresetOptions {
            input_channels: 3,
            classes: 10,
            channels: PAPER_CHANNELS,
            activation: ActivationKind::Relu6,
            gains: None,
        };
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        let network = presets::build("hopfieldresnet13", &options, &mut rng).unwrap();
        let need = |images| {
            let sgd = OptimizerConfig::Sgd {
                momentum: 0.9,
                weight_decay: 0.0,
            };
            memory_need(&network, Format::F16, images, sgd, None).unwrap() as f64
        };
        // Per image: pre-activation in fp32, two sides of the free state and of the pair in fp16, and the kept state:
        // 4 + 2 x 2 + 2 x 4 + 2 bytes per unit, four more for the constant part of the layers that the input reaches, and little else.
        let units = |l: usize| network.layers()[l].shape.units();
        // From batches on that have so many tiles that K is split nowhere: the sums of parts take memory, too.
        let per_image = (need(512) - need(256)) / 256.0;
        let driven = network.edges().iter().filter(|edge| edge.pre == 0);
        let driven: usize = driven.map(|edge| units(edge.post)).sum();
        let expected = (18 * network.free_layers().map(units).sum::<usize>() + 4 * driven) as f64;
        assert!(
            per_image > expected && per_image < 1.1 * expected,
            "{per_image} instead of {expected}"
        );
    }
}
