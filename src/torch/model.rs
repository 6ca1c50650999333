//! Which of the values in a file are a network's parameters.

use super::storages::Storages;
use crate::pickle::malformed::{Context, Result, malformed};
use crate::pickle::{Node, Pickle, Value};
use crate::shown::shown;
use ndarray::ArrayD;
use std::collections::HashSet;

/// The tensors of a file, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensors {
    /// a list, without names
    List(Vec<ArrayD<f64>>),
    /// a `state_dict`, by name
    Named(Vec<(String, ArrayD<f64>)>),
}

/// What a file holds of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// its parameters
    pub tensors: Tensors,
    /// upper bounds of the hidden layers' states, where a whole network says them
    pub clips: Option<Vec<f64>>,
}

/// Under which of its keys a dictionary of more than tensors holds the network.
const KEYS: [&str; 6] = [
    "model",
    "state_dict",
    "model_state_dict",
    "network",
    "net",
    "params",
];
/// Modules within modules, beyond which no network goes.
const DEEPEST: usize = 32;
/// Modules and tensors, beyond which a module holds itself.
const MOST: usize = 100_000;
/// Bytes of a name.
const LONGEST: usize = 500;

/// The parameters of a list, a dictionary, a module, or an energy of the field's framework.
///
/// # Errors
/// When the file holds none of these, or something in it cannot be read.
pub(super) fn of(pickle: &Pickle, mut storages: Storages) -> Result<Saved> {
    let mut root = &pickle.root;
    // {'model': {'state_dict': ..}, 'epoch': 7} is as deep as such files go.
    for _ in 0..KEYS.len() {
        let named = KEYS.iter().find_map(|key| pickle.entry(root, key));
        match named {
            Some(inner) if !matches!(pickle.node(inner), Some(Node::Tensor(_))) => root = inner,
            _ => break,
        }
    }
    let mut clips = None;
    let tensors = match pickle.node(root) {
        Some(Node::List(items)) => Tensors::List(list(pickle, &mut storages, items)?),
        Some(Node::Dict(entries)) => Tensors::Named(dictionary(pickle, &mut storages, entries)?),
        Some(Node::Object(object)) => {
            let (class, state) = (&object.class, &object.state);
            if let Some(params) = pickle.entry(state, "_params").and_then(|p| pickle.list(p)) {
                clips = self::clips(pickle, state);
                Tensors::List(list(pickle, &mut storages, params)?)
            } else {
                let mut walk = Walk::default();
                walk.module(pickle, state, "", 0)
                    .with_context(|| format!("it holds a {}", shown(class)))?;
                if walk.found.is_empty() {
                    malformed!(
                        "it holds an object of class {}, in which no parameters were found; where it was written, save its tensors",
                        shown(class)
                    );
                }
                let read = walk.found.into_iter().map(|(name, value)| {
                    let Some(Node::Tensor(tensor)) = pickle.node(value) else {
                        malformed!("{} is no tensor", shown(&name));
                    };
                    Ok((name, storages.tensor(pickle, tensor)?))
                });
                Tensors::Named(read.collect::<Result<_>>()?)
            }
        }
        _ => {
            malformed!("it holds neither a list of tensors nor a dictionary of them, nor a module")
        }
    };
    Ok(Saved { tensors, clips })
}

/// Tensors, or objects that hold one each.
fn list(pickle: &Pickle, storages: &mut Storages, items: &[Value]) -> Result<Vec<ArrayD<f64>>> {
    let items = items.iter().enumerate().map(|(i, value)| {
        let tensor = match pickle.node(value) {
            Some(Node::Object(object)) => pickle.entry(&object.state, "_state"),
            _ => Some(value),
        };
        match tensor.and_then(|tensor| pickle.node(tensor)) {
            Some(Node::Tensor(tensor)) => storages.tensor(pickle, tensor),
            _ => malformed!("item {i} of its list is not a tensor"),
        }
    });
    items.collect()
}

fn dictionary(
    pickle: &Pickle,
    storages: &mut Storages,
    entries: &[(Value, Value)],
) -> Result<Vec<(String, ArrayD<f64>)>> {
    let read = entries.iter().map(
        |(name, value)| match (pickle.text(name), pickle.node(value)) {
            (Some(name), Some(Node::Tensor(tensor))) if name.len() <= LONGEST => {
                Ok((name.to_string(), storages.tensor(pickle, tensor)?))
            }
            _ => malformed!("it is a dictionary, but not of named tensors"),
        },
    );
    let mut tensors = read.collect::<Result<Vec<_>>>()?;
    // As `DataParallel` names them.
    const PREFIX: &str = "module.";
    if tensors.iter().all(|(name, _)| name.starts_with(PREFIX)) {
        for (name, _) in &mut tensors {
            name.drain(..PREFIX.len());
        }
    }
    Ok(tensors)
}

/// What was found in a module.
#[derive(Default)]
struct Walk<'a> {
    found: Vec<(String, &'a Value)>,
    /// modules that were looked into; the same one may lie in several places
    visited: usize,
}

impl<'a> Walk<'a> {
    /// The parameters and statistics of a module and of those in it, in the order and under the names of its `state_dict`.
    fn module(
        &mut self,
        pickle: &'a Pickle,
        state: &Value,
        prefix: &str,
        depth: usize,
    ) -> Result<()> {
        self.visited += 1;
        if !(depth <= DEEPEST && self.visited + self.found.len() <= MOST && prefix.len() <= LONGEST)
        {
            malformed!("its modules hold each other without end");
        }
        let passing = pickle.entry(state, "_non_persistent_buffers_set");
        let passing = passing.and_then(|names| pickle.list(names));
        let passing = passing.unwrap_or_default().iter().take(LONGEST);
        let passing: HashSet<_> = passing.filter_map(|name| pickle.text(name)).collect();
        let entries = |key: &str| {
            let dict = pickle.entry(state, key).and_then(|d| pickle.dict(d));
            let named = dict.unwrap_or_default().iter();
            named
                .filter_map(|(name, value)| Some((pickle.text(name)?, value)))
                .filter(|(name, _)| name.len() <= LONGEST)
        };
        for (name, value) in entries("_parameters").chain(entries("_buffers")) {
            if *value != Value::None && !passing.contains(name) {
                self.found.push((format!("{prefix}{name}"), value));
            }
        }
        for (name, value) in entries("_modules") {
            if let Some(Node::Object(object)) = pickle.node(value) {
                self.module(
                    pickle,
                    &object.state,
                    &format!("{prefix}{name}."),
                    depth + 1,
                )?;
            }
        }
        Ok(())
    }
}

/// Upper bounds of the states of an energy's hidden layers, each of a class called after clipping: the one number that it has as an
/// attribute. `None` unless all have one.
fn clips(pickle: &Pickle, state: &Value) -> Option<Vec<f64>> {
    let layers = pickle
        .entry(state, "_layers")
        .and_then(|l| pickle.list(l))?;
    let hidden = layers.get(1..layers.len().checked_sub(1)?)?;
    let clip = |layer: &Value| {
        let Some(Node::Object(object)) = pickle.node(layer) else {
            return None;
        };
        let (class, state) = (&object.class, &object.state);
        (class.to_lowercase().contains("clip")).then_some(())?;
        let attributes = pickle.dict(state)?.iter();
        let mut numbers = attributes.filter_map(|(_, value)| match value {
            Value::Float(number) => Some(*number),
            _ => None,
        });
        let first = numbers.next()?;
        (numbers.next().is_none() && first.is_finite() && first > 0.0).then_some(first)
    };
    hidden.iter().map(clip).collect()
}
