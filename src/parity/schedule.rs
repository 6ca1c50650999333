//! Kind `schedule`: learning rates over the epochs.

use super::compare::{Difference, relative};
use super::golden::Golden;
use super::report::{Report, Row};
use super::tolerance::{SCHEDULE, Scale};
use crate::error::{Result, bail, ensure};
use crate::optim::Schedule;

pub fn replay(golden: &Golden, report: &mut Report) -> Result<()> {
    let lr: f64 = golden.setting("lr")?;
    let eta_min: f64 = golden.setting("eta_min")?;
    for (name, key) in [("cosine", "t_max"), ("warm_restarts", "t_0")] {
        let period: Option<usize> = golden.optional(key)?;
        if !golden.has(name) {
            continue;
        }
        let Some(period) = period else {
            bail!(File, "metadata {key:?} is missing, which {name:?} needs");
        };
        ensure!(
            File,
            period > 0,
            "metadata {key:?} is 0; expected a number of epochs"
        );
        let schedule = match name {
            "cosine" => Schedule::Cosine { epochs: period },
            _ => Schedule::WarmRestarts { period },
        };
        let rates = golden.vector(name)?;
        let ours: Vec<f64> = (0..rates.len())
            .map(|epoch| schedule.rate_between(lr, eta_min, epoch))
            .collect();
        let difference = Difference::of_vectors(name, &ours, &rates)?;
        report.row(Row {
            quantity: name.to_string(),
            absolute: difference.max,
            relative: relative(difference.max, lr.abs()),
            scale: Scale::TensorMax,
            tolerance: Some(SCHEDULE),
            note: format!("{} epochs, period {period}", rates.len()),
        });
    }
    Ok(())
}
