//! What a golden file must hold, by its kind and its metadata: a tensor that is gone must not go unnoticed because nothing
//! asks for it.
//!
//! `ep.rs` and its neighbours recompute what they find. Whatever belongs to a group of tensors of which others are there
//! (one layer of a state) they miss themselves; here are the groups, and the tensors that stand alone.

use super::golden::{Golden, GoldenError};
use crate::choice::Choice;
use crate::data::augment::RandAugmentOp;
use crate::network::Mode;
use crate::phase::Variant;
use std::collections::BTreeSet;

/// Names of what is missing; `name.*` where a whole group is.
pub fn missing(golden: &Golden, kind: &str) -> Result<Vec<String>, GoldenError> {
    let expected = match kind {
        "ep" => ep(golden)?,
        "learning" => learning(),
        "backprop" => backprop(golden),
        "schedule" => schedule(golden)?,
        "augment" => augment(golden),
        _ => Vec::new(),
    };
    let is_there = |name: &String| match name.strip_suffix('*') {
        Some(group) => golden.names().any(|name| name.starts_with(group)),
        None => golden.has(name),
    };
    let missing: BTreeSet<String> = expected
        .into_iter()
        .filter(|name| !is_there(name))
        .collect();
    Ok(missing.into_iter().collect())
}

/// Numbers N of tensors called `{prefix}N` or `{prefix}N.…`.
fn numbers(golden: &Golden, prefix: &str) -> BTreeSet<usize> {
    let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse().ok();
    golden.names().filter_map(number).collect()
}

fn ep(golden: &Golden) -> Result<Vec<String>, GoldenError> {
    let iterations: usize = golden.setting("free_iterations")?;
    let mut names = vec![
        format!("free.k{iterations}.layer.*"),
        "grad.norm".into(),
        "grad.raw.*".into(),
    ];
    // Such a file exists for its gradient alone.
    if golden.optional::<String>("purpose")?.as_deref() != Some("precision") {
        let alone = ["free.cost", "free.prediction"];
        let groups = ["first.layer.*", "second.layer.*", "grad.clipped.*"];
        names.extend(alone.into_iter().chain(groups).map(String::from));
        // A state has its energy, and an energy its state.
        let states = numbers(golden, "free.k");
        for k in states.union(&numbers(golden, "energy.k")) {
            names.extend([format!("energy.k{k}"), format!("free.k{k}.layer.*")]);
        }
        names.push(format!("energy.k{iterations}"));
    }
    if golden.optional("variants")?.unwrap_or(false) {
        let (own_variant, own_mode): (Variant, Mode) =
            (golden.setting("variant")?, golden.setting("mode")?);
        let variants = Variant::CHOICES.iter().map(|(variant, ..)| *variant);
        for variant in variants.filter(|v| *v != own_variant) {
            names.push(format!("variant.{variant}.grad.raw.*"));
        }
        // The published ones.
        let modes = [
            Mode::Asynchronous,
            Mode::Synchronous,
            Mode::Forward,
            Mode::Backward,
        ];
        for mode in modes.iter().filter(|m| **m != own_mode) {
            names.push(format!("mode.{mode}.k*"));
        }
    }
    let (images, labels) = (numbers(golden, "train.x."), numbers(golden, "train.y."));
    let steps: BTreeSet<usize> = images.union(&labels).copied().collect();
    for i in &steps {
        names.extend([format!("train.x.{i}"), format!("train.y.{i}")]);
    }
    for optimizer in golden
        .optional::<Vec<String>>("optimizers")?
        .unwrap_or_default()
    {
        names.push(format!("train.{optimizer}.lr"));
        for i in &steps {
            let of_step = ["cost", "energy", "gradnorm"];
            names.extend(of_step.map(|what| format!("train.{optimizer}.{what}.{i}")));
        }
    }
    Ok(names)
}

/// Every estimator of the parent framework.
fn learning() -> Vec<String> {
    let estimators = [
        "ep.centered",
        "ep.centered.alternative",
        "ep.positive.alternative",
        "contrastive",
        "coupled.positive",
        "coupled.negative",
        "coupled.centered",
        "tbp",
        "rbp.synchronous",
    ];
    let states = [
        "contrastive.second",
        "coupled.positive.second",
        "coupled.negative.second",
        "coupled.centered.second",
        "tbp.end",
        "free",
    ];
    let gradients = estimators.map(|name| format!("{name}.grad.*"));
    let states = states.map(|name| format!("{name}.layer.*"));
    gradients.into_iter().chain(states).collect()
}

fn backprop(golden: &Golden) -> Vec<String> {
    let mut names = vec!["grad0.*".into(), "eval.logits".into(), "x.0".into()];
    // A step is there as soon as anything of it is.
    let of_step = ["x", "y", "logits", "loss"];
    for i in of_step
        .iter()
        .flat_map(|what| numbers(golden, &format!("{what}.")))
    {
        names.extend(of_step.map(|what| format!("{what}.{i}")));
    }
    names
}

fn schedule(golden: &Golden) -> Result<Vec<String>, GoldenError> {
    let mut names = Vec::new();
    for (name, key) in [("cosine", "t_max"), ("warm_restarts", "t_0")] {
        if golden.optional::<usize>(key)?.is_some() {
            names.push(name.to_string());
        }
    }
    Ok(names)
}

/// Every operation and every window for every image. There are all of torchvision's operations, each with both signs if it
/// has them at all.
fn augment(golden: &Golden) -> Vec<String> {
    let images: Vec<String> = {
        let images = golden.names().filter(|name| name.starts_with("op."));
        let images = images.filter_map(|name| name.split('.').find(|part| part.starts_with("img")));
        let images: BTreeSet<&str> = images.chain(["img0"]).collect();
        images.into_iter().map(String::from).collect()
    };
    let mut names = Vec::new();
    for image in &images {
        let i = image.trim_start_matches("img");
        names.extend(["input", "gray28", "gray32"].map(|what| format!("{what}.{i}")));
        names.extend([
            format!("flip.{image}"),
            format!("normalized.fashionmnist.{i}"),
        ]);
        names.extend(["cifar10", "cifar100"].map(|set| format!("normalized.{set}.{image}")));
        for crop in ["crop4edge", "fmnistcrop"] {
            names.push(format!("{crop}.*"));
        }
        for name in golden.names() {
            // What one image has, the others have.
            let known = match name.split('.').collect::<Vec<_>>()[..] {
                ["op", op, ..] => op.parse::<RandAugmentOp>().is_ok(),
                _ => true,
            };
            if let Some((what, rest)) = name.split_once(".img").filter(|_| known) {
                let end = rest.split_once('.').map_or("", |(_, end)| end);
                let end = if end.is_empty() {
                    String::new()
                } else {
                    format!(".{end}")
                };
                names.push(format!("{what}.{image}{end}"));
                if what.starts_with("op.") {
                    names.push(format!("{what}.{image}"));
                    names.push(format!("{what}.{image}.magnitude"));
                }
            }
        }
    }
    for op in RandAugmentOp::ALL {
        names.push(format!("op.{op:?}.*"));
        if op.is_signed() {
            let both = ["pos", "neg"];
            let bins = golden
                .names()
                .filter_map(|name| name.strip_prefix(&format!("op.{op:?}."))?.split('.').next());
            for bin in bins {
                names.extend(both.map(|sign| format!("op.{op:?}.{bin}.{sign}.*")));
            }
        }
    }
    names
}
