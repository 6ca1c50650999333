//! Gradient estimates as text.

use super::gradient::{Agreement, Estimate, Iterations};
use crate::network::{Network, ParameterSet};
use std::fmt::Write;

/// `1 - cosine` and the ratio of norms, in two columns of 12 characters.
pub fn cells(agreement: &Agreement) -> String {
    let Agreement {
        one_minus_cosine,
        norm_ratio,
    } = *agreement;
    if norm_ratio.is_nan() || one_minus_cosine.is_nan() {
        return format!("{:>12}{:>12}", "-", "-");
    }
    match norm_ratio < 1e3 {
        true => format!("{one_minus_cosine:>12.2e}{norm_ratio:>12.5}"),
        false => format!("{one_minus_cosine:>12.2e}{norm_ratio:>12.2e}"),
    }
}

/// `1 - cosine` of each tensor, a row for each and a column for each of the named estimates.
pub fn tensor_table(
    network: &Network,
    truth: &ParameterSet<f64>,
    columns: &[(String, &Estimate)],
) -> String {
    let mut text = format!("{:<34}{:>11}", "tensor", "true norm");
    for (name, _) in columns {
        let _ = write!(text, "{name:>11}");
    }
    text.push('\n');
    for (t, name) in tensor_names(network).into_iter().enumerate() {
        let norm = truth.tensors()[t].iter().map(|v| v * v).sum::<f64>().sqrt();
        let _ = write!(text, "{name:<34}{norm:>11.2e}");
        for (_, estimate) in columns {
            let value = estimate.tensors[t].one_minus_cosine;
            text += &match value.is_nan() {
                true => format!("{:>11}", "-"),
                false => format!("{value:>11.1e}"),
            };
        }
        text.push('\n');
    }
    text
}

/// Parameter names with the layers that they belong to.
fn tensor_names(network: &Network) -> Vec<String> {
    let layer = |l: usize| network.layers()[l].name.as_str();
    let biases = network.free_layers().map(|l| layer(l).to_string());
    let edges = network.edges().iter();
    let weights = edges.map(|e| format!("{} -> {}", layer(e.pre), layer(e.post)));
    let names = network.parameter_names().into_iter();
    let of = names.zip(biases.chain(weights));
    of.map(|(name, place)| format!("{name:<10} {place}"))
        .collect()
}

/// All estimates, one line per tensor (of these names) and one for all of them together.
pub fn estimates_csv(names: &[String], estimates: &[Estimate]) -> String {
    let mut text = String::from(
        "free_iterations,nudged_iterations,beta,variant,tensor,one_minus_cosine,norm_ratio\n",
    );
    for estimate in estimates {
        let (free, nudged) = match estimate.iterations {
            Iterations::Count { free, nudged } => (free.to_string(), nudged.to_string()),
            Iterations::Converged => ("converged".into(), "converged".into()),
        };
        let all = std::iter::once(("all", &estimate.all));
        let tensors = names.iter().map(String::as_str).zip(&estimate.tensors);
        for (name, agreement) in all.chain(tensors) {
            let _ = writeln!(
                text,
                "{free},{nudged},{},{},{name},{:e},{}",
                estimate.beta, estimate.variant, agreement.one_minus_cosine, agreement.norm_ratio
            );
        }
    }
    text
}
