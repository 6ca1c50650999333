//! Small training steps of both algorithms on kernels, and how far they are from the CPU backend in fp64: what has to notice defects in
//! the kernels, emulated (`tests/mutations.rs`) or compiled (`tests/interpreter/`).

use super::kernels::*;
use eqprop_cuda::Result;
use eqprop_cuda::cpu;
use eqprop_cuda::cuda::{CudaBackend, CudaFeedForward, Device, Format};
use eqprop_cuda::device;
use eqprop_cuda::feedforward::FeedForward;
use eqprop_cuda::network::{ActivationKind, Network, Pooling};
use eqprop_cuda::optim::OptimizerConfig;
use eqprop_cuda::phase::{CostFunction, NudgedPhase};
use std::sync::Arc;

/// Training steps that have to agree with the CPU backend in fp64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Steps {
    Fp16,
    Fp32,
    Backprop,
    /// recurrent and truncated backpropagation
    Linear,
    LinearFp16,
    /// equilibrium propagation with average pooling
    Averages,
    /// with products that are split
    Split,
    /// with phases that a loop ends, after an iteration that is launched and some turns of which the last one is too long
    Loop,
}

/// The tensor-core kernels first: most defects show there.
pub const ALL: [Steps; 8] = [
    Steps::Fp16,
    Steps::Backprop,
    Steps::Fp32,
    Steps::LinearFp16,
    Steps::Linear,
    Steps::Averages,
    Steps::Split,
    Steps::Loop,
];

impl Steps {
    /// What correct kernels stay below and a defect exceeds.
    pub fn tolerance(self) -> f64 {
        match self {
            Steps::Fp16 | Steps::LinearFp16 | Steps::Split => 2e-2,
            Steps::Fp32 | Steps::Linear | Steps::Backprop | Steps::Averages | Steps::Loop => 1e-3,
        }
    }

    /// The largest error of two training steps on this device, or what was found.
    pub fn error(self, device: &Arc<dyn Device>) -> Result<f64> {
        let channels = [4, 6, 8, 9];
        let network = |name: &str, inputs: usize| {
            preset(name, channels, inputs, 10, ActivationKind::HardSigmoid)
        };
        let (resnet13, vgg5) = (network("hopfieldresnet13", 3), network("vgg5", 1));
        let (mse, ce) = (CostFunction::Mse, CostFunction::Ce);
        match self {
            Steps::Fp16 => ep_error(&resnet13, mse, Format::F16, device),
            Steps::Fp32 => {
                let error = ep_error(&resnet13, mse, Format::F32, device)?;
                Ok(error.max(ep_error(&vgg5, ce, Format::F32, device)?))
            }
            Steps::Averages => ep_error(&averages(&vgg5), mse, Format::F32, device),
            Steps::LinearFp16 => linear_error(&resnet13, Format::F16, device),
            Steps::Split => ep_error(&split_network(), mse, Format::F16, device),
            Steps::Loop => {
                let recipe = Recipe {
                    form: NudgedPhase::SumDifference,
                    free: 13,
                    nudged: 10,
                    tolerance: Some(1e-9),
                    ..Recipe::default()
                };
                error(&vgg5, &recipe, Format::F32, device)
            }
            Steps::Linear => {
                let error = linear_error(&resnet13, Format::F32, device)?;
                Ok(error.max(linear_error(&vgg5, Format::F32, device)?))
            }
            Steps::Backprop => {
                let models = [("resnet13", 3), ("vgg5", 1)];
                models.iter().try_fold(0.0, |worst: f64, (name, inputs)| {
                    let model = FeedForward::preset(name, *inputs, 10, channels).unwrap();
                    Ok(feed_forward_error(&model, device)?.max(worst))
                })
            }
        }
    }
}

/// With means in the place of maxima.
fn averages(network: &Network) -> Network {
    let mut edges = network.edges().to_vec();
    for edge in edges.iter_mut().filter(|e| e.pooling != Pooling::None) {
        edge.pooling = Pooling::Average2x2;
    }
    Network::new("averages", network.layers().to_vec(), edges).unwrap()
}

fn ep_error(
    network: &Network,
    cost: CostFunction,
    format: Format,
    device: &Arc<dyn Device>,
) -> Result<f64> {
    let recipe = Recipe {
        form: NudgedPhase::SumDifference,
        cost,
        beta: 2.0,
        ..Recipe::default()
    };
    error(network, &recipe, format, device)
}

/// Of recurrent and of truncated backpropagation.
fn linear_error(network: &Network, format: Format, device: &Arc<dyn Device>) -> Result<f64> {
    let recipe = |is_truncated| Recipe {
        form: NudgedPhase::Linear,
        is_truncated,
        ..Recipe::default()
    };
    let recurrent = error(network, &recipe(false), format, device)?;
    Ok(recurrent.max(error(network, &recipe(true), format, device)?))
}

fn error(
    network: &Network,
    recipe: &Recipe,
    format: Format,
    device: &Arc<dyn Device>,
) -> Result<f64> {
    let parameters = random_parameters(network, 1);
    let batches = [random_images(network, 3, 1), random_images(network, 3, 2)];
    let mut truth = cpu::backend::<f64>(network);
    truth.set_parameters(&parameters).unwrap();
    let want = train(&mut *truth, network, &batches, recipe).unwrap();
    let mut kernels = CudaBackend::new(network, device.clone(), format)?;
    eqprop_cuda::phase::Backend::set_parameters(&mut kernels, &parameters)?;
    let got = train(&mut kernels, network, &batches, recipe)?;
    let (got, want) = match format {
        Format::F32 => (got, want),
        Format::F16 => (
            got.without_what_fp16_rounds_away(),
            want.without_what_fp16_rounds_away(),
        ),
    };
    Ok(worst(&got, &want, |_| 0.1).0)
}

fn feed_forward_error(model: &FeedForward, device: &Arc<dyn Device>) -> Result<f64> {
    let adam = OptimizerConfig::Adam { weight_decay: 0.1 };
    let state = model.initialise(1);
    let batches = [1, 2].map(|seed| random_images(model.network(), 5, seed));
    let mut truth = (device::Device::Cpu.feed_forward(model, device::Precision::Fp64)).unwrap();
    truth.set_state(&state).unwrap();
    let want = train_feed_forward(&mut *truth, model, &batches, adam).unwrap();
    let mut kernels = CudaFeedForward::new(model, device.clone(), Format::F32)?;
    eqprop_cuda::feedforward::Backend::set_state(&mut kernels, &state)?;
    let got = train_feed_forward(&mut kernels, model, &batches, adam)?;
    Ok(worst(&got, &want, |_| 0.1).0)
}
