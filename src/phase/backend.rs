//! The interface between training and the machine that computes.

use super::cost::CostFunction;
use super::statistics::LayerStatistics;
use super::vocabulary::{Nudging, Relaxation};
use crate::error::{Error, Result, bail, ensure};
use crate::network::{Network, ParameterSet, Shape};
use crate::optim::{OptimizerConfig, OptimizerState};
use ndarray::{Array4, ArrayD, CowArray, Ix4};

/// Where a free phase starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// all free layers at zero (evaluation)
    Zero,
    /// the state that the previous training batch left, that of its second nudged phase; zero when there is none
    /// or when the batch has another size
    Kept,
}

/// One of the three states that a training batch passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseState {
    /// the end of the free phase
    Free,
    /// the end of the first nudged phase (-beta when centred)
    First,
    /// the end of the second nudged phase (+beta when centred), or of the iterations of
    /// [`truncated_backpropagation`](Backend::truncated_backpropagation)
    Second,
}

/// How a phase went.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PhaseReport {
    /// iterations that were run
    pub iterations: usize,
    /// relative L2 change of the states in the last iteration; of the difference state for nudged phases in
    /// sum-and-difference form
    pub change: f64,
    /// over-relaxation at the end: smaller than asked for when the safeguard stepped in
    pub omega: f64,
}

/// What the free state says about a batch: one entry per example.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchOutcome {
    /// of the free state, without the cost
    pub energy: Vec<f64>,
    /// of its output
    pub cost: Vec<f64>,
    /// class with the largest output; the first one of equals
    pub prediction: Vec<usize>,
    /// the label is among the five largest outputs
    pub in_top5: Vec<bool>,
}

/// Where a gradient estimate lies, for whoever adds up those of several machines.
#[derive(Debug)]
pub enum GradientMemory<'a> {
    /// all its values
    Host(&'a mut [f64]),
    /// fp32 values on a GPU
    Device {
        /// of the first
        address: u64,
        /// how many there are
        count: usize,
        /// the CUDA stream that makes them, and that will read their sums
        stream: *mut std::ffi::c_void,
    },
}

/// A machine that relaxes phases, estimates gradients and updates parameters.
///
/// The unit of work is a phase, not a tensor operation, so that each backend may fuse as it likes. Calls come
/// in this order for a training batch: [`load_batch`](Self::load_batch), [`free_phase`](Self::free_phase),
/// [`outcome`](Self::outcome), [`nudged_phases`](Self::nudged_phases),
/// [`estimate_gradient`](Self::estimate_gradient), [`gradient_norm`](Self::gradient_norm), [`step`](Self::step);
/// evaluation stops after `outcome`.
/// Tensors cross this interface in f64, which holds every precision that a backend may use.
///
/// # Errors
/// Of every method: what it is given does not fit the network, a call comes out of order, or the device fails.
#[expect(clippy::missing_errors_doc, reason = "said once for the trait")]
pub trait Backend {
    /// What a log should call this backend, for instance `cpu, fp32, 2 threads`.
    fn describe(&self) -> String;

    /// All parameters.
    fn parameters(&self) -> Result<ParameterSet<f64>>;
    /// Takes all parameters.
    fn set_parameters(&mut self, parameters: &ParameterSet<f64>) -> Result<()>;

    /// Prepares the optimizer with a fresh state.
    fn set_optimizer(&mut self, config: OptimizerConfig) -> Result<()>;
    /// What the optimizer remembers.
    fn optimizer_state(&self) -> Result<OptimizerState>;
    /// Takes what [`optimizer_state`](Self::optimizer_state) gave.
    fn set_optimizer_state(&mut self, state: OptimizerState) -> Result<()>;

    /// Clamps a batch to the input: images `(N, C, H, W)`, one label per image.
    fn load_batch(&mut self, images: &Array4<f32>, labels: &[usize], start: Start) -> Result<()>;

    /// Relaxes the free layers on the energy alone.
    fn free_phase(&mut self, relaxation: &Relaxation) -> Result<PhaseReport>;

    /// Measures the free state.
    fn outcome(&mut self, cost: CostFunction) -> Result<BatchOutcome>;

    /// Norm and saturation of the free state, one entry per layer `1..=L`.
    fn statistics(&self) -> Result<Vec<LayerStatistics>>;

    /// Relaxes both nudged phases, each from the free state, or the linear response of the free state. The state of the
    /// second phase is kept for the next batch; after a linear response it is the free state.
    fn nudged_phases(
        &mut self,
        nudging: &Nudging,
        cost: CostFunction,
        relaxation: &Relaxation,
    ) -> Result<PhaseReport>;

    /// Estimates the gradient from the states of the nudged phases, averaged over the batch.
    fn estimate_gradient(&mut self) -> Result<()>;

    /// The same by the alternative formula: the derivative of `dE/dtheta` along `(second - first) / difference of nudging`, taken at
    /// the free state (Scellier et al. 2023, "Energy-based learning algorithms for analog computing"; in the place of the mean of
    /// the two states stands the free one).
    ///
    /// # Errors
    /// When the nudged phases have not run, or the backend does not compute it.
    fn estimate_gradient_at_free_state(&mut self) -> Result<()> {
        Err(self.unsupported("the alternative gradient formula"))
    }

    /// Truncated backpropagation: relaxes on from the free state, on the energy alone, and differentiates the mean cost at the end
    /// through each of these iterations with respect to the parameters. The end state is kept for the next batch. Takes
    /// the place of [`nudged_phases`](Self::nudged_phases) and [`estimate_gradient`](Self::estimate_gradient).
    ///
    /// # Errors
    /// When no batch is loaded, or the backend does not compute it.
    fn truncated_backpropagation(
        &mut self,
        _cost: CostFunction,
        _relaxation: &Relaxation,
    ) -> Result<PhaseReport> {
        Err(self.unsupported("truncated backpropagation"))
    }

    /// The error of a phase or a formula that the backend does not have.
    fn unsupported(&self, what: &'static str) -> Error {
        let backend = self.describe();
        Error::Unsupported { backend, what }
    }

    /// Replaces the last gradient estimate by the sum over several machines of `share` times each one's; `sum` does the adding up, in
    /// place. Comes between the estimate and its norm.
    fn reduce_gradient(
        &mut self,
        share: f64,
        sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
    ) -> Result<()>;

    /// The global L2 norm of the last gradient estimate over all tensors, before clipping.
    fn gradient_norm(&mut self) -> Result<f64>;

    /// The last gradient estimate, before clipping.
    fn gradient(&self) -> Result<ParameterSet<f64>>;

    /// Applies the optimizer with one learning rate per tensor, to the gradient scaled down to the global norm `max_norm`
    /// where it is longer.
    fn step(&mut self, learning_rates: &[f64], max_norm: Option<f64>) -> Result<()>;

    /// A state of the present batch, one tensor per layer `1..=L`: `(N, C, H, W)`, the output `(N, classes)`.
    fn states(&self, which: PhaseState) -> Result<Vec<ArrayD<f64>>>;

    /// The state that the next training batch would start from, as [`states`](Self::states) gives it; `None`
    /// when it would start from zero.
    fn kept_state(&self) -> Result<Option<Vec<ArrayD<f64>>>>;
    /// Takes what [`kept_state`](Self::kept_state) gave.
    fn set_kept_state(&mut self, state: Option<Vec<ArrayD<f64>>>) -> Result<()>;
}

/// Whether images `(N, C, H, W)` and labels are a batch for this network: the check that every backend's
/// [`Backend::load_batch`] starts with.
///
/// # Errors
/// When they are none: their number, size or a label.
pub fn check_batch(network: &Network, images: &Array4<f32>, labels: &[usize]) -> Result<()> {
    let shape = network.input().shape;
    let (n, c, h, w) = images.dim();
    ensure!(
        Mismatch,
        n > 0 && n == labels.len(),
        "{n} images, but {} labels",
        labels.len()
    );
    ensure!(
        Mismatch,
        (c, h, w) == (shape.channels, shape.height, shape.width),
        "images are {c}x{h}x{w}, but the input layer of {} is {shape}",
        network.name()
    );
    let classes = network.classes();
    match labels.iter().find(|&&label| label >= classes) {
        Some(label) => bail!(
            Mismatch,
            "label {label} is out of range: the output has {classes} classes"
        ),
        None => Ok(()),
    }
}

/// Whether a state has that many layers.
///
/// # Errors
/// When it has another number of them.
pub fn check_layers(network: &Network, state: &[ArrayD<f64>]) -> Result<()> {
    let free = network.free_layers().len();
    ensure!(
        Mismatch,
        state.len() == free,
        "{} layer states were given, but the network has {free}",
        state.len()
    );
    Ok(())
}

/// A layer's state as it comes through [`Backend::set_kept_state`], checked, in the shape `(N, C, H, W)`.
///
/// # Errors
/// When it does not fit the layer.
pub fn as_images(l: usize, shape: Shape, state: &ArrayD<f64>) -> Result<CowArray<'_, f64, Ix4>> {
    let images = state.shape().first().copied().unwrap_or(0);
    ensure!(
        Mismatch,
        images > 0,
        "the state of layer {l} is empty (shape {:?}); expected {shape} units of at least one example",
        state.shape()
    );
    ensure!(
        Mismatch,
        state.len() == images * shape.units(),
        "the state of layer {l} has shape {:?}, but the layer has {shape} units per example",
        state.shape()
    );
    state
        .to_shape((images, shape.channels, shape.height, shape.width))
        .map_err(|_| Error::Mismatch("a kept state is not contiguous".into()))
}
