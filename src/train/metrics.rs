//! What is measured over an epoch, and the line of `metrics.jsonl` that it becomes.

use crate::ep::{BatchOutcome, PhaseReport};
use serde::{Deserialize, Serialize};

/// Running sums over the batches of an epoch. A checkpoint in the middle of one keeps them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub examples: usize,
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
    pub seconds: f64,
}

impl Tally {
    /// Adds a batch's free phase, which began with over-relaxation `omega`.
    pub fn add(
        &mut self,
        outcome: &BatchOutcome,
        labels: &[usize],
        free: &PhaseReport,
        omega: f64,
    ) {
        self.examples += labels.len();
        self.batches += 1;
        self.energy += outcome.energy.iter().sum::<f64>();
        self.cost += outcome.cost.iter().sum::<f64>();
        let predictions = outcome.prediction.iter().zip(labels);
        self.top1_wrong += predictions
            .filter(|(prediction, label)| prediction != label)
            .count();
        self.top5_wrong += outcome.in_top5.iter().filter(|&&inside| !inside).count();
        self.free_iterations += free.iterations;
        self.note_omega(free, omega);
    }

    /// Adds a batch's nudged phases, which began with over-relaxation `omega`.
    pub fn add_nudged(&mut self, nudged: &PhaseReport, omega: f64) {
        self.nudged_iterations += nudged.iterations;
        self.note_omega(nudged, omega);
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

    pub fn measures(&self) -> Measures {
        let examples = self.examples.max(1) as f64;
        let batches = self.batches.max(1) as f64;
        Measures {
            energy: self.energy / examples,
            cost: self.cost / examples,
            top1_error: self.top1_error(),
            top5_error: self.top5_wrong as f64 / examples,
            seconds: self.seconds,
            images_per_second: self.examples as f64 / self.seconds.max(1e-9),
            free_iterations: self.free_iterations as f64 / batches,
            nudged_iterations: (self.nudged_iterations > 0)
                .then(|| self.nudged_iterations as f64 / batches),
            smallest_omega: self.omega.unwrap_or(1.0),
            eased_phases: self.eased,
        }
    }
}

/// Means over the examples of an epoch; errors are fractions, iterations are means over the batches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    pub energy: f64,
    pub cost: f64,
    pub top1_error: f64,
    pub top5_error: f64,
    pub seconds: f64,
    pub images_per_second: f64,
    pub free_iterations: f64,
    /// absent in a test pass
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nudged_iterations: Option<f64>,
    /// below the configured one when the safeguard against growth stepped in
    pub smallest_omega: f64,
    /// phases in which it did; older files do not say
    #[serde(default)]
    pub eased_phases: usize,
}

impl Measures {
    /// The columns of an epoch's line.
    pub fn columns(&self) -> String {
        let iterations = match self.nudged_iterations {
            Some(nudged) => format!("{:.0}+{nudged:.0}", self.free_iterations),
            None => format!("{:.0}", self.free_iterations),
        };
        let eased = match self.eased_phases {
            0 => String::new(),
            n => format!("   omega eased to {:.2} in {n} phases", self.smallest_omega),
        };
        format!(
            "energy {:>10.4}   cost {:>8.5}   top-1 error {:>6.2} %   top-5 error {:>6.2} %   {iterations:>7} iterations   \
             {:>7.1} s{eased}",
            self.energy,
            self.cost,
            100.0 * self.top1_error,
            100.0 * self.top5_error,
            self.seconds,
        )
    }
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// from 1
    pub epoch: usize,
    pub train: Measures,
    pub test: Measures,
    /// during this epoch: one per parameter tensor, biases first
    pub learning_rates: Vec<f64>,
}
