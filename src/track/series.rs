//! Names and values of the series: what `docs/tracking.md` defines.

use crate::network::{LinearMap, Network};
use crate::run::{Measures, Record};

/// What the series of single layers and tensors are called.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// all layers above the input
    layers: Vec<String>,
    /// all parameter tensors, biases first
    parameters: Vec<String>,
    published: PublishedNames,
}

/// What the published program calls them.
#[derive(Debug, Clone, Default)]
struct PublishedNames {
    /// `Layer_0`, the input, and so on
    layers: Vec<String>,
    /// `Bias_0` .., `ConvWeight_0` .. and `DenseWeight_0` .., each kind counted by itself
    parameters: Vec<String>,
}

impl PublishedNames {
    fn of(network: &Network) -> Self {
        let biases = network.free_layers().enumerate();
        let mut parameters: Vec<String> = biases.map(|(i, _)| format!("Bias_{i}")).collect();
        let (mut convolutions, mut dense) = (0.., 0..);
        parameters.extend(network.edges().iter().filter_map(|edge| {
            Some(match edge.map {
                LinearMap::Conv(_) => format!("ConvWeight_{}", convolutions.next()?),
                LinearMap::Dense => format!("DenseWeight_{}", dense.next()?),
            })
        }));
        Self {
            layers: (0..network.layers().len())
                .map(|l| format!("Layer_{l}"))
                .collect(),
            parameters,
        }
    }
}

impl Names {
    /// `parameters`: names of the trained tensors.
    pub fn new(network: &Network, parameters: Vec<String>) -> Self {
        let layer = |l: usize| network.layers()[l].name.clone();
        Self {
            layers: network.free_layers().map(layer).collect(),
            parameters,
            published: PublishedNames::of(network),
        }
    }

    /// All parameter tensors, biases first.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }
}

/// Every series of an epoch with its value. Names are paths, `cost/train`: TensorBoard and W&B group by what comes first.
/// What the epoch did not measure is left out.
pub fn values(record: &Record, names: &Names) -> Vec<(String, f64)> {
    let mut values = of_pass("train", &record.train, names);
    values.extend(of_pass("test", &record.test, names));
    match record.learning_rates[..] {
        // Backpropagation has one for all tensors.
        [rate] => values.push(("learning_rate".into(), rate)),
        _ => values.extend(each(&names.parameters, &record.learning_rates, |name| {
            format!("learning_rate/{name}")
        })),
    }
    values.extend((record.peak_memory_mib).map(|mib| ("peak_memory_mib".to_string(), mib)));
    values
}

/// The series of the pass `pass` over the training or the test images.
fn of_pass(pass: &str, measures: &Measures, names: &Names) -> Vec<(String, f64)> {
    let eased = (measures.free_iterations).map(|_| measures.eased_phases as f64);
    let cut_off = |iterations: Option<f64>, fraction| iterations.map(|_| fraction);
    let single = [
        ("energy", measures.energy),
        ("cost", Some(measures.cost)),
        ("top1_error", Some(measures.top1_error)),
        ("top5_error", Some(measures.top5_error)),
        ("images_per_second", Some(measures.images_per_second)),
        ("seconds", Some(measures.seconds)),
        ("free_iterations", measures.free_iterations),
        ("nudged_iterations", measures.nudged_iterations),
        ("smallest_omega", measures.smallest_omega),
        ("eased_phases", eased),
        (
            "free_cut_off",
            cut_off(measures.free_iterations, measures.free_cut_off),
        ),
        (
            "nudged_cut_off",
            cut_off(measures.nudged_iterations, measures.nudged_cut_off),
        ),
    ];
    let mut values: Vec<_> = single
        .into_iter()
        .filter_map(|(name, value)| Some((format!("{name}/{pass}"), value?)))
        .collect();
    let probe = &measures.probe;
    let (layers, parameters) = (&names.layers, &names.parameters);
    let named = |series: &'static str| move |name: &str| format!("{series}/{name}/{pass}");
    values.extend(each(layers, &probe.state_norms, named("state_norm")));
    // The linear output, which has no bounds, is the last layer.
    values.extend(each(layers, &probe.saturations, named("saturation")));
    values.extend(each(
        parameters,
        &probe.gradient_norms,
        named("gradient_norm"),
    ));
    values.extend(as_published(pass, measures, &names.published));
    values
}

/// The series of the published program under its names, with its definitions: percentages of errors and zeros.
fn as_published(pass: &str, measures: &Measures, names: &PublishedNames) -> Vec<(String, f64)> {
    let published = &measures.published;
    if published.mean_abs_states.is_empty() {
        return Vec::new();
    }
    let percent = |fraction: f64| 100.0 * fraction;
    let single = [
        ("Energy", measures.energy),
        ("Cost", Some(measures.cost)),
        ("Error", Some(percent(measures.top1_error))),
        ("Top5Error", Some(percent(measures.top5_error))),
    ];
    let mut values: Vec<_> = single
        .into_iter()
        .filter_map(|(name, value)| Some((format!("{name}/{pass}"), value?)))
        .collect();
    let (layers, parameters) = (&names.layers, &names.parameters);
    let named = |series: &'static str| move |name: &str| format!("{series}/{pass}_{name}");
    let zeros: Vec<f64> = published.zero_states.iter().copied().map(percent).collect();
    values.extend(each(layers, &published.mean_abs_states, named("Norm")));
    values.extend(each(layers, &zeros, named("Saturation")));
    values.extend(each(
        parameters,
        &published.mean_abs_gradients,
        named("Gradient"),
    ));
    values
}

fn each(
    names: &[String],
    values: &[f64],
    title: impl Fn(&str) -> String,
) -> impl Iterator<Item = (String, f64)> {
    (names.iter().zip(values)).map(move |(name, &value)| (title(name), value))
}
