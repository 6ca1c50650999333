//! Kind `learning`: the estimators of the parent framework, each from the same free state.
//!
//! What is recomputed follows from the names in the file, `RULE[.WORD..].grad.P`: a word is a variant, a mode (that of the
//! metadata unless named), or `alternative`.

use super::golden::Golden;
use super::hopfield::{Bound, Replay, plain};
use super::report::Report;
use super::tolerance::Tolerances;
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::network::Mode;
use crate::phase::{NudgedPhase, Nudging, OutputCondition, PhaseState, Relaxation, Start, Variant};
use std::collections::BTreeSet;

pub fn replay(
    golden: &Golden,
    device: Device,
    precision: Precision,
    tolerances: &Tolerances,
    report: &mut Report,
) -> Result<()> {
    let mut replay = Replay::new(golden, device, precision, tolerances, report)?;
    replay.load_free_state()?;
    for (quantity, which) in estimators(golden) {
        replay.estimator(&quantity, &which)?;
    }
    Ok(())
}

/// The parent framework's name of an estimator, taken apart.
struct Estimator {
    rule: Rule,
    variant: Variant,
    mode: Option<Mode>,
    is_alternative: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Ep,
    Contrastive,
    Coupled,
    Truncated,
    Recurrent,
}

impl Estimator {
    /// `None` for what is not understood, which is reported as unknown tensors.
    fn of(name: &str) -> Option<Self> {
        let mut words = name.split('.');
        let rule = match words.next()? {
            "ep" => Rule::Ep,
            "contrastive" => Rule::Contrastive,
            "coupled" => Rule::Coupled,
            "tbp" => Rule::Truncated,
            "rbp" => Rule::Recurrent,
            _ => return None,
        };
        let (mut variant, mut mode, mut is_alternative) = (None, None, false);
        for word in words {
            if word == "alternative" && rule == Rule::Ep && !is_alternative {
                is_alternative = true;
            } else if let (Ok(named), None) = (word.parse::<Variant>(), variant) {
                variant = Some(named);
            } else if let (Ok(named), None) = (word.parse::<Mode>(), mode) {
                mode = Some(named);
            } else {
                return None;
            }
        }
        let takes_variant = matches!(rule, Rule::Ep | Rule::Coupled);
        let variant = match (takes_variant, variant) {
            (true, Some(variant)) => variant,
            (false, None) => Variant::Positive,
            _ => return None,
        };
        Some(Self {
            rule,
            variant,
            mode,
            is_alternative,
        })
    }
}

/// Estimators with a gradient in the file, by name.
fn estimators(golden: &Golden) -> Vec<(String, Estimator)> {
    let names: BTreeSet<&str> = golden
        .names()
        .filter_map(|name| Some(name.split_once(".grad.")?.0))
        .collect();
    let understood = |name: &str| Some((name.to_string(), Estimator::of(name)?));
    names.into_iter().filter_map(understood).collect()
}

impl Replay<'_> {
    /// `free.layer.l`
    fn load_free_state(&mut self) -> Result<()> {
        let free = self.case.network.free_layers();
        let state: Result<Vec<_>, _> = free
            .map(|l| self.golden.floats(&format!("free.layer.{l}")))
            .collect();
        self.backend.set_kept_state(Some(state?))?;
        let (x, y) = (&self.case.x, &self.case.y);
        self.backend.load_batch(x, y, Start::Kept)
    }

    fn estimator(&mut self, name: &str, estimator: &Estimator) -> Result<()> {
        let relaxation = Relaxation {
            omega: self.case.omega,
            ..plain(
                estimator.mode.unwrap_or(self.case.mode),
                self.case.nudged_iterations,
            )
        };
        let pair = |beta, output| Nudging {
            beta,
            variant: estimator.variant,
            form: NudgedPhase::Direct,
            output,
        };
        let beta = self.case.beta;
        match estimator.rule {
            Rule::Ep => self.pair(
                name,
                pair(beta, OutputCondition::Nudged),
                &relaxation,
                estimator,
            ),
            Rule::Contrastive => self.pair(
                name,
                pair(1.0, OutputCondition::Clamped),
                &relaxation,
                estimator,
            ),
            Rule::Coupled => self.pair(
                name,
                pair(beta, OutputCondition::Clamped),
                &relaxation,
                estimator,
            ),
            Rule::Recurrent => {
                let response = Nudging {
                    form: NudgedPhase::Linear,
                    ..pair(beta, OutputCondition::Nudged)
                };
                (self.backend).nudged_phases(&response, self.case.cost, &relaxation)?;
                self.backend.estimate_gradient()?;
                self.compare_estimate(name, NudgedPhase::Direct)
            }
            Rule::Truncated => {
                (self.backend).truncated_backpropagation(self.case.cost, &relaxation)?;
                let end = format!("{name}.end");
                if self.any(&format!("{end}.layer.")) {
                    self.compare_states(&end, PhaseState::Second, self.tolerances.learning.states)?;
                }
                self.compare_estimate(name, NudgedPhase::Direct)
            }
        }
    }

    /// In every form that this precision is judged in.
    fn pair(
        &mut self,
        name: &str,
        nudging: Nudging,
        relaxation: &Relaxation,
        estimator: &Estimator,
    ) -> Result<()> {
        for (i, &form) in self.tolerances.forms.iter().enumerate() {
            let nudging = Nudging { form, ..nudging };
            (self.backend).nudged_phases(&nudging, self.case.cost, relaxation)?;
            for (what, which) in [("first", PhaseState::First), ("second", PhaseState::Second)] {
                let prefix = format!("{name}.{what}");
                if i == 0 && self.any(&format!("{prefix}.layer.")) {
                    self.compare_states(&prefix, which, self.tolerances.learning.states)?;
                }
            }
            if estimator.is_alternative {
                self.backend.estimate_gradient_at_free_state()?;
            } else {
                self.backend.estimate_gradient()?;
            }
            self.compare_estimate(name, form)?;
        }
        Ok(())
    }

    fn compare_estimate(&mut self, name: &str, form: NudgedPhase) -> Result<()> {
        let gradient = self.backend.gradient()?;
        let learning = self.tolerances.learning;
        let bound = Bound {
            scale: learning.scale,
            tolerance: Some(learning.gradient),
        };
        self.compare_gradient(&format!("{name}.grad"), &gradient, form, bound)
    }
}
