//! A gradient added up over several machines.

use super::real::Real;
use crate::error::Result;
use crate::network::ParameterSet;
use crate::phase::GradientMemory;

/// Replaces `gradient` by the sum over the machines of `share` times each one's; `sum`, which adds up in place, gets it in f64.
pub fn reduce<T: Real>(
    gradient: &mut ParameterSet<T>,
    share: f64,
    sum: &mut dyn FnMut(GradientMemory<'_>) -> Result<()>,
) -> Result<()> {
    let values = gradient.tensors().iter().flatten();
    let mut values: Vec<f64> = values.map(|&g| share * g.wide()).collect();
    sum(GradientMemory::Host(&mut values))?;
    let tensors = gradient.tensors_mut().iter_mut().flatten();
    for (g, value) in tensors.zip(values) {
        *g = T::of(value);
    }
    Ok(())
}
