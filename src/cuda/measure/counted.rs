//! What launches execute, counted by the interpreter of the compiled kernels, beside what the model of [`super::estimate`] says of the
//! same tiles.
//!
//! Counted is one image, on a GPU that is smaller by as much as the batch is. K is split for it as for any launch of few tiles. Model and
//! count need not be equal: the interpreter runs PTX for compute_80, from which `ptxas` makes the machine code that the model's constants
//! were read off; and where a tile hangs over the end of the image, its masked lanes cost instructions but no bytes.

use super::chip::Chip;
use super::estimate::model;
use super::model::Launch;
use super::relaxation::{each_update, trained, update};
use crate::cuda::machine::abi::EQ_TILE_NONE;
use crate::cuda::machine::device::Device;
use crate::cuda::machine::interpreted::{InterpretedDevice, Settings};
use crate::cuda::machine::kernels::Format;
use crate::error::Result;
use crate::network::Network;
use ptx_interpreter::Report;
use std::sync::Arc;

/// Which kernels are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `kernels/relax_mma.cu`, which the model describes instruction by instruction
    Mma,
    /// `kernels/relax_hopper.cu`
    Hopper,
}

/// The update of one layer, with one image.
#[derive(Debug, Clone)]
pub struct Counted {
    /// as [`super::Measurement`] names the same launch
    pub kernel: &'static str,
    /// the layer and its units
    pub shape: String,
    /// blocks of tiles, those that join parts included
    pub tiles: usize,
    /// by the model, where it has one of these kernels
    pub modelled: Option<Launch>,
    /// as it was counted
    pub report: Report,
}

/// Updates of each layer alone, in fp16, by the tiles that a batch of so many images is divided into on `chip`.
///
/// # Errors
/// When this build has no such kernels, or they cannot compute the network.
pub fn counts(
    network: &Network,
    images: usize,
    chip: &Chip,
    family: Family,
) -> Result<Vec<Counted>> {
    let mut settings = Settings::default();
    // Tests look for races; here they would only cost time.
    settings.options.checks = false;
    settings.options.bank_conflicts = true;
    let scaled = chip.multiprocessors.value / images.max(1) as f64;
    settings.multiprocessors = scaled.round().max(1.0) as usize;
    let interpreted = InterpretedDevice::with(InterpretedDevice::kernels()?, settings);
    let interpreted = Arc::new(match family {
        Family::Mma => interpreted,
        Family::Hopper => interpreted.with_hopper(InterpretedDevice::hopper_kernels()?),
    });
    let device: Arc<dyn Device> = interpreted.clone();
    let backend = trained(network, &device, Format::F16, 1)?;
    let mut table = Vec::new();
    each_update(&backend, &device, |l, kind, sweep, args| {
        interpreted.take_reports();
        sweep.launch(&*device, args)?;
        let mut report = Report::default();
        for launch in interpreted.take_reports().values() {
            report.add(launch);
        }
        let line = update(backend.setup(), l, kind, 1);
        let (list, ..) = sweep.tiles();
        let tiles = list.tiles.iter().chain(&list.joins);
        table.push(Counted {
            kernel: line.kernel,
            shape: line.shape,
            tiles: tiles.filter(|tile| tile.kind != EQ_TILE_NONE).count(),
            modelled: match family {
                Family::Mma => Some(model(sweep, kind, (line.operations, line.bytes), chip)),
                Family::Hopper => None,
            },
            report,
        });
        Ok(())
    })?;
    Ok(table)
}
