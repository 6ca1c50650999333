//! The state that a batch leaves to the next.

use super::batch::Batch;
use super::exchange;
use super::states::Kind;
use crate::cuda::machine::abi::EqStateArgs;
use crate::cuda::machine::device::Buffer;
use crate::cuda::machine::kernels;
use crate::cuda::setup::Setup;
use crate::error::{Result, ensure};
use crate::phase::check_layers;
use ndarray::ArrayD;

/// A state that the next batch starts from, in the operand format. The buffers outlive what they hold: allocating them
/// for each batch would make the GPU wait.
pub struct Kept {
    pub images: usize,
    pub layers: Vec<Buffer<u8>>,
    /// whether a batch may start from it
    pub present: bool,
}

impl Kept {
    /// Buffers for a state of so many images.
    pub fn new(setup: &Setup, images: usize) -> Result<Self> {
        let layer = |l: usize| {
            let units = if l == 0 { 0 } else { images * setup.units(l) };
            Buffer::new(&setup.device, units * setup.format.bytes())
        };
        let layers = (0..setup.network().layers().len()).map(layer);
        Ok(Self {
            images,
            layers: layers.collect::<Result<_>>()?,
            present: true,
        })
    }

    /// Takes the state that a batch leaves: the second nudged one, or the end of a trajectory, or the free state where it has but a
    /// response.
    pub fn take(&self, setup: &Setup, batch: &Batch, kind: Kind) -> Result<()> {
        for l in setup.network().free_layers() {
            let layer = &self.layers[l];
            match kind {
                Kind::Onward => batch.trajectory()?.copy_end(l, layer)?,
                Kind::Response => {
                    let free = &batch.memory.free[l].sides[0];
                    layer.copy_from(0, free, 0, free.len())?;
                }
                _ => {
                    let args = EqStateArgs {
                        out_first: layer.ptr(),
                        ..batch.memory.both_states(kind, l, setup.format)
                    };
                    kernels::second_state(&*setup.device, setup.format, &args)?;
                }
            }
        }
        Ok(())
    }

    /// For the interface.
    pub fn export(&self, setup: &Setup) -> Result<Vec<ArrayD<f64>>> {
        let free = setup.network().free_layers();
        free.map(|l| exchange::read(setup, l, self.images, &self.layers[l]))
            .collect()
    }

    /// From the interface.
    pub fn import(setup: &Setup, state: &[ArrayD<f64>]) -> Result<Self> {
        let free = setup.network().free_layers();
        check_layers(setup.network(), state)?;
        let images = state[0].shape().first().copied().unwrap_or(0);
        let mut layers = vec![Buffer::new(&setup.device, 0)?];
        for (l, state) in free.zip(state) {
            let values = exchange::import(setup, l, state)?;
            ensure!(
                Mismatch,
                state.shape()[0] == images,
                "the state of layer {l} has {} examples, that of layer 1 has {images}",
                state.shape()[0]
            );
            let bytes = exchange::encode(setup.format, &values);
            layers.push(Buffer::from_slice(&setup.device, &bytes)?);
        }
        Ok(Self {
            images,
            layers,
            present: true,
        })
    }
}
