//! What is measured over an epoch, and the line of `metrics.jsonl` that it becomes.

use crate::config::Config;
use crate::error::Result;
use crate::learn::{BatchReport, Magnitudes, Probe, Published};
use crate::parallel::Ranks;
use crate::phase::{PhaseReport, Relaxation};
use serde::{Deserialize, Serialize};

/// Running sums over the batches of an epoch. A checkpoint in the middle of one keeps them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// images so far
    pub examples: usize,
    /// batches so far
    pub batches: usize,
    energy: f64,
    cost: f64,
    top1_wrong: usize,
    top5_wrong: usize,
    free_iterations: usize,
    nudged_iterations: usize,
    /// smallest over-relaxation that a phase ended with
    omega: Option<f64>,
    /// phases in which the safeguard against growth lowered it
    eased: usize,
    /// free and nudged phases that ended before they reached their tolerance
    #[serde(default, skip_serializing_if = "is_zero")]
    free_cut_off: usize,
    #[serde(default, skip_serializing_if = "is_zero")]
    nudged_cut_off: usize,
    /// so far, without loading and saving
    pub seconds: f64,
    /// left out while there is none: the checkpoints of older versions keep their checksum
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// with `--published-series`
    #[serde(default, skip_serializing_if = "Magnitudes::is_empty")]
    pub magnitudes: Magnitudes,
}

impl Tally {
    /// Adds a batch, whose phases were asked to be those of `config`.
    pub fn add(&mut self, report: &BatchReport, labels: &[usize], config: &Config) {
        let outcome = &report.outcome;
        self.examples += labels.len();
        self.batches += 1;
        self.energy += outcome.energy.iter().sum::<f64>();
        self.cost += outcome.cost.iter().sum::<f64>();
        let predictions = outcome.prediction.iter().zip(labels);
        self.top1_wrong += predictions
            .filter(|(prediction, label)| prediction != label)
            .count();
        self.top5_wrong += outcome.in_top5.iter().filter(|&&inside| !inside).count();
        if let Some(free) = &report.free {
            let asked = config.free_relaxation();
            self.free_iterations += free.iterations;
            self.free_cut_off += usize::from(is_cut_off(free, &asked));
            self.note_omega(free, asked.omega);
        }
        if let Some(nudged) = &report.nudged {
            let asked = config.nudged_relaxation();
            self.nudged_iterations += nudged.iterations;
            self.nudged_cut_off += usize::from(is_cut_off(nudged, &asked));
            self.note_omega(nudged, asked.omega);
        }
    }

    /// The sums over the rows of all ranks, which call this together. Ranks that relaxed for different numbers of iterations waited for
    /// the slowest, so that iterations and seconds are the most of any; the probe is this rank's.
    ///
    /// # Errors
    /// When a rank cannot be reached.
    pub fn over(&self, ranks: &dyn Ranks) -> Result<Self> {
        let mut sums = [
            self.examples as f64,
            self.energy,
            self.cost,
            self.top1_wrong as f64,
            self.top5_wrong as f64,
            self.eased as f64,
        ];
        ranks.sum(&mut sums)?;
        let mut most = [
            self.batches as f64,
            self.free_iterations as f64,
            self.nudged_iterations as f64,
            -self.omega.unwrap_or(f64::INFINITY),
            self.seconds,
            self.free_cut_off as f64,
            self.nudged_cut_off as f64,
        ];
        ranks.max(&mut most)?;
        let mut magnitudes = self.magnitudes.clone();
        let mut absolute = magnitudes.sums();
        if !absolute.is_empty() {
            ranks.sum(&mut absolute)?;
            magnitudes.set_sums(&absolute);
        }
        let [examples, energy, cost, top1_wrong, top5_wrong, eased] = sums;
        let [
            batches,
            free_iterations,
            nudged_iterations,
            omega,
            seconds,
            free_cut_off,
            nudged_cut_off,
        ] = most;
        Ok(Self {
            examples: examples as usize,
            batches: batches as usize,
            energy,
            cost,
            top1_wrong: top1_wrong as usize,
            top5_wrong: top5_wrong as usize,
            free_iterations: free_iterations as usize,
            nudged_iterations: nudged_iterations as usize,
            omega: omega.is_finite().then_some(-omega),
            eased: eased as usize,
            free_cut_off: free_cut_off as usize,
            nudged_cut_off: nudged_cut_off as usize,
            seconds,
            probe: self.probe.clone(),
            magnitudes,
        })
    }

    fn note_omega(&mut self, report: &PhaseReport, asked: f64) {
        self.eased += usize::from(report.omega < asked);
        self.omega = Some(
            self.omega
                .map_or(report.omega, |omega| omega.min(report.omega)),
        );
    }

    /// Fraction of wrong predictions so far.
    pub fn top1_error(&self) -> f64 {
        self.top1_wrong as f64 / self.examples.max(1) as f64
    }

    /// The means.
    pub fn measures(&self) -> Measures {
        let examples = self.examples.max(1) as f64;
        let batches = self.batches.max(1) as f64;
        let per_batch = |iterations: usize| (iterations > 0).then(|| iterations as f64 / batches);
        Measures {
            energy: self.omega.map(|_| self.energy / examples),
            cost: self.cost / examples,
            top1_error: self.top1_error(),
            top5_error: self.top5_wrong as f64 / examples,
            seconds: self.seconds,
            images_per_second: self.examples as f64 / self.seconds.max(1e-9),
            free_iterations: per_batch(self.free_iterations),
            nudged_iterations: per_batch(self.nudged_iterations),
            smallest_omega: self.omega,
            eased_phases: self.eased,
            free_cut_off: self.free_cut_off as f64 / batches,
            nudged_cut_off: self.nudged_cut_off as f64 / batches,
            probe: self.probe.clone().unwrap_or_default(),
            published: self.magnitudes.means(),
        }
    }
}

/// Means over the examples of an epoch; errors are fractions, iterations are means over the batches. What belongs to the
/// relaxation is absent in backpropagation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// of the free states
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<f64>,
    /// of their outputs
    pub cost: f64,
    /// the largest output is not the label's
    pub top1_error: f64,
    /// nor is any of the five largest
    pub top5_error: f64,
    /// of the epoch
    pub seconds: f64,
    /// over the same time
    pub images_per_second: f64,
    /// of the free phase
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_iterations: Option<f64>,
    /// absent in a test pass
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nudged_iterations: Option<f64>,
    /// below the configured one when the safeguard against growth stepped in
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_omega: Option<f64>,
    /// phases in which it did; older files do not say
    #[serde(default)]
    pub eased_phases: usize,
    /// fraction of the free phases that ended before they reached their tolerance
    #[serde(default, skip_serializing_if = "is_never")]
    pub free_cut_off: f64,
    /// the same of the nudged phases
    #[serde(default, skip_serializing_if = "is_never")]
    pub nudged_cut_off: f64,
    /// empty in what older versions recorded
    #[serde(flatten)]
    pub probe: Probe,
    /// empty unless it was asked for
    #[serde(flatten)]
    pub published: Published,
}

impl Measures {
    /// The columns of an epoch's line.
    pub fn columns(&self) -> String {
        let energy = (self.energy).map_or(String::new(), |e| format!("energy {e:>10.4}   "));
        let iterations = match (self.free_iterations, self.nudged_iterations) {
            (Some(free), Some(nudged)) => {
                format!("{:>7} iterations   ", format!("{free:.0}+{nudged:.0}"))
            }
            (Some(free), None) => format!("{free:>7.0} iterations   "),
            (None, _) => String::new(),
        };
        let eased = match (self.eased_phases, self.smallest_omega) {
            (0, _) | (_, None) => String::new(),
            (n, Some(omega)) => format!("   omega eased to {omega:.2} in {n} phases"),
        };
        format!(
            "{energy}cost {:>8.5}   top-1 error {:>6.2} %   top-5 error {:>6.2} %   {iterations}{:>7.1} s{eased}{}",
            self.cost,
            100.0 * self.top1_error,
            100.0 * self.top5_error,
            self.seconds,
            self.cut_off(),
        )
    }

    /// What is said of phases that end before they reach their tolerance, if they are many: that some do is what a bound is for.
    fn cut_off(&self) -> String {
        let phases = [("free", self.free_cut_off), ("nudged", self.nudged_cut_off)];
        let many = phases
            .iter()
            .filter(|(_, fraction)| *fraction >= MANY_CUT_OFF);
        let many =
            many.map(|(name, fraction)| format!("{:.0} % of {name} phases", 100.0 * fraction));
        match many.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => none,
            some => format!("   cut off: {some}"),
        }
    }
}

/// Whether a phase ended, by its number of iterations, before its change fell below its tolerance.
fn is_cut_off(report: &PhaseReport, asked: &Relaxation) -> bool {
    // NaN is below nothing.
    let is_below = |tolerance: f64| report.change < tolerance;
    asked
        .tolerance
        .is_some_and(|tolerance| !is_below(tolerance))
}

/// This fraction of an epoch's phases is worth a word.
const MANY_CUT_OFF: f64 = 0.1;

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn is_never(fraction: &f64) -> bool {
    *fraction == 0.0
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// from 1
    pub epoch: usize,
    /// while the parameters changed
    pub train: Measures,
    /// after the epoch
    pub test: Measures,
    /// during this epoch: one per parameter tensor, biases first; in backpropagation the one of all tensors
    pub learning_rates: Vec<f64>,
    /// most memory in use so far in MiB: device memory on a GPU, else the resident size of the process; absent where the
    /// system does not tell it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_mib: Option<f64>,
}
