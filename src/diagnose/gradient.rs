//! Gradient estimates of equilibrium propagation against the true gradient.
//!
//! **The true gradient** is that of the cost at the free fixed point, `C(s*(theta))`, found by recurrent backpropagation
//! (Almeida 1987, Pineda 1987). Let `s(beta)` be the fixed point under nudging `beta`; then, with `D` the diagonal of the
//! clip's derivative at `p` (1 inside, 0 where clipped) and `H` the symmetric coupling `dp/ds`, differentiating
//! `s = clip(p(s) - beta dC/ds)` at `beta = 0` gives for `a = ds/dbeta`
//!
//! ```text
//! a = D (H a - dC/ds)
//! ```
//!
//! and, because `1/2 |s|^2 + E + beta C` is stationary at `s(beta)` (Scellier & Bengio 2017, theorem 1),
//!
//! ```text
//! dC/dtheta = d/dbeta dE/dtheta (s(beta))      dC/dW = -(corr(a, s*) + corr(s*, a))      dC/db = -sum_pixels a
//! ```
//!
//! The nudged phases in sum-and-difference form already iterate this equation: where `m + d` and `m - d` are clipped alike, `d`
//! obeys the linear recursion `d <- D (H d - beta (dC/ds)')`, with its own relative precision however small it is, and without
//! touching `m`. So with a `beta` so small that no unit (and no window of a max pooling) sees the two states differently,
//! `d / beta` *is* `a`, up to terms of order `beta^2` from the curvature of cross-entropy, and the estimator forms the two
//! correlations. The only approximation left is the number of iterations, and both solves end at a relative change near f64's
//! resolution. `tests/phase/true_gradient.rs` compares with finite differences of the cost.

use crate::cpu;
use crate::data::Batch;
use crate::error::Result;
use crate::network::{Network, ParameterSet};
use crate::phase::{
    Backend, CostFunction, Mode, NudgedPhase, Nudging, OutputCondition, PhaseReport, Relaxation,
    Start, Variant,
};
use crate::usage::UsageError;
use ndarray::ArrayD;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// Nudging of the linear solve: no state of order 1 comes within this of a clip's end but by chance.
const INFINITESIMAL: f64 = 1e-9;
/// A phase that is to converge ends below this relative change, or after so many iterations.
const CONVERGED: f64 = 1e-13;
const MOST_ITERATIONS: usize = 10_000;

/// How long the phases of an estimate are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iterations {
    /// so many
    Count {
        /// of the free phase
        free: usize,
        /// of each nudged phase
        nudged: usize,
    },
    /// until nothing changes any more
    Converged,
}

impl Iterations {
    fn relaxations(self, mode: Mode, omega: f64) -> (Relaxation, Relaxation) {
        let of = |iterations, tolerance| Relaxation {
            mode,
            omega,
            iterations,
            tolerance,
        };
        match self {
            Self::Count { free, nudged } => (of(free, None), of(nudged, None)),
            Self::Converged => {
                let both = of(MOST_ITERATIONS, Some(CONVERGED));
                (both, both)
            }
        }
    }
}

impl fmt::Display for Iterations {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Count { free, nudged } => f.pad(&format!("{free}+{nudged}")),
            Self::Converged => f.pad("converged"),
        }
    }
}

impl FromStr for Iterations {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        if text == "converged" {
            return Ok(Self::Converged);
        }
        let count = |part: &str| part.trim().parse().ok().filter(|&n| n > 0);
        let both = text.split_once('+');
        let both = both.and_then(|(free, nudged)| Some((count(free)?, count(nudged)?)));
        let (free, nudged) = both.ok_or_else(|| {
            UsageError(format!(
                "{text:?}: expected FREE+NUDGED iterations such as 40+20, or converged"
            ))
        })?;
        Ok(Self::Count { free, nudged })
    }
}

/// The gradient of the cost at the free fixed point, mean over the batch.
pub struct True {
    /// one tensor per parameter
    pub gradient: ParameterSet<f64>,
    /// how the free phase and the linear solve ended
    pub free: PhaseReport,
    /// the same for the linear solve
    pub solve: PhaseReport,
}

impl True {
    /// Whether both solves reached f64's resolution. If not, this is not the true gradient: the relaxation does not converge
    /// in this order, or very slowly.
    pub fn has_converged(&self) -> bool {
        self.free.change < CONVERGED && self.solve.change < CONVERGED
    }
}

/// Recurrent backpropagation in f64 from the fixed point that a free phase from zero reaches in this order.
///
/// # Errors
/// When images and labels are no batch for the network.
pub fn true_gradient(
    network: &Network,
    parameters: &ParameterSet<f64>,
    batch: &Batch,
    cost: CostFunction,
    (mode, omega): (Mode, f64),
) -> Result<True> {
    let (relaxation, _) = Iterations::Converged.relaxations(mode, omega);
    let nudging = Nudging {
        beta: INFINITESIMAL,
        variant: Variant::Centered,
        form: NudgedPhase::SumDifference,
        output: OutputCondition::Nudged,
    };
    let mut backend = cpu::backend::<f64>(network);
    backend.set_parameters(parameters)?;
    backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
    let free = backend.free_phase(&relaxation)?;
    let solve = backend.nudged_phases(&nudging, cost, &relaxation)?;
    backend.estimate_gradient()?;
    Ok(True {
        gradient: backend.gradient()?,
        free,
        solve,
    })
}

/// How well an estimate agrees with the truth. Both are NaN where the estimate or the truth is zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// 1 - cosine of the angle between the two
    pub one_minus_cosine: f64,
    /// norm of the estimate over that of the truth
    pub norm_ratio: f64,
}

/// Of tensors that are taken as one long vector.
pub fn agreement(estimate: &[ArrayD<f64>], truth: &[ArrayD<f64>]) -> Agreement {
    let norm = |tensors: &[ArrayD<f64>]| {
        let squares = tensors.iter().flatten().map(|v| v * v);
        squares.sum::<f64>().sqrt()
    };
    let (a, b) = (norm(estimate), norm(truth));
    // 1 - cos = |a/|a| - b/|b||^2 / 2, which keeps its digits where the cosine is nearly 1.
    let pairs = estimate.iter().flatten().zip(truth.iter().flatten());
    let distance: f64 = pairs.map(|(x, y)| (x / a - y / b).powi(2)).sum();
    Agreement {
        one_minus_cosine: 0.5 * distance,
        norm_ratio: if a == 0.0 { f64::NAN } else { a / b },
    }
}

/// One estimate.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// of its phases
    pub iterations: Iterations,
    /// nudging
    pub beta: f64,
    /// which nudged phases are subtracted
    pub variant: Variant,
    /// of the whole gradient
    pub all: Agreement,
    /// of each tensor, in the order of [`Network::parameter_names`]
    pub tensors: Vec<Agreement>,
}

/// What is compared.
pub struct GradientStudy<'a> {
    /// on which the gradient is taken
    pub batch: &'a Batch,
    /// of which it is the gradient
    pub cost: CostFunction,
    /// order of updates, and omega
    pub order: (Mode, f64),
    /// how the nudged phases are relaxed
    pub form: NudgedPhase,
    /// each with every beta and variant
    pub iterations: &'a [Iterations],
    /// nudgings
    pub betas: &'a [f64],
    /// of each nudging
    pub variants: &'a [Variant],
}

/// Estimates on `backend`, which holds the parameters, against the truth; `done` sees each as it comes.
///
/// # Errors
/// When the device fails, or `done` does.
pub fn compare_gradients(
    backend: &mut dyn Backend,
    study: &GradientStudy,
    truth: &ParameterSet<f64>,
    mut done: impl FnMut(&Estimate),
) -> Result<Vec<Estimate>> {
    let mut estimates = Vec::new();
    let (mode, omega) = study.order;
    for &iterations in study.iterations {
        let (free, nudged) = iterations.relaxations(mode, omega);
        backend.load_batch(&study.batch.images, &study.batch.labels, Start::Zero)?;
        backend.free_phase(&free)?;
        for &beta in study.betas {
            for &variant in study.variants {
                let form = study.form;
                let nudging = Nudging {
                    beta,
                    variant,
                    form,
                    output: OutputCondition::Nudged,
                };
                backend.nudged_phases(&nudging, study.cost, &nudged)?;
                backend.estimate_gradient()?;
                let gradient = backend.gradient()?;
                let pairs = gradient.tensors().iter().zip(truth.tensors());
                let one = |(a, b)| agreement(std::slice::from_ref(a), std::slice::from_ref(b));
                let estimate = Estimate {
                    iterations,
                    beta,
                    variant,
                    all: agreement(gradient.tensors(), truth.tensors()),
                    tensors: pairs.map(one).collect(),
                };
                done(&estimate);
                estimates.push(estimate);
            }
        }
    }
    Ok(estimates)
}

/// The estimate that a run makes: its phases as they are configured, from zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnEstimate {
    /// how the free phase ended
    pub free: PhaseReport,
    /// how what follows it did
    pub nudged: PhaseReport,
    /// with the converged gradient
    pub agreement: Agreement,
}

/// Makes it on `backend`, which holds the parameters.
///
/// # Errors
/// When the device fails, or has no such phases.
pub fn own_estimate(
    backend: &mut dyn Backend,
    batch: &Batch,
    cost: CostFunction,
    (free, nudged): (&Relaxation, &Relaxation),
    nudging: &Nudging,
    truth: &ParameterSet<f64>,
) -> Result<OwnEstimate> {
    backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
    let free = backend.free_phase(free)?;
    let nudged = backend.nudged_phases(nudging, cost, nudged)?;
    backend.estimate_gradient()?;
    Ok(OwnEstimate {
        free,
        nudged,
        agreement: agreement(backend.gradient()?.tensors(), truth.tensors()),
    })
}

/// What a rule's estimate is worth, and what it takes.
#[derive(Debug, Clone)]
pub struct RuleEstimate {
    /// as a table calls it
    pub rule: String,
    /// of the phases after the free one
    pub iterations: usize,
    /// sweeps over one state that these are
    pub sweeps: usize,
    /// with the converged gradient
    pub agreement: Agreement,
    /// seconds of these phases and of the estimate, the shortest of `TIMINGS`
    pub seconds: f64,
}

/// Times that an estimate is made for its time.
pub const TIMINGS: usize = 5;

/// Equilibrium propagation as it is configured against recurrent backpropagation with as many iterations, which takes half the sweeps, and
/// with as many sweeps; all from the same free state. All iterations are made, whatever the tolerances.
///
/// # Errors
/// When the backend has no linear response.
pub fn compare_rules(
    backend: &mut dyn Backend,
    batch: &Batch,
    cost: CostFunction,
    (free, nudged): (&Relaxation, &Relaxation),
    nudging: &Nudging,
    truth: &ParameterSet<f64>,
) -> Result<Vec<RuleEstimate>> {
    let whole = |phase: &Relaxation| Relaxation {
        tolerance: None,
        ..*phase
    };
    let (free, nudged) = (&whole(free), &whole(nudged));
    backend.load_batch(&batch.images, &batch.labels, Start::Zero)?;
    backend.free_phase(free)?;
    let linear = Nudging {
        form: NudgedPhase::Linear,
        ..*nudging
    };
    let twice = Relaxation {
        iterations: 2 * nudged.iterations,
        ..*nudged
    };
    let cases = [
        (
            format!("ep, {}, beta {}", nudging.variant, nudging.beta),
            nudging,
            nudged,
            2,
        ),
        ("rbp".to_string(), &linear, nudged, 1),
        ("rbp".to_string(), &linear, &twice, 1),
    ];
    let mut estimates = Vec::new();
    for (rule, nudging, relaxation, states) in cases {
        let mut seconds = f64::INFINITY;
        for _ in 0..TIMINGS {
            let begun = Instant::now();
            backend.nudged_phases(nudging, cost, relaxation)?;
            backend.estimate_gradient()?;
            backend.gradient_norm()?;
            seconds = seconds.min(begun.elapsed().as_secs_f64());
        }
        estimates.push(RuleEstimate {
            rule,
            iterations: relaxation.iterations,
            sweeps: states * relaxation.iterations,
            agreement: agreement(backend.gradient()?.tensors(), truth.tensors()),
            seconds,
        });
    }
    Ok(estimates)
}
