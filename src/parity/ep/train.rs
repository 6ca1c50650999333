//! `train.OPT.*`: training steps from the initial parameters, states kept from batch to batch. Once with nudged phases in
//! direct form, as published, and once in sum-and-difference form, which follows float64 more closely.

use crate::error::{Error, Result, ensure};
use crate::optim::{MAX_NORM, OptimizerConfig};
use crate::parity::compare::{Difference, relative};
use crate::parity::hopfield::{Replay, labelled, plain};
use crate::parity::report::{Row, global};
use crate::parity::tolerance::Scale;
use crate::phase::{NudgedPhase, Nudging, OutputCondition, Start};

impl Replay<'_> {
    pub fn training(&mut self) -> Result<()> {
        let found = self.words("train.");
        for optimizer in found {
            // Others, `x` and `y` apart, are reported as unknown tensors.
            if let Some(config) = self.config(&optimizer)? {
                for &form in self.tolerances.forms {
                    self.train(&optimizer, config, form)?;
                }
            }
        }
        Ok(())
    }

    fn config(&self, optimizer: &str) -> Result<Option<OptimizerConfig>> {
        let needs = |value: Option<f64>, key: &str| {
            value.ok_or_else(|| {
                Error::File(format!("metadata {key:?} is missing, which training needs"))
            })
        };
        let weight_decay = || needs(self.case.weight_decay, "weight_decay");
        Ok(match optimizer {
            "sgd" => Some(OptimizerConfig::Sgd {
                momentum: needs(self.case.momentum, "momentum")?,
                weight_decay: weight_decay()?,
            }),
            "adamw" => Some(OptimizerConfig::AdamW {
                weight_decay: weight_decay()?,
            }),
            _ => None,
        })
    }

    fn train(&mut self, optimizer: &str, config: OptimizerConfig, form: NudgedPhase) -> Result<()> {
        let prefix = format!("train.{optimizer}");
        let rates = self.golden.vector(&format!("{prefix}.lr"))?;
        let count = self.case.network.parameter_count();
        ensure!(
            File,
            rates.len() == count,
            "{prefix}.lr holds {} learning rates, but the network has {count} parameter tensors",
            rates.len()
        );
        self.backend.set_parameters(&self.case.parameters)?;
        self.backend.set_kept_state(None)?;
        self.backend.set_optimizer(config)?;
        let steps = self.numbers("train.x.").len();
        for i in 0..steps {
            self.training_step(&prefix, i, &rates, form)?;
        }
        // `after3`: the number of steps is in the name, and must be that of the batches.
        if self.any(&format!("{prefix}.after{steps}.")) {
            let quantity = format!("{prefix}.after{steps}");
            self.compare_trained(&quantity, config, &rates, form)?;
        } else if form == self.tolerances.forms[0] {
            let message =
                format!("{prefix}.after{steps}.* is missing: parameters after {steps} steps");
            self.report.problem(&message);
        }
        Ok(())
    }

    fn training_step(
        &mut self,
        prefix: &str,
        i: usize,
        rates: &[f64],
        form: NudgedPhase,
    ) -> Result<()> {
        let x = self.golden.images(&format!("train.x.{i}"))?;
        let y = self.golden.labels(&format!("train.y.{i}"))?;
        let (mode, cost) = (self.case.mode, self.case.cost);
        self.backend.load_batch(&x, &y, Start::Kept)?;
        (self.backend).free_phase(&plain(mode, self.case.free_iterations))?;
        let outcome = self.backend.outcome(cost)?;
        let nudging = Nudging {
            beta: self.case.beta,
            variant: self.case.variant,
            form,
            output: OutputCondition::Nudged,
        };
        let relaxation = plain(mode, self.case.nudged_iterations);
        (self.backend).nudged_phases(&nudging, cost, &relaxation)?;
        self.backend.estimate_gradient()?;
        let norm = self.backend.gradient_norm()?;
        self.backend.step(rates, Some(MAX_NORM))?;
        // Only what the form of the nudged phases has an influence on is told twice.
        if form == self.tolerances.forms[0] {
            for (what, ours) in [("cost", &outcome.cost), ("energy", &outcome.energy)] {
                let name = format!("{prefix}.{what}.{i}");
                if self.golden.has(&name) {
                    self.compare_measure(&name, ours)?;
                }
            }
        }
        let name = format!("{prefix}.gradnorm.{i}");
        if self.golden.has(&name) {
            let tolerance = Some(self.tolerances.training.gradient_norm);
            self.compare_scalar(&name, &labelled(&name, form), norm, tolerance)?;
        }
        Ok(())
    }

    fn compare_trained(
        &mut self,
        prefix: &str,
        config: OptimizerConfig,
        rates: &[f64],
        form: NudgedPhase,
    ) -> Result<()> {
        let parts = self.differences(prefix, &self.backend.parameters()?)?;
        let quantity = labelled(prefix, form);
        let training = &self.tolerances.training;
        match config {
            OptimizerConfig::Sgd { .. } | OptimizerConfig::HeavyBall { .. } => {
                let tolerance = Some(training.sgd);
                (self.report).tensors(&quantity, &parts, Scale::LayerNorm, tolerance);
            }
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => {
                // In units of each tensor's own learning rate, then over all parameters.
                let in_rates = |d: &Difference, rate: f64| relative(d.rms(), rate.abs());
                let errors = (parts.iter().zip(rates)).map(|((_, d), &rate)| in_rates(d, rate));
                let counts = parts.iter().map(|(_, d)| d.count as f64);
                let squares: f64 = errors.clone().zip(counts).map(|(e, n)| e * e * n).sum();
                let whole = global(&parts);
                let worst = (errors.zip(&parts)).max_by(|a, b| a.0.total_cmp(&b.0));
                let tolerance = match form {
                    NudgedPhase::Direct => training.adamw,
                    NudgedPhase::SumDifference | NudgedPhase::Linear => {
                        training.adamw_sum_difference
                    }
                };
                self.report.row(Row {
                    quantity,
                    absolute: whole.max,
                    relative: (squares / whole.count as f64).sqrt(),
                    scale: Scale::LearningRate,
                    tolerance: Some(tolerance),
                    note: worst.map_or(String::new(), |(e, (name, _))| {
                        format!("{name} alone: {e:.1e}")
                    }),
                });
            }
        }
        Ok(())
    }
}
