//! Launch wrappers: the only place that knows grid and block sizes.
//!
//! A wrapper takes a kernel's argument struct and derives the number of blocks from it. Thread counts are those of the
//! constants at the top of each kernel file (the emulation compares them at every launch), shared bytes those of its
//! `Shared` struct (it guards the end). Every wrapper fails when the device refuses the launch.

#![expect(clippy::missing_errors_doc, reason = "said once above")]

use super::abi::*;
use super::capabilities::Capabilities;
use super::device::{Device, KernelSpec, Plain, bytes_of, plain};
use crate::error::Result;
use half::f16;

plain!(
    EqTile,
    EqTarget,
    EqRun,
    EqTap,
    EqSource,
    EqPhase,
    EqChange,
    EqEnergyLayer,
    EqGradEdge,
    EqGradTile,
    EqBiasTile,
    EqGatherBlock,
    EqBatchNorm,
    EqHopperTarget,
    EqHopperTap,
    EqHopperGradEdge,
    EqHopperGradTap
);
plain!(
    EqRelaxArgs,
    EqHopperArgs,
    EqHopperGradArgs,
    EqAdvanceArgs,
    EqLoopArgs,
    EqNudgeArgs,
    EqPoolArgs,
    EqStateArgs,
    EqMaskArgs,
    EqStatisticsArgs,
    EqOutcomeArgs,
    EqGradArgs,
    EqBiasArgs,
    EqGatherArgs,
    EqNormArgs,
    EqOptimizerArgs,
    EqPackArgs,
    EqBatchNormArgs,
    EqLossArgs
);

/// Format of states and of a product's operands; sums and master weights are fp32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// fp32, on ordinary cores: the parity anchor, several times slower
    F32,
    /// fp16, on tensor cores; trustworthy with nudged phases in sum-and-difference form
    F16,
}

impl Format {
    /// As users call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "fp32",
            Self::F16 => "fp16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// Values as they lie in device memory.
    pub fn encode(self, values: impl Iterator<Item = f32>) -> Vec<u8> {
        match self {
            Self::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Self::F16 => values
                .flat_map(|v| f16::from_f32(v).to_le_bytes())
                .collect(),
        }
    }

    fn pick(self, f32: KernelSpec, f16: KernelSpec) -> KernelSpec {
        match self {
            Self::F32 => f32,
            Self::F16 => f16,
        }
    }
}

const fn spec(name: &'static str, threads: u32, shared_bytes: u32) -> KernelSpec {
    KernelSpec {
        name,
        threads,
        shared_bytes,
    }
}

/// Rows of a tile hold this many pixels when there are so many components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileShape {
    /// pixels times components
    pub rows: usize,
    /// columns: channels of the post layer
    pub channels: usize,
}

/// A version of the relaxation step: same interface, different arithmetic and tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relax {
    /// fp32 on ordinary cores
    Simt,
    /// fp16 on tensor cores, 128 channels to a tile
    MmaWide,
    /// the same with 64 channels to a tile
    MmaMedium,
    /// the same with 32 channels to a tile, for narrow networks
    MmaNarrow,
    /// fp16 on Hopper's tensor cores: products of warpgroups, copies by tensor map
    Hopper,
}

/// Bytes of the stages of a product whose two tiles have so many rows together (`kernels/mma_slices.cuh`).
const fn slices(rows: u32) -> u32 {
    EQ_MMA_STAGES * rows * EQ_MMA_DEPTH * 2
}

/// Shared memory of a tensor-core tile of so many channels: its stages, its rows, and the changes of its cells.
const fn relax_mma_bytes(channels: u32) -> u32 {
    let cells = (EQ_MMA_ROWS / EQ_CHANGE_ROWS) * (channels / EQ_CHANGE_CHANNELS);
    slices(EQ_MMA_ROWS + channels)
        + EQ_MMA_ROWS * EQ_MMA_ROW_BYTES
        + cells * size_of::<EqChange>() as u32
}

/// The most shared memory that a kernel takes.
pub const LARGEST_SHARED_BYTES: u32 = relax_mma_bytes(EQ_MMA_WIDE);

/// Shared memory of `relax_simt`: slices of 16 channels with four elements of padding a row, and the changes of four warps.
const RELAX_SIMT_BYTES: u32 =
    4 * 16 * (EQ_SIMT_ROWS + 4 + EQ_SIMT_COLUMNS + 4) + 4 * size_of::<EqChange>() as u32;

/// Shared memory of the kernels for Hopper: the ring, its barriers, the changes of two tiles, and room to begin at a multiple of 1024
/// (`kernels/hopper/ring.cuh`).
const HOPPER_BYTES: u32 = {
    let boxes = EQ_HOPPER_ROWS / EQ_HOPPER_BOX + EQ_HOPPER_COLUMNS / EQ_HOPPER_DEPTH;
    let ring = EQ_HOPPER_SLOTS * boxes * EQ_HOPPER_BOX * EQ_HOPPER_DEPTH * 2;
    let strips = EQ_HOPPER_COLUMNS / EQ_CHANGE_CHANNELS;
    ring + EQ_HOPPER_SLOTS * 16 + 2 * strips * 8 * size_of::<EqChange>() as u32 + 1024
};

/// Networks whose widest layer has at most so many channels use the narrow tiles.
const NARROW: usize = 64;

impl Relax {
    /// The version for states of a format, on a network whose widest layer has so many (padded) channels, and on a machine that
    /// can do so much. The one place where this is decided.
    pub fn choose(format: Format, widest: usize, machine: Capabilities) -> Self {
        match format {
            Format::F32 => Self::Simt,
            // It computes networks of any width; that it pays for narrow ones is not claimed.
            Format::F16 if machine.hopper => Self::Hopper,
            Format::F16 if widest <= NARROW => Self::MmaNarrow,
            Format::F16 => Self::MmaWide,
        }
    }

    /// Its tile.
    pub fn tile(self) -> TileShape {
        let (rows, channels) = match self {
            Self::Simt => (EQ_SIMT_ROWS, EQ_SIMT_COLUMNS),
            Self::MmaWide => (EQ_MMA_ROWS, EQ_MMA_WIDE),
            Self::MmaMedium => (EQ_MMA_ROWS, EQ_MMA_MEDIUM),
            Self::MmaNarrow => (EQ_MMA_ROWS, EQ_MMA_NARROW),
            Self::Hopper => (EQ_HOPPER_ROWS, EQ_HOPPER_COLUMNS),
        };
        TileShape {
            rows: rows as usize,
            channels: channels as usize,
        }
    }

    /// The version with the next smaller tiles, which computes the same bits; the smallest has none.
    pub fn finer(self) -> Option<Self> {
        match self {
            Self::MmaWide => Some(Self::MmaMedium),
            Self::MmaMedium => Some(Self::MmaNarrow),
            Self::MmaNarrow | Self::Simt | Self::Hopper => None,
        }
    }

    /// Its kernel for a form (`EQ_FORM_*`), in which the number of components is implied except for raw and states; on Hopper for blocks in
    /// clusters, too.
    fn kernel(self, form: u32, components: usize, in_clusters: bool) -> KernelSpec {
        macro_rules! forms {
            ($prefix:literal, $suffix:literal, $threads:expr, $bytes:expr) => {{
                let name = match (form, components) {
                    (EQ_FORM_PAIR, _) => concat!($prefix, "_pair", $suffix),
                    (EQ_FORM_RESPONSE, _) => concat!($prefix, "_response", $suffix),
                    (EQ_FORM_STATES, 1) => concat!($prefix, "_states_1", $suffix),
                    (EQ_FORM_STATES, _) => concat!($prefix, "_states_2", $suffix),
                    (_, 1) => concat!($prefix, "_raw_1", $suffix),
                    (_, _) => concat!($prefix, "_raw_2", $suffix),
                };
                spec(name, $threads, $bytes)
            }};
        }
        const THREADS: u32 = EQ_RELAX_THREADS;
        const HOPPER: u32 = EQ_HOPPER_THREADS;
        let bytes = relax_mma_bytes;
        match self {
            Self::Simt => forms!("relax_simt", "", THREADS, RELAX_SIMT_BYTES),
            Self::MmaWide => forms!("relax_mma_wide", "", THREADS, bytes(EQ_MMA_WIDE)),
            Self::MmaMedium => forms!("relax_mma_medium", "", THREADS, bytes(EQ_MMA_MEDIUM)),
            Self::MmaNarrow => forms!("relax_mma_narrow", "", THREADS, bytes(EQ_MMA_NARROW)),
            Self::Hopper if in_clusters => {
                forms!("relax_hopper", "_cluster", HOPPER, HOPPER_BYTES)
            }
            Self::Hopper => forms!("relax_hopper", "", HOPPER, HOPPER_BYTES),
        }
    }

    /// The kernel is that of `args.form`.
    pub fn launch(
        self,
        device: &dyn Device,
        components: usize,
        tiles: usize,
        args: &EqRelaxArgs,
    ) -> Result<()> {
        launch(
            device,
            self.kernel(args.form, components, false),
            tiles,
            args,
        )
    }

    /// The same on Hopper: as many blocks as multiprocessors take the tiles by turns. Of tiles in pairs two blocks, which are a cluster
    /// where the machine has some, take one each.
    ///
    /// # Errors
    /// When the device fails.
    pub fn launch_hopper(
        device: &dyn Device,
        components: usize,
        in_pairs: bool,
        args: &EqHopperArgs,
    ) -> Result<()> {
        let in_clusters = in_pairs && device.capabilities().clusters;
        let kernel = Self::Hopper.kernel(args.relax.form, components, in_clusters);
        let workers = match in_pairs {
            true => even(device.multiprocessors()),
            false => device.multiprocessors(),
        };
        launch(device, kernel, workers.min(args.tiles as usize), args)
    }
}

/// Blocks in clusters of two that so many multiprocessors run at once; one cluster at least.
fn even(multiprocessors: usize) -> usize {
    (multiprocessors / 2).max(1) * 2
}

fn launch<A: Plain>(
    device: &dyn Device,
    kernel: KernelSpec,
    blocks: usize,
    args: &A,
) -> Result<()> {
    if blocks == 0 {
        return Ok(());
    }
    // SAFETY: each wrapper passes the struct that its kernel takes; its pointers are into buffers that the caller keeps.
    unsafe { device.launch(&kernel, blocks, bytes_of(std::slice::from_ref(args))) }
}

/// Threads of the elementwise and reduction kernels.
const THREADS: usize = 256;
/// One f64 per thread.
const REDUCTION_BYTES: u32 = 8 * THREADS as u32;

/// Sets the force of the cost on the output layer, for the phases' nudging: a block for each image.
pub fn nudge(device: &dyn Device, format: Format, args: &EqNudgeArgs) -> Result<()> {
    let kernel = format.pick(spec("nudge_f32", 32, 0), spec("nudge_f16", 32, 0));
    launch(device, kernel, args.images as usize, args)
}

/// Ends an iteration: sums the changes, and decides whether the phase goes on and with which omega. One block.
pub fn advance_phase(device: &dyn Device, args: &EqAdvanceArgs) -> Result<()> {
    // One EqChange per thread.
    launch(
        device,
        spec("advance_phase", THREADS as u32, 2 * REDUCTION_BYTES),
        1,
        args,
    )
}

/// Ends the body of a phase's loop (`kernels/while_node.cu`): a module of its own on a GPU, whose graph's loop it steers.
pub const CONTINUE_PHASE: KernelSpec = spec("continue_phase", 32, 0);

/// [`CONTINUE_PHASE`] where a GPU is played: sets the word that `condition` is the address of. One block.
pub fn continue_phase(device: &dyn Device, args: &EqLoopArgs) -> Result<()> {
    launch(device, CONTINUE_PHASE, 1, args)
}

fn pooled_blocks(args: &EqPoolArgs) -> usize {
    let [n, h, w, c] = [args.images, args.height / 2, args.width / 2, args.channels];
    (n as usize * h as usize * w as usize * c as usize).div_ceil(THREADS)
}

/// Max pooling of a convolution's output, with the index of each window's largest unit.
pub fn pool_up(device: &dyn Device, args: &EqPoolArgs) -> Result<()> {
    launch(
        device,
        spec("pool_up", THREADS as u32, 0),
        pooled_blocks(args),
        args,
    )
}

/// Its transpose: a pooled state to the units that the indices name.
pub fn pool_down(device: &dyn Device, format: Format, args: &EqPoolArgs) -> Result<()> {
    let kernel = format.pick(
        spec("pool_down_f32", THREADS as u32, 0),
        spec("pool_down_f16", THREADS as u32, 0),
    );
    launch(device, kernel, pooled_blocks(args), args)
}

/// Units that a thread of the state kernels takes.
const STATE_UNITS: usize = 2;

/// The mean and half the difference of two states.
pub fn mean_and_half(device: &dyn Device, format: Format, args: &EqStateArgs) -> Result<()> {
    let kernel = format.pick(
        spec("mean_and_half_f32", THREADS as u32, 0),
        spec("mean_and_half_f16", THREADS as u32, 0),
    );
    let blocks = (args.count as usize).div_ceil(STATE_UNITS * THREADS);
    launch(device, kernel, blocks, args)
}

/// The second state, from mean and half difference.
pub fn second_state(device: &dyn Device, format: Format, args: &EqStateArgs) -> Result<()> {
    let kernel = format.pick(
        spec("second_state_f32", THREADS as u32, 0),
        spec("second_state_f16", THREADS as u32, 0),
    );
    let blocks = (args.count as usize).div_ceil(STATE_UNITS * THREADS);
    launch(device, kernel, blocks, args)
}

/// The mask of a layer; `values` are in the given format.
pub fn inside(device: &dyn Device, format: Format, args: &EqMaskArgs) -> Result<()> {
    let kernel = format.pick(
        spec("inside_f32", THREADS as u32, 0),
        spec("inside_f16", THREADS as u32, 0),
    );
    launch(
        device,
        kernel,
        (args.count as usize).div_ceil(THREADS),
        args,
    )
}

/// Energy, cost, prediction and top-5 hit of each image: a block for each.
pub fn outcome(
    device: &dyn Device,
    format: Format,
    images: usize,
    args: &EqOutcomeArgs,
) -> Result<()> {
    let kernel = format.pick(
        spec("outcome_f32", THREADS as u32, REDUCTION_BYTES),
        spec("outcome_f16", THREADS as u32, REDUCTION_BYTES),
    );
    launch(device, kernel, images, args)
}

/// Norm and saturation of a layer's state by image: a block for each.
pub fn statistics(
    device: &dyn Device,
    format: Format,
    images: usize,
    args: &EqStatisticsArgs,
) -> Result<()> {
    // A square and a count per thread.
    const SHARED: u32 = REDUCTION_BYTES + REDUCTION_BYTES / 2;
    let kernel = format.pick(
        spec("statistics_f32", THREADS as u32, SHARED),
        spec("statistics_f16", THREADS as u32, SHARED),
    );
    launch(device, kernel, images, args)
}

/// A version of the weight gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightGrad {
    /// fp32 on ordinary cores
    Simt,
    /// fp16 on tensor cores, tiles of 128 x 128; on Hopper for the edges that do not fill its own tiles
    MmaWide,
    /// the same with tiles of 32 x 32, for narrow networks
    MmaNarrow,
}

const WEIGHT_GRAD_HOPPER: KernelSpec = spec("weight_grad_hopper", EQ_HOPPER_THREADS, HOPPER_BYTES);
/// The same for clusters of two blocks, which take neighbouring tiles: their number is even.
pub const WEIGHT_GRAD_HOPPER_CLUSTER: KernelSpec = spec(
    "weight_grad_hopper_cluster",
    EQ_HOPPER_THREADS,
    HOPPER_BYTES,
);
const WEIGHT_GRAD_SIMT: KernelSpec = spec("weight_grad_simt", 128, 6656);
const WEIGHT_GRAD_MMA_WIDE: KernelSpec = spec("weight_grad_mma_wide", 128, slices(128 + 128));
const WEIGHT_GRAD_MMA_NARROW: KernelSpec = spec("weight_grad_mma_narrow", 128, slices(32 + 32));

impl WeightGrad {
    /// The version that goes with a version of the relaxation step.
    pub fn choose(relax: Relax) -> Self {
        match relax {
            Relax::Simt => Self::Simt,
            Relax::MmaWide | Relax::MmaMedium | Relax::Hopper => Self::MmaWide,
            Relax::MmaNarrow => Self::MmaNarrow,
        }
    }

    /// Post channels of a tile, and its columns: pre channels of one or several taps.
    pub fn tile(self) -> (usize, usize) {
        match self {
            Self::Simt => (64, 32),
            Self::MmaWide => (128, 128),
            Self::MmaNarrow => (32, 32),
        }
    }

    /// Partial gradients of all edges' weights, one tile a block.
    pub fn launch(self, device: &dyn Device, tiles: usize, args: &EqGradArgs) -> Result<()> {
        let kernel = match self {
            Self::Simt => WEIGHT_GRAD_SIMT,
            Self::MmaWide => WEIGHT_GRAD_MMA_WIDE,
            Self::MmaNarrow => WEIGHT_GRAD_MMA_NARROW,
        };
        launch(device, kernel, tiles, args)
    }

    /// The same on Hopper, of the edges that have tiles there: as many blocks as multiprocessors take them by turns.
    pub fn launch_hopper(device: &dyn Device, args: &EqHopperGradArgs) -> Result<()> {
        let kernel = match device.capabilities().clusters {
            true => WEIGHT_GRAD_HOPPER_CLUSTER,
            false => WEIGHT_GRAD_HOPPER,
        };
        let blocks = even(device.multiprocessors()).min(args.tile_count as usize);
        launch(device, kernel, blocks, args)
    }
}

/// Partial gradients of the biases, one tile a block.
pub fn bias_grad(
    device: &dyn Device,
    format: Format,
    tiles: usize,
    args: &EqBiasArgs,
) -> Result<()> {
    let kernel = format.pick(
        spec("bias_grad_f32", THREADS as u32, 0),
        spec("bias_grad_f16", THREADS as u32, 0),
    );
    launch(device, kernel, tiles, args)
}

/// Sums the partial gradients in a fixed order into PyTorch's layout, and the squares of each block.
pub fn gather_gradient(device: &dyn Device, blocks: usize, args: &EqGatherArgs) -> Result<()> {
    let kernel = spec("gather_gradient", THREADS as u32, REDUCTION_BYTES);
    launch(device, kernel, blocks, args)
}

/// The global norm, from the squares of all blocks. One block.
pub fn gradient_norm(device: &dyn Device, args: &EqNormArgs) -> Result<()> {
    let kernel = spec("gradient_norm", THREADS as u32, REDUCTION_BYTES);
    launch(device, kernel, 1, args)
}

/// Channels of a block of the batch normalisation's reductions.
const BATCH_NORM_COLUMNS: u32 = 32;
/// Channels that a thread takes in its passes over units.
const BATCH_NORM_UNITS: usize = 2;

/// Blocks of a reduction over so many splits.
fn batch_norm_parts(args: &EqBatchNormArgs, splits: u32) -> usize {
    (args.edge_count * splits * args.channels.div_ceil(BATCH_NORM_COLUMNS)) as usize
}

/// Mean and standard deviation of each convolution, or those that are kept for evaluation; then the layer's state.
pub fn batch_norm_forward(
    device: &dyn Device,
    format: Format,
    args: &EqBatchNormArgs,
) -> Result<()> {
    batch_norm_statistics(device, args)?;
    batch_norm_apply(device, format, args)
}

/// The first half of [`batch_norm_forward`].
pub fn batch_norm_statistics(device: &dyn Device, args: &EqBatchNormArgs) -> Result<()> {
    const STATISTICS: KernelSpec = spec("batch_norm_statistics", THREADS as u32, REDUCTION_BYTES);
    if args.evaluate == 0 && args.splits > 0 {
        let moments = spec("batch_norm_moments", THREADS as u32, REDUCTION_BYTES / 2);
        launch(device, moments, batch_norm_parts(args, args.splits), args)?;
    }
    if args.splits > 0 {
        launch(device, STATISTICS, batch_norm_parts(args, 1), args)?;
    }
    Ok(())
}

/// The second.
pub fn batch_norm_apply(device: &dyn Device, format: Format, args: &EqBatchNormArgs) -> Result<()> {
    let apply = format.pick(
        spec("batch_norm_apply_f32", THREADS as u32, 0),
        spec("batch_norm_apply_f16", THREADS as u32, 0),
    );
    let blocks = batch_norm_blocks(args, args.height * args.width);
    launch(device, apply, blocks, args)
}

/// The gradient of scale and shift, then that of each convolution.
pub fn batch_norm_backward(
    device: &dyn Device,
    format: Format,
    args: &EqBatchNormArgs,
) -> Result<()> {
    batch_norm_sums(device, format, args)?;
    batch_norm_difference(device, format, args)
}

/// The first half of [`batch_norm_backward`].
pub fn batch_norm_sums(device: &dyn Device, format: Format, args: &EqBatchNormArgs) -> Result<()> {
    const GATHER: KernelSpec = spec("batch_norm_gather_sums", THREADS as u32, REDUCTION_BYTES);
    let sums = format.pick(
        spec("batch_norm_sums_f32", THREADS as u32, REDUCTION_BYTES / 2),
        spec("batch_norm_sums_f16", THREADS as u32, REDUCTION_BYTES / 2),
    );
    if args.splits > 0 {
        launch(device, sums, batch_norm_parts(args, args.splits), args)?;
        launch(device, GATHER, batch_norm_parts(args, 1), args)?;
    }
    Ok(())
}

/// The second.
pub fn batch_norm_difference(
    device: &dyn Device,
    format: Format,
    args: &EqBatchNormArgs,
) -> Result<()> {
    let difference = format.pick(
        spec("batch_norm_difference_f32", THREADS as u32, 0),
        spec("batch_norm_difference_f16", THREADS as u32, 0),
    );
    launch(
        device,
        difference,
        batch_norm_blocks(args, args.pixels),
        args,
    )
}

fn batch_norm_blocks(args: &EqBatchNormArgs, pixels: u32) -> usize {
    let units: usize = [args.images, pixels, args.channels]
        .map(|n| n as usize)
        .iter()
        .product();
    units.div_ceil(BATCH_NORM_UNITS * THREADS)
}

/// One warp per image.
pub fn loss_gradient(device: &dyn Device, format: Format, args: &EqLossArgs) -> Result<()> {
    let kernel = format.pick(
        spec("loss_gradient_f32", 32, 0),
        spec("loss_gradient_f16", 32, 0),
    );
    launch(device, kernel, args.images as usize, args)
}

/// Applies the optimizer to all parameters.
pub fn optimizer_step(device: &dyn Device, blocks: usize, args: &EqOptimizerArgs) -> Result<()> {
    let kernel = spec("optimizer_step", THREADS as u32, 0);
    launch(device, kernel, blocks, args)
}

/// Copies parameters into the layout and format of the relaxation.
pub fn pack_parameters(device: &dyn Device, args: &EqPackArgs) -> Result<()> {
    let kernel = spec("pack_parameters", THREADS as u32, 0);
    let blocks = (args.count as usize).div_ceil(EQ_PARAMETER_BLOCK as usize);
    launch(device, kernel, blocks, args)
}

/// Multiply-adds of one block of [`roofline_mma`]: eight warps, 1024 steps of 16 products of 16 x 8 x 16.
pub const ROOFLINE_PRODUCTS: f64 = 8.0 * 1024.0 * 16.0 * (16.0 * 8.0 * 16.0);

/// Products in registers: the limit of the tensor-core instruction. `args` is not used.
pub fn roofline_mma(device: &dyn Device, blocks: usize, args: &EqPackArgs) -> Result<()> {
    let kernel = spec("roofline_mma", 256, 0);
    launch(device, kernel, blocks, args)
}
