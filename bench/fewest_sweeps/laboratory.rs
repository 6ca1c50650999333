//! A network, a batch, and the gradients that phases end with.

use crate::accelerated::{Acceleration, State};
use anyhow::{Context, Result};
use eqprop_cuda::cpu;
use eqprop_cuda::data::Batch;
use eqprop_cuda::diagnose::agreement;
use eqprop_cuda::network::{Mode, Network, ParameterSet};
use eqprop_cuda::phase::{
    Backend, CostFunction, NudgedPhase, Nudging, PhaseState, Relaxation, Start,
};
use eqprop_cuda::run::Checkpoint;
use ndarray::{ArrayD, Axis, Zip};

/// A phase that is to converge ends below this relative change, or after so many iterations.
const CONVERGED: f64 = 1e-11;
const MOST_ITERATIONS: usize = 3_000;
/// The same of a response in between, which need not have an end: where a state is about to leave a saddle it grows.
const RESPONDED: f64 = 1e-6;
const LONGEST_RESPONSE: usize = 150;

/// A gradient against the converged one.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub sweeps: usize,
    /// `1 - cosine` of all tensors as one vector
    pub all: f64,
    /// the largest `1 - cosine` of a tensor
    pub worst: f64,
}

/// Where a free phase starts.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    Kept,
    Zero,
    /// layer after layer from zero, which is a sweep
    BottomUp,
    /// the mean of the free states of other images
    Mean,
    /// the same of other images of the same class, which nobody knows before: how good can a guess be?
    ClassMean,
}

impl Origin {
    pub const ALL: [Self; 5] = [
        Self::Kept,
        Self::Zero,
        Self::BottomUp,
        Self::Mean,
        Self::ClassMean,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept from the batch before",
            Self::Zero => "zero",
            Self::BottomUp => "a bottom-up pass",
            Self::Mean => "mean of other images",
            Self::ClassMean => "mean of the same class (an oracle)",
        }
    }
}

pub struct Laboratory {
    network: Network,
    backend: Box<dyn Backend>,
    batch: Batch,
    cost: CostFunction,
    nudging: Nudging,
    kept: State,
    mean: State,
    class_mean: State,
    /// from the kept state
    truth: ParameterSet<f64>,
}

impl Laboratory {
    /// `before` are the batches before `batch`.
    pub fn new(run: &Checkpoint, before: &[Batch], batch: Batch) -> Result<Self> {
        let mut backend = cpu::backend::<f64>(&run.network);
        backend.set_parameters(&run.model.parameters)?;
        let nudging = run.config.rule_settings().nudging();
        let order = |iterations| Relaxation {
            mode: Mode::Coloured,
            omega: 1.6,
            iterations,
            tolerance: None,
        };
        let mut sums = Sums::default();
        for batch in before {
            backend.load_batch(&batch.images, &batch.labels, Start::Kept)?;
            backend.free_phase(&order(40))?;
            sums.add(&backend.states(PhaseState::Free)?, &batch.labels);
            backend.nudged_phases(&nudging, run.config.lossfn, &order(20))?;
        }
        let kept = backend.kept_state()?.context("no batch was before")?;
        let mut laboratory = Self {
            network: run.network.clone(),
            mean: sums.of(&batch.labels, |_, _| true),
            class_mean: sums.of(&batch.labels, |a, b| a == b),
            truth: ParameterSet::zeros(&run.network),
            cost: run.config.lossfn,
            backend,
            batch,
            nudging,
            kept,
        };
        laboratory.truth = laboratory.converged(Origin::Kept, &order(0))?;
        Ok(laboratory)
    }

    /// The sweeps that this took.
    fn begin(&mut self, origin: Origin) -> Result<usize> {
        let state = match origin {
            Origin::Kept => Some(self.kept.clone()),
            Origin::Mean => Some(self.mean.clone()),
            Origin::ClassMean => Some(self.class_mean.clone()),
            Origin::Zero | Origin::BottomUp => None,
        };
        self.put(state)?;
        let Origin::BottomUp = origin else {
            return Ok(0);
        };
        self.backend.free_phase(&Relaxation {
            mode: Mode::Forward,
            omega: 1.0,
            iterations: 1,
            tolerance: None,
        })?;
        Ok(1)
    }

    fn put(&mut self, state: Option<State>) -> Result<()> {
        self.backend.set_kept_state(state)?;
        let (images, labels) = (&self.batch.images, &self.batch.labels);
        Ok(self.backend.load_batch(images, labels, Start::Kept)?)
    }

    /// The true gradient where a free phase converges from there.
    fn converged(&mut self, origin: Origin, order: &Relaxation) -> Result<ParameterSet<f64>> {
        self.begin(origin)?;
        self.backend.free_phase(&until_converged(order))?;
        self.response(MOST_ITERATIONS, CONVERGED)
    }

    /// The linear response of the present free state.
    fn response(&mut self, iterations: usize, tolerance: f64) -> Result<ParameterSet<f64>> {
        let order = Relaxation {
            mode: Mode::Coloured,
            omega: 1.6,
            iterations,
            tolerance: Some(tolerance),
        };
        Ok(self.gradient(NudgedPhase::Linear, &order)?.1)
    }

    /// The iterations that followed the free phase, and the gradient after them.
    fn gradient(
        &mut self,
        form: NudgedPhase,
        order: &Relaxation,
    ) -> Result<(usize, ParameterSet<f64>)> {
        let nudging = Nudging {
            form,
            ..self.nudging
        };
        let report = self.backend.nudged_phases(&nudging, self.cost, order)?;
        self.backend.estimate_gradient()?;
        Ok((report.iterations, self.backend.gradient()?))
    }

    /// Gradients after so many free sweeps, with a response that converges.
    pub fn free(
        &mut self,
        origin: Origin,
        order: &Relaxation,
        counts: &[usize],
    ) -> Result<Vec<Point>> {
        let truth = self.converged(origin, order)?;
        let mut done = self.begin(origin)?;
        let mut points = Vec::new();
        for &sweeps in counts {
            self.backend.free_phase(&Relaxation {
                iterations: sweeps - done,
                ..*order
            })?;
            done = sweeps;
            let gradient = self.response(LONGEST_RESPONSE, RESPONDED)?;
            points.push(point(sweeps, &gradient, &truth));
        }
        Ok(points)
    }

    /// The same from the kept state by sweeps with a memory.
    pub fn accelerated(
        &mut self,
        acceleration: Acceleration,
        order: &Relaxation,
        counts: &[usize],
    ) -> Result<Vec<Point>> {
        let sweep = Relaxation {
            iterations: 1,
            ..*order
        };
        let mut memory = acceleration.begin(self.network.layers());
        let mut state = self.kept.clone();
        let mut points = Vec::new();
        for sweeps in 1..=counts.last().copied().unwrap_or(0) {
            self.put(Some(state.clone()))?;
            self.backend.free_phase(&sweep)?;
            let swept = self.backend.states(PhaseState::Free)?;
            if counts.contains(&sweeps) {
                let gradient = self.response(LONGEST_RESPONSE, RESPONDED)?;
                points.push(point(sweeps, &gradient, &self.truth));
            }
            state = memory.next(state, swept);
        }
        Ok(points)
    }

    /// Gradients after so many sweeps that follow a converged free phase.
    pub fn after(
        &mut self,
        form: NudgedPhase,
        order: &Relaxation,
        counts: &[usize],
    ) -> Result<Vec<Point>> {
        self.begin(Origin::Kept)?;
        self.backend.free_phase(&until_converged(order))?;
        let truth = self.response(MOST_ITERATIONS, CONVERGED)?;
        let mut points = Vec::new();
        for &sweeps in counts {
            let iterations = iterations(form, sweeps);
            let (_, gradient) = self.gradient(
                form,
                &Relaxation {
                    iterations,
                    ..*order
                },
            )?;
            points.push(point(sweeps, &gradient, &truth));
        }
        Ok(points)
    }

    /// A whole step from the kept state.
    pub fn step(
        &mut self,
        free: &Relaxation,
        nudged: &Relaxation,
        form: NudgedPhase,
    ) -> Result<Point> {
        self.begin(Origin::Kept)?;
        let first = self.backend.free_phase(free)?.iterations;
        let (second, gradient) = self.gradient(form, nudged)?;
        let sweeps = first + sweeps(form, second);
        // Where this state converges to, by these updates or others.
        Ok(point(sweeps, &gradient, &self.truth))
    }
}

/// Sweeps that so many iterations are.
fn sweeps(form: NudgedPhase, iterations: usize) -> usize {
    match form {
        NudgedPhase::Linear => 1 + iterations,
        NudgedPhase::Direct | NudgedPhase::SumDifference => 2 * iterations,
    }
}

fn iterations(form: NudgedPhase, sweeps: usize) -> usize {
    match form {
        NudgedPhase::Linear => sweeps - 1,
        NudgedPhase::Direct | NudgedPhase::SumDifference => sweeps / 2,
    }
}

fn until_converged(order: &Relaxation) -> Relaxation {
    Relaxation {
        iterations: MOST_ITERATIONS,
        tolerance: Some(CONVERGED),
        ..*order
    }
}

fn point(sweeps: usize, estimate: &ParameterSet<f64>, truth: &ParameterSet<f64>) -> Point {
    let error = |a: &[ArrayD<f64>], b: &[ArrayD<f64>]| agreement(a, b).one_minus_cosine;
    let pairs = estimate.tensors().iter().zip(truth.tensors());
    let by_tensor = pairs.map(|(a, b)| error(std::slice::from_ref(a), std::slice::from_ref(b)));
    Point {
        sweeps,
        all: error(estimate.tensors(), truth.tensors()),
        // NaN is the worst.
        worst: by_tensor.fold(0.0, |worst, e| if e <= worst { worst } else { e }),
    }
}

/// Free states of single images, with their labels.
#[derive(Default)]
struct Sums {
    images: Vec<(State, usize)>,
}

impl Sums {
    fn add(&mut self, states: &State, labels: &[usize]) {
        for (i, &label) in labels.iter().enumerate() {
            let image = states.iter().map(|s| s.index_axis(Axis(0), i).to_owned());
            self.images.push((image.collect(), label));
        }
    }

    /// For images of these labels the mean over those that belong to them; of all where there is none.
    fn of(&self, labels: &[usize], belongs: impl Fn(usize, usize) -> bool) -> State {
        let mean = |label: usize, layer: usize| {
            let chosen = |(_, other): &&(State, usize)| belongs(*other, label);
            let mut found: Vec<_> = self.images.iter().filter(chosen).collect();
            if found.is_empty() {
                found = self.images.iter().collect();
            }
            let mut sum = found[0].0[layer].clone();
            for (state, _) in &found[1..] {
                Zip::from(&mut sum)
                    .and(&state[layer])
                    .for_each(|a, &b| *a += b);
            }
            sum / found.len() as f64
        };
        let layers = 0..self.images[0].0.len();
        let layer = |l: usize| {
            let images: Vec<_> = labels.iter().map(|&label| mean(label, l)).collect();
            let views: Vec<_> = images.iter().map(|image| image.view()).collect();
            ndarray::stack(Axis(0), &views).expect("all images have one shape")
        };
        layers.map(layer).collect()
    }
}
