//! `eqprop-cuda check-gradients`

use super::figure::{FigureArgs, make};
use super::runs;
use super::say;
use crate::config::{Config, SETTINGS, Settings, UsageError};
use crate::data::Batch;
use crate::data::Shard;
use crate::device::{Device, Precision};
use crate::diagnose::{
    Estimate, GradientStudy, Iterations, OwnEstimate, RuleEstimate, True, cells, compare_gradients,
    compare_rules, estimates_csv, own_estimate, tensor_table, true_gradient,
};
use crate::phase::{Backend, NudgedPhase, Nudging, Variant};
use crate::plot;
use crate::run::{Checkpoint, replace_file};
use crate::run::{load_data, loader, threads};
use anyhow::{Context, Result, ensure};
use clap::Args;
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
    /// Nudging strengths to try [default: 1e-6,1e-5,1e-4,0.001,0.01,0.03,0.1,0.3 and the run's]
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Set, allow_hyphen_values = true, value_name = "LIST")]
    betas: Option<Vec<f64>>,
    /// Iterations of the free and of the nudged phases to try, such as 20+10,40+20,converged [default: half of the run's, the
    /// run's, twice that, converged]
    #[arg(long, value_delimiter = ',', action = clap::ArgAction::Set, value_name = "LIST")]
    iterations: Option<Vec<Iterations>>,
    /// Only compare recurrent backpropagation with equilibrium propagation as the run has it, at as many iterations and at as many
    /// sweeps: direction, length, time
    #[arg(long, conflicts_with_all = ["betas", "iterations", "output"])]
    rules: bool,
    /// Folder for two pictures and a table with all values (gradients.csv) [default: none are written]
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
    #[command(flatten)]
    figure: FigureArgs,
}

const DEFAULT_PRESET: &str = "quickstart";
/// The batch that is used unless `--batch-size` says otherwise; a run's own may be larger.
const MOST_IMAGES: usize = 32;
const VARIANTS: [Variant; 3] = [Variant::Centered, Variant::Positive, Variant::Negative];
/// Settings that a checkpoint has and no option can change.
const FIXED: [&str; 5] = ["network", "channels", "activation", "weight-gains", "gains"];

pub fn run(args: CheckGradientsArgs) -> Result<ExitCode> {
    let (run, name) = network(&args)?;
    let (config, network) = (&run.config, &run.network);
    ensure!(
        config.algorithm.description().relaxes,
        UsageError(format!(
            "{name} is trained by {}, whose gradient is no estimate: there is nothing to check",
            config.algorithm.description().title
        ))
    );
    let betas = args.betas.clone().unwrap_or_else(|| usual_betas(config));
    for &beta in &betas {
        ensure!(
            beta.is_finite() && beta > 0.0,
            UsageError(format!("--betas {beta}: expected positive numbers"))
        );
    }
    threads::start(config.threads)?;
    // The arithmetic of training blurs what is to be seen, unless it is what is to be seen.
    let device = args.settings.device.unwrap_or(Device::Cpu);
    let precision = args.settings.precision.unwrap_or(match device.resolved() {
        Device::Cpu => Precision::Fp64,
        device => device.default_precision(),
    });
    let mut backend = device.backend(network, precision)?;
    backend.set_parameters(&run.model.parameters)?;
    let mut with_constants = config.clone();
    let data = load_data(&mut with_constants, network)?;
    let batch = loader(&with_constants, data.train, false, Shard::WHOLE)?
        .epoch(0, 0)
        .next();
    let batch = batch.context("the dataset has no training images")?;
    say(format_args!(
        "{name}: {} training images of {}; estimates on {}",
        batch.len(),
        config.dataset,
        backend.describe()
    ));

    let order = (config.mode, config.omega);
    let truth = true_gradient(network, &run.model.parameters, &batch, config.lossfn, order)?;
    describe(&truth);
    if args.rules {
        return rules(&mut *backend, &run, &batch, &truth);
    }

    own(&mut *backend, config, &batch, &truth)?;
    let iterations = args.iterations.clone().unwrap_or_else(|| usual(config));
    let study = GradientStudy {
        batch: &batch,
        cost: config.lossfn,
        order,
        form: config.rule_settings().nudging().form,
        iterations: &iterations,
        betas: &betas,
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
    let mine: Vec<&Estimate> = (estimates.iter())
        .filter(|e| e.variant == config.rule_settings().nudging().variant)
        .collect();
    if let Some(note) = kink(&estimates) {
        say(note);
    }
    by_tensor(&run, &truth, &mine);
    if let Some(folder) = &args.output {
        save(&args.figure, folder, &name, &run, (&estimates, &mine))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line about the estimate that the run itself makes, if the tables of pairs of so many iterations do not have it.
fn own(backend: &mut dyn Backend, config: &Config, batch: &Batch, truth: &True) -> Result<()> {
    let description = config.algorithm.description();
    // A rule that knows no other form does not say which it has.
    let responds =
        description.foreign.contains(&"nudged-phase") || config.nudged_phase == NudgedPhase::Linear;
    let (free, nudged) = (config.free_relaxation(), config.nudged_relaxation());
    let by_tolerance = free.tolerance.or(nudged.tolerance).is_some();
    if !description.responds || !(responds || by_tolerance) {
        return Ok(());
    }
    let pair = config.rule_settings().nudging();
    let (nudging, name) = match responds {
        true => {
            let form = NudgedPhase::Linear;
            (Nudging { form, ..pair }, "linear response".to_string())
        }
        false => (pair, format!("{}, beta {}", pair.variant, pair.beta)),
    };
    let phases = (&free, &nudged);
    let OwnEstimate {
        free,
        nudged,
        agreement,
    } = own_estimate(
        backend,
        batch,
        config.lossfn,
        phases,
        &nudging,
        &truth.gradient,
    )?;
    say(format_args!(
        "the run's own estimate: {name}, {}+{} iterations (last changes {:.1e}, {:.1e}): 1 - cosine {:.2e}, norm ratio {:.5}",
        free.iterations,
        nudged.iterations,
        free.change,
        nudged.change,
        agreement.one_minus_cosine,
        agreement.norm_ratio
    ));
    Ok(())
}

/// A table of the rules' estimates.
fn rules(
    backend: &mut dyn Backend,
    run: &Checkpoint,
    batch: &Batch,
    truth: &True,
) -> Result<ExitCode> {
    let config = &run.config;
    let estimates = compare_rules(
        backend,
        batch,
        config.lossfn,
        (&config.free_relaxation(), &config.nudged_relaxation()),
        &config.rule_settings().nudging(),
        &truth.gradient,
    )?;
    say(format_args!(
        "\n{:<28}{:>11}{:>8}{:>14}{:>14}{:>12}",
        "rule", "iterations", "sweeps", "1 - cosine", "norm ratio", "ms"
    ));
    for RuleEstimate {
        rule,
        iterations,
        sweeps,
        agreement,
        seconds,
    } in estimates
    {
        say(format_args!(
            "{rule:<28}{iterations:>11}{sweeps:>8}{:>14.2e}{:>14.4}{:>12.2}",
            agreement.one_minus_cosine,
            agreement.norm_ratio,
            1e3 * seconds
        ));
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
    let given = SETTINGS
        .iter()
        .filter(|setting| setting.is_in(&args.settings));
    let mut keys = given.map(|setting| setting.key());
    let fixed = keys.find(|key| FIXED.contains(&&**key));
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
    let path = runs::checkpoint_of(path)?;
    let mut run = Checkpoint::load(&path)?;
    run.config = runs::evaluated(&run, &args.settings)?;
    let name = format!(
        "{} ({} after epoch {})",
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

fn usual_betas(config: &Config) -> Vec<f64> {
    let mut betas = vec![1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.03, 0.1, 0.3, config.beta];
    betas.sort_by(f64::total_cmp);
    betas.dedup();
    betas
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

/// The centred estimate is the best for a small beta, whose square its error grows with, unless a unit meets the end of its
/// clip between the two nudged states. If that still happens at the smallest beta that was tried, it looks worse than it is.
fn kink(estimates: &[Estimate]) -> Option<String> {
    let smallest = estimates
        .iter()
        .map(|e| e.beta)
        .fold(f64::INFINITY, f64::min);
    let error = |variant| {
        let mut converged = estimates
            .iter()
            .filter(|e| e.iterations == Iterations::Converged);
        let found = converged.find(|e| e.beta == smallest && e.variant == variant);
        found.map(|e| e.all.one_minus_cosine)
    };
    let (centred, positive) = (error(Variant::Centered)?, error(Variant::Positive)?);
    // Rounding decides below this.
    const RESOLVED: f64 = 1e-12;
    (centred > positive && centred > RESOLVED).then(|| {
        format!(
            "note: at beta {smallest} the centred estimate is still no better than the positive one: some unit reaches an end of \
             its clip within that nudging, or a pooling window changes its choice; smaller --betas lie below that kink"
        )
    })
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

/// Two tables of every tensor's direction, of the run's variant: by beta, in phases of the run's length, and by iterations, with
/// the run's beta; or what comes closest to them.
fn by_tensor(run: &Checkpoint, truth: &True, estimates: &[&Estimate]) {
    let config = &run.config;
    let own = Iterations::Count {
        free: config.num_iterations_inference,
        nudged: config.num_iterations_training,
    };
    let mut lengths = estimates.iter().map(|e| e.iterations);
    let length = lengths.clone().find(|&i| i == own).or(lengths.next_back());
    let distance = |beta: f64| (beta / config.beta).ln().abs();
    let betas = estimates.iter().map(|e| e.beta);
    let beta = betas.min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
    let (Some(length), Some(beta)) = (length, beta) else {
        return;
    };
    let variant = config.variant.name();

    say(format_args!(
        "\n1 - cosine of each tensor by beta: {variant}, {length} iterations"
    ));
    let columns = estimates.iter().filter(|e| e.iterations == length);
    let columns: Vec<_> = columns.map(|e| (e.beta.to_string(), *e)).collect();
    say(tensor_table(&run.network, &truth.gradient, &columns));
    say(format_args!(
        "1 - cosine of each tensor by iterations: {variant}, beta {beta}"
    ));
    let columns = estimates.iter().filter(|e| e.beta == beta);
    let columns: Vec<_> = columns.map(|e| (e.iterations.to_string(), *e)).collect();
    say(tensor_table(&run.network, &truth.gradient, &columns));
}

fn save(
    options: &FigureArgs,
    folder: &Path,
    name: &str,
    run: &Checkpoint,
    (estimates, mine): (&[Estimate], &[&Estimate]),
) -> Result<()> {
    let (beta, style) = (run.config.beta, options.style());
    let title = format!("Gradient estimates: {name}");
    let all = plot::gradient_errors(&title, estimates, beta, &style)?;
    let title = format!("Gradient estimates by tensor: {name}");
    let tensors = plot::gradient_errors_by_tensor(&title, &run.network, mine, beta, &style)?;
    options.save(&all, folder, "gradients")?;
    options.save(&tensors, folder, "gradients_by_tensor")?;
    make(folder)?;
    let csv = folder.join("gradients.csv");
    let names = run.network.parameter_names();
    replace_file(&csv, estimates_csv(&names, estimates).as_bytes())?;
    say(csv.display());
    Ok(())
}
