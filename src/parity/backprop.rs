//! Kind `backprop`: training steps of a feed-forward network.

use super::compare::{Difference, relative};
use super::golden::{Golden, GoldenError};
use super::report::{Report, Row, global};
use super::tolerance::{FeedForwardTolerances, Scale};
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::feedforward::{Backend, FeedForward, NormMode};
use crate::network::{ModelState, NetworkError};
use crate::optim::OptimizerConfig;
use ndarray::ArrayD;
use std::collections::BTreeSet;

/// The file being replayed, and the backend that recomputes it.
struct Replay<'a> {
    golden: &'a Golden,
    model: FeedForward,
    optimizer: OptimizerConfig,
    rate: f64,
    tolerances: &'a FeedForwardTolerances,
    backend: Box<dyn Backend>,
    report: &'a mut Report,
}

pub fn replay(
    golden: &Golden,
    device: Device,
    precision: Precision,
    tolerances: &FeedForwardTolerances,
    report: &mut Report,
) -> Result<()> {
    let model = FeedForward::preset(
        &golden.text("network")?,
        golden.setting("num_inputs")?,
        golden.setting("num_outputs")?,
        golden.setting("channels")?,
    )?;
    let initial = state(golden, &model)?;
    let mut backend = device.feed_forward(&model, precision)?;
    backend.set_state(&initial)?;
    let optimizer = optimizer(golden)?;
    backend.set_optimizer(optimizer)?;
    report.title = format!(
        "backprop, {} ({})",
        model.network().name(),
        backend.describe()
    );
    let mut replay = Replay {
        golden,
        model,
        optimizer,
        rate: golden.setting("lr")?,
        tolerances,
        backend,
        report,
    };
    replay.training()
}

fn optimizer(golden: &Golden) -> Result<OptimizerConfig, GoldenError> {
    let weight_decay = golden.setting("weight_decay")?;
    let momentum = golden.optional("momentum")?.unwrap_or(0.0);
    let name = golden.text("optimizer")?;
    match name.as_str() {
        "adam" => Ok(OptimizerConfig::Adam { weight_decay }),
        "sgd-nesterov" => Ok(OptimizerConfig::Sgd {
            momentum,
            weight_decay,
        }),
        _ => Err(GoldenError::Metadata {
            key: "optimizer".into(),
            message: format!("{name:?} is unknown; expected \"adam\" or \"sgd-nesterov\""),
        }),
    }
}

/// `init.*`. Shapes are checked before anything of the network's size is allocated.
fn state(golden: &Golden, model: &FeedForward) -> Result<ModelState, GoldenError> {
    let read = |names: &[String], shapes: &[Vec<usize>]| {
        let tensor = |(name, expected): (&String, &Vec<usize>)| {
            let name = format!("init.{name}");
            let shape = golden.shape(&name)?;
            if shape != expected {
                return Err(GoldenError::Network(NetworkError(format!(
                    "{name} has shape {shape:?}, but the metadata's network expects {expected:?}"
                ))));
            }
            values(golden, &name)
        };
        names
            .iter()
            .zip(shapes)
            .map(tensor)
            .collect::<Result<_, _>>()
    };
    let parameters = read(model.parameter_names(), model.parameter_shapes())?;
    let statistics = read(model.statistic_names(), model.statistic_shapes())?;
    Ok(model.state(parameters, statistics)?)
}

/// All are floats, but the count of batches, which is an integer.
fn values(golden: &Golden, name: &str) -> Result<ArrayD<f64>, GoldenError> {
    if !name.ends_with("num_batches_tracked") {
        return golden.floats(name);
    }
    let counts = golden.labels(name)?;
    let count = counts.first().copied().unwrap_or(0);
    Ok(ArrayD::from_elem(ndarray::IxDyn(&[]), count as f64))
}

impl Replay<'_> {
    fn training(&mut self) -> Result<()> {
        let batch: Option<usize> = self.golden.optional("batch")?;
        let number = |name: &str| name.strip_prefix("x.")?.parse::<usize>().ok();
        let steps: BTreeSet<usize> = self.golden.names().filter_map(number).collect();
        for &i in &steps {
            self.step(i, batch)?;
        }
        let after = format!("after{}", steps.len());
        self.compare_trained(&after)?;
        if self.golden.has("eval.logits") {
            let x = self.golden.images("x.0")?;
            let y = self.golden.labels("y.0")?;
            self.backend.forward(&x, &y, NormMode::Evaluate)?;
            self.compare_logits("eval.logits", self.tolerances.later)?;
        }
        Ok(())
    }

    /// `logits.i`, `loss.i`, `gradI.*`
    fn step(&mut self, i: usize, batch: Option<usize>) -> Result<()> {
        let x = self.golden.images(&format!("x.{i}"))?;
        if let Some(batch) = batch
            && batch != x.dim().0
        {
            let message = format!("{batch}, but x.{i} holds {} images", x.dim().0);
            let key = "batch".into();
            return Err(GoldenError::Metadata { key, message }.into());
        }
        let y = self.golden.labels(&format!("y.{i}"))?;
        let outcome = self.backend.forward(&x, &y, NormMode::Train)?;
        // Later steps follow from updated parameters, which carry the errors of the updates.
        let tolerance = match i {
            0 => self.tolerances.first,
            _ => self.tolerances.later,
        };
        if self.golden.has(&format!("logits.{i}")) {
            self.compare_logits(&format!("logits.{i}"), tolerance)?;
        }
        let name = format!("loss.{i}");
        if self.golden.has(&name) {
            let loss = outcome.cost.iter().sum::<f64>() / y.len() as f64;
            let golden = self.golden.scalar(&name)?;
            self.report.row(Row {
                quantity: name,
                absolute: (loss - golden).abs(),
                relative: relative((loss - golden).abs(), golden.abs()),
                scale: Scale::TensorMax,
                tolerance: Some(tolerance),
                note: String::new(),
            });
        }
        self.backend.backward()?;
        let prefix = format!("grad{i}");
        if self.any(&prefix) {
            let gradient = self.backend.gradient()?;
            let parts =
                self.differences(&prefix, self.model.parameter_names(), gradient.tensors())?;
            let scale = self.tolerances.gradient_scale;
            let tolerance = Some(self.tolerances.gradient);
            self.report.tensors(&prefix, &parts, scale, tolerance);
        }
        let tensors = self.model.parameter_names().len();
        self.backend.step(&vec![self.rate; tensors])
    }

    fn any(&self, prefix: &str) -> bool {
        let prefix = format!("{prefix}.");
        self.golden.names().any(|name| name.starts_with(&prefix))
    }

    fn compare_logits(&mut self, name: &str, tolerance: f64) -> Result<()> {
        let golden = self.golden.floats(name)?;
        let logits = self.backend.logits()?.into_dyn();
        let parts = [(name.to_string(), Difference::of(name, &logits, &golden)?)];
        (self.report).tensors(name, &parts, Scale::TensorMax, Some(tolerance));
        Ok(())
    }

    fn differences(
        &self,
        prefix: &str,
        names: &[String],
        ours: &[ArrayD<f64>],
    ) -> Result<Vec<(String, Difference)>> {
        let difference = |(parameter, tensor): (&String, &ArrayD<f64>)| {
            let name = format!("{prefix}.{parameter}");
            let golden = values(self.golden, &name)?;
            Ok((parameter.clone(), Difference::of(&name, tensor, &golden)?))
        };
        names.iter().zip(ours).map(difference).collect()
    }

    /// `afterN.*`: parameters and running statistics after all steps.
    fn compare_trained(&mut self, prefix: &str) -> Result<()> {
        if !self.any(prefix) {
            let message = format!("{prefix}.* is missing: the state after the training steps");
            self.report.problem(&message);
            return Ok(());
        }
        let state = self.backend.state()?;
        let names = self.model.parameter_names();
        let parts = self.differences(prefix, names, state.parameters.tensors())?;
        match self.optimizer {
            OptimizerConfig::Sgd { .. } | OptimizerConfig::HeavyBall { .. } => {
                let tolerance = Some(self.tolerances.sgd);
                (self.report).tensors(prefix, &parts, Scale::LayerNorm, tolerance);
            }
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => {
                let whole = global(&parts);
                self.report.row(Row {
                    quantity: prefix.to_string(),
                    absolute: whole.max,
                    relative: relative(whole.rms(), self.rate),
                    scale: Scale::LearningRate,
                    tolerance: Some(self.tolerances.adam),
                    note: String::new(),
                });
            }
        }
        let names = self.model.statistic_names();
        let parts = self.differences(prefix, names, &state.statistics)?;
        let (counts, running): (Vec<_>, Vec<_>) =
            (parts.into_iter()).partition(|(name, _)| name.ends_with("num_batches_tracked"));
        let quantity = format!("{prefix}, running statistics");
        let tolerance = Some(self.tolerances.statistics);
        (self.report).tensors(&quantity, &running, Scale::LayerNorm, tolerance);
        let quantity = format!("{prefix}, batches");
        (self.report).tensors(&quantity, &counts, Scale::Exact, Some(0.0));
        Ok(())
    }
}
