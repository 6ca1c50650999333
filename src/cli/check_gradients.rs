//! `eqprop-cuda check-gradients`

use super::{load_data, loader, use_threads};
use crate::device::{Device, Precision};
use crate::diagnose::{
    Agreement, Estimate, GradientStudy, Iterations, True, compare_gradients, true_gradient,
};
use crate::ep::Variant;
use crate::network::Network;
use crate::plot;
use crate::train::{
    Algorithm, Checkpoint, Config, RunFolder, Settings, UsageError, replace_file, say,
};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compare the gradients that equilibrium propagation estimates with the true gradient
///
/// The network is that of a run, or a fresh one as `train` would start it with the same options (by default with --preset
/// quickstart). The batch is the first training images, not augmented. The true gradient, of the cost at the fixed point of the
/// free phase, comes from recurrent backpropagation in fp64 on the CPU.
#[derive(Args)]
pub struct CheckGradientsArgs {
    /// A checkpoint, or the folder of a run (its best checkpoint)
    checkpoint: Option<PathBuf>,
    /// Nudging strengths to try
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Set, allow_hyphen_values = true, value_name = "LIST", default_value = "0.001,0.003,0.01,0.03,0.1,0.3,1")]
    betas: Vec<f64>,
    /// Iterations of the free and of the nudged phases to try, such as 20+10,40+20,converged [default: half of the run's, the
    /// run's, twice that, converged]
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Set, value_name = "LIST")]
    iterations: Option<Vec<Iterations>>,
    /// Folder for a picture and a table of all tensors [default: none are written]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Preset of `train`
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    preset: Option<String>,
    /// Configuration file of `train`
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

const DEFAULT_PRESET: &str = "quickstart";
/// The batch that is used unless `--batch-size` says otherwise; a run's own may be larger.
const MOST_IMAGES: usize = 32;
const VARIANTS: [Variant; 3] = [Variant::Centered, Variant::Positive, Variant::Negative];
/// Settings that a checkpoint has and no option can change.
const FIXED: [&str; 4] = ["network", "channels", "activation", "weight-gains"];

pub fn run(args: CheckGradientsArgs) -> Result<ExitCode> {
    let (run, name) = network(&args)?;
    let (config, network) = (&run.config, &run.network);
    ensure!(
        config.algorithm == Algorithm::Ep,
        UsageError(format!(
            "{name} is trained by backpropagation, whose gradient is no estimate: there is nothing to check"
        ))
    );
    for &beta in &args.betas {
        ensure!(
            beta.is_finite() && beta > 0.0,
            UsageError(format!("--betas {beta}: expected positive numbers"))
        );
    }
    use_threads(config)?;
    // The arithmetic of training blurs what is to be seen, unless it is what is to be seen.
    let device = args.settings.device.unwrap_or(Device::Cpu);
    let precision = args.settings.precision.unwrap_or(match device.resolved() {
        Device::Cpu => Precision::Fp64,
        device => device.default_precision(),
    });
    let mut backend = device.backend(network, precision)?;
    backend.set_parameters(&run.learned.parameters)?;
    let data = load_data(config)?;
    let batch = loader(config, data.train, false).epoch(0, 0).next();
    let batch = batch.context("the dataset has no training images")?;
    say(format_args!(
        "{name}: {} training images of {}; estimates on {}",
        batch.len(),
        config.dataset,
        backend.describe()
    ));

    let order = (config.mode, config.omega);
    let truth = true_gradient(
        network,
        &run.learned.parameters,
        &batch,
        config.lossfn,
        order,
    )?;
    describe(&truth);

    let iterations = args.iterations.clone().unwrap_or_else(|| usual(config));
    let study = GradientStudy {
        batch: &batch,
        cost: config.lossfn,
        order,
        form: config.nudged_phase,
        iterations: &iterations,
        betas: &args.betas,
        variants: &VARIANTS,
    };
    say(format_args!(
        "\n{:<12}{:<9}{:^24}{:^24}{:^24}",
        "", "", "centered", "positive", "negative"
    ));
    let columns = format!("{:>12}{:>12}", "1 - cosine", "norm ratio").repeat(VARIANTS.len());
    say(format_args!("{:<12}{:<9}{columns}", "iterations", "beta"));
    let mut row = String::new();
    let estimates = compare_gradients(&mut *backend, &study, &truth.gradient, |estimate| {
        if row.is_empty() {
            row = format!("{:<12}{:<9}", estimate.iterations, estimate.beta);
        }
        row += &cells(&estimate.all);
        if estimate.variant == VARIANTS[VARIANTS.len() - 1] {
            say(&row);
            row.clear();
        }
    })?;
    tensor_table(
        network,
        &truth,
        &estimates,
        config,
        &iterations,
        &args.betas,
    );
    if let Some(folder) = &args.output {
        save(folder, &name, network, &estimates)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The network to check, and what to call it.
fn network(args: &CheckGradientsArgs) -> Result<(Checkpoint, String)> {
    let Some(path) = &args.checkpoint else {
        let file = args.config.as_deref().map(Settings::read).transpose()?;
        let preset = match (&args.preset, &file) {
            (None, None) => Some(DEFAULT_PRESET),
            (preset, _) => preset.as_deref(),
        };
        let (config, network) = Config::resolve(preset, file, &args.settings)?;
        let name = format!("{}, fresh, seed {}", network.name(), config.seed);
        return Ok((with_batch(Checkpoint::fresh(config, network)?, args), name));
    };
    let table = args.settings.table();
    let fixed = FIXED.iter().find(|key| table.contains_key(**key));
    let refused = match (fixed, &args.preset, &args.config) {
        (Some(key), _, _) => Some(format!("--{key}")),
        (_, Some(_), _) => Some("--preset".into()),
        (_, _, Some(_)) => Some("--config".into()),
        _ => None,
    };
    if let Some(option) = refused {
        return Err(UsageError(format!(
            "{option}: {} says what the network is; leave one of them out",
            path.display()
        ))
        .into());
    }
    let path = RunFolder::best_of(path);
    let mut run = Checkpoint::load(&path)?;
    run.config = run.config.evaluated(&args.settings, &run.network)?;
    let name = format!(
        "{} ({} after {} epochs)",
        path.display(),
        run.network.name(),
        run.position.epoch
    );
    Ok((with_batch(run, args), name))
}

fn with_batch(mut run: Checkpoint, args: &CheckGradientsArgs) -> Checkpoint {
    if args.settings.batch_size.is_none() {
        run.config.batch_size = run.config.batch_size.min(MOST_IMAGES);
    }
    run
}

fn usual(config: &Config) -> Vec<Iterations> {
    let (free, nudged) = (
        config.num_iterations_inference,
        config.num_iterations_training,
    );
    vec![
        Iterations::Count {
            free: free.div_ceil(2),
            nudged: nudged.div_ceil(2),
        },
        Iterations::Count { free, nudged },
        Iterations::Count {
            free: 2 * free,
            nudged: 2 * nudged,
        },
        Iterations::Converged,
    ]
}

fn describe(truth: &True) {
    say(format_args!(
        "true gradient: norm {:.4e}; free phase of {} iterations (last change {:.1e}), linear solve of {} ({:.1e})",
        truth.gradient.norm(),
        truth.free.iterations,
        truth.free.change,
        truth.solve.iterations,
        truth.solve.change
    ));
    if !truth.has_converged() {
        say(
            "warning: that has not converged, so it is not the true gradient; try --mode coloured, or another --omega",
        );
    }
}

fn cells(agreement: &Agreement) -> String {
    let Agreement {
        one_minus_cosine,
        norm_ratio,
    } = *agreement;
    if norm_ratio.is_nan() || one_minus_cosine.is_nan() {
        return format!("{:>12}{:>12}", "-", "-");
    }
    format!("{one_minus_cosine:>12.2e}{norm_ratio:>12.5}")
}

/// `1 - cosine` of each tensor by beta: of the run's variant, in the phases closest to the run's.
fn tensor_table(
    network: &Network,
    truth: &True,
    estimates: &[Estimate],
    config: &Config,
    iterations: &[Iterations],
    betas: &[f64],
) {
    let own = Iterations::Count {
        free: config.num_iterations_inference,
        nudged: config.num_iterations_training,
    };
    let shown = iterations
        .iter()
        .find(|&&i| i == own)
        .unwrap_or(&iterations[0]);
    let variant = config.variant.to_possible_value();
    let variant = variant.expect("every variant has a name");
    say(format_args!(
        "\n1 - cosine of each tensor by beta, {}, {shown} iterations",
        variant.get_name()
    ));
    let mut heading = format!("{:<34}{:>12}", "tensor", "true norm");
    for beta in betas {
        let _ = write!(heading, "{beta:>10}");
    }
    say(heading);
    let mine = |e: &&Estimate| e.iterations == *shown && e.variant == config.variant;
    for (t, name) in tensor_names(network).into_iter().enumerate() {
        let tensor = &truth.gradient.tensors()[t];
        let norm = tensor.iter().map(|v| v * v).sum::<f64>().sqrt();
        let mut row = format!("{name:<34}{norm:>12.2e}");
        for estimate in estimates.iter().filter(mine) {
            let value = estimate.tensors[t].one_minus_cosine;
            row += &match value.is_nan() {
                true => format!("{:>10}", "-"),
                false => format!("{value:>10.1e}"),
            };
        }
        say(row);
    }
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

fn save(folder: &Path, name: &str, network: &Network, estimates: &[Estimate]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot make the folder {}; choose another with --output",
            folder.display()
        )
    })?;
    let figure = plot::gradient_errors(&format!("Gradient estimates: {name}"), estimates)?;
    let mut paths = figure.save(folder, "gradients")?.to_vec();
    let csv = folder.join("gradients.csv");
    replace_file(&csv, table(network, estimates).as_bytes())?;
    paths.push(csv);
    for path in paths {
        say(path.display());
    }
    Ok(())
}

/// All estimates, one line per tensor and one for all of them together.
fn table(network: &Network, estimates: &[Estimate]) -> String {
    let mut text = String::from(
        "free_iterations,nudged_iterations,beta,variant,tensor,one_minus_cosine,norm_ratio\n",
    );
    let names = network.parameter_names();
    for estimate in estimates {
        let (free, nudged) = match estimate.iterations {
            Iterations::Count { free, nudged } => (free.to_string(), nudged.to_string()),
            Iterations::Converged => ("converged".into(), "converged".into()),
        };
        let variant = estimate.variant.to_possible_value();
        let variant = variant.expect("every variant has a name");
        let all = std::iter::once(("all", &estimate.all));
        let tensors = names.iter().map(String::as_str).zip(&estimate.tensors);
        for (name, agreement) in all.chain(tensors) {
            let _ = writeln!(
                text,
                "{free},{nudged},{},{},{name},{:e},{}",
                estimate.beta,
                variant.get_name(),
                agreement.one_minus_cosine,
                agreement.norm_ratio
            );
        }
    }
    text
}
