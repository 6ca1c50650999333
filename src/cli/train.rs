//! `eqprop-cuda train`

use super::estimate;
use super::output;
use super::parameters::Known;
use super::progress::{Printer, ProgressArgs, Shown};
use super::ranks::{Joining, RankArgs, first_then_others};
use super::runs;
use super::say;
use crate::config::{Config, Settings, UsageError, presets};
use crate::data::{Loader, Shard, Splits};
use crate::device::Precision;
use crate::learn::LearningRule;
use crate::parallel::Ranks;
use crate::phase::NudgedPhase;
use crate::run::{Checkpoint, Ending, Environment, FolderLock, RunFolder, Trainer, interrupt};
use crate::run::{load_data, loader, threads};
use crate::shown::shell_word;
use crate::track::{Tracking, series::Names, wandb};
use anyhow::{Result, bail, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

/// Of the nudging, the rounding error of a state that is no reason for a warning.
const MOST_ROUNDING: f64 = 0.01;

/// Train a network
#[derive(Args)]
#[command(after_help = after_help())]
pub struct TrainArgs {
    /// Settings that belong together (listed below); other options modify them
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    preset: Option<String>,
    /// A file with the same keys as these options, such as the config.toml of a run
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// Folder of the run [default: the first free runs/DATASET-NETWORK-N]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    output: Option<PathBuf>,
    /// Go on with the run in a folder, or from a checkpoint; without a value: with the run in --output, or begin it
    #[arg(long, value_name = "DIR|CHECKPOINT", num_args = 0..=1, help_heading = "Run")]
    resume: Option<Option<PathBuf>>,
    /// Begin with the parameters of a run, a checkpoint or a file of PyTorch (model.pt), with any settings; its network where none is named
    #[arg(long, value_name = "RUN|FILE", help_heading = "Run")]
    init_from: Option<PathBuf>,
    /// End and save, as after Ctrl-C, at this signal too; SIGTERM and SIGHUP do so always
    #[arg(long, value_name = "SIGNAL", value_parser = ["USR1", "USR2", "XCPU"], ignore_case = true, help_heading = "Run")]
    save_signal: Option<String>,
    /// Send nothing to Weights & Biases, whatever --wandb or a configuration file says
    #[arg(long, help_heading = "Run")]
    no_wandb: bool,

    /// Say nothing but what went wrong
    #[arg(short, long, help_heading = "Run")]
    quiet: bool,
    /// Print the resolved configuration, as --config takes it, and do nothing
    #[arg(long, help_heading = "Run")]
    dry_run: bool,
    #[command(flatten)]
    progress: ProgressArgs,

    #[command(flatten)]
    ranks: RankArgs,

    #[command(flatten)]
    settings: Settings,
}

fn after_help() -> String {
    format!(
        "Presets:\n{}\n\nThe command line goes before --config, which goes before --preset. Options may be spelled with \
         underscores. Ctrl-C, SIGTERM and SIGHUP stop after the batch and save.",
        presets::summary()
    )
}

/// Where a run's folder is.
enum Place {
    /// to be made, under this name if there is one
    New(Option<PathBuf>),
    Old(PathBuf, FolderLock),
    /// that of the first process of a run, where this is another
    OfAnother,
}

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    if args.quiet && !args.dry_run {
        output::be_silent();
    }
    let ranks = args.ranks.clone();
    ranks.run(|joining| train(args, joining))
}

/// Trains, alone or as one of several processes.
fn train(mut args: TrainArgs, joining: &mut Joining) -> Result<ExitCode> {
    if args.no_wandb {
        args.settings.wandb = Some(false);
    }
    let file = args.config.as_deref().map(Settings::read).transpose()?;
    let preset = args.preset.as_deref();
    if let (Some(Some(resumed)), Some(from)) = (&args.resume, &args.init_from) {
        bail!(UsageError(format!(
            "--init-from {}: the run in {} has parameters already; leave out one of them",
            from.display(),
            resumed.display()
        )));
    }
    let (mut run, place) = match resumed_path(&args)? {
        Some(path) => {
            ensure!(path.exists(), runs::no_run(&path));
            let (folder, checkpoint) = RunFolder::find(&path)?;
            // Another process may be about to replace the checkpoint.
            let lock = (joining.is_first()).then(|| RunFolder::lock(&folder));
            let lock = lock.transpose()?;
            let place = lock.map_or(Place::OfAnother, |lock| Place::Old(folder, lock));
            let mut run = Checkpoint::load(&checkpoint)?;
            run.config = run.config.resumed(preset, file, &args.settings)?;
            (run, place)
        }
        None => {
            let known = args.init_from.as_deref().map(known).transpose()?;
            if let Some(known) = &known {
                let preset = preset.map(presets::find).transpose()?;
                let said = [file.as_ref().map(|file| &file.settings), preset.as_ref()];
                let mut said = said.into_iter().flatten();
                let is_named = |said: &Settings| said.network.is_some();
                match is_named(&args.settings) || said.any(is_named) {
                    true => known.complete_algorithm(&mut args.settings),
                    false => known.complete(&mut args.settings),
                }
            }
            let (config, network) = Config::resolve(preset, file, &args.settings)?;
            if let Some(output) = &args.output {
                RunFolder::check_unused(output)?;
            }
            let place = match joining.is_first() {
                true => Place::New(args.output),
                false => Place::OfAnother,
            };
            let mut run = Checkpoint::fresh(config, network)?;
            if let Some(known) = known {
                known.give(&mut run, None)?;
            }
            (run, place)
        }
    };
    if run.position.epoch >= run.config.epochs {
        if let Place::Old(folder, _) = &place {
            say(format_args!(
                "{} is finished: all {} epochs are over; give it more with `--resume {} --epochs N`",
                folder.display(),
                run.position.epoch,
                shell_word(folder),
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }

    if args.dry_run {
        say(run.config.to_toml()?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    if let Place::Old(..) = &place {
        say_taken_over(&run.config, &args.settings);
    }
    let _watch = interrupt::watch("the batch is finished and the run saved")?;
    if let Some(signal) = &args.save_signal {
        interrupt::also_at(&signal.to_ascii_uppercase())?;
    }
    let client = (joining.is_first() && run.config.wandb).then(wandb::Client::start);
    let client = client.transpose()?;
    threads::start(run.config.threads)?;
    // Before any download: the device may be missing.
    let ranks = joining.join(&mut run.config.device)?;
    let mut rule = run.config.rule(&run.network, joining.several())?;
    let data = first_then_others(&*ranks, || Ok(load_data(&mut run.config, &run.network)?))?;
    run.set_examples(data.train.len())?;
    say(format_args!(
        "{} on {}: {} training and {} test images, {} parameters; {}",
        run.network.name(),
        run.config.dataset,
        data.train.len(),
        data.test.len(),
        run.model
            .parameters
            .tensors()
            .iter()
            .map(|t| t.len())
            .sum::<usize>(),
        rule.describe()
    ));
    // Nothing is written before everything else is known to work.
    let mut folder = match place {
        Place::OfAnother => return follow(run, &mut *rule, data, ranks),
        Place::New(output) => RunFolder::create(output.as_deref(), &run.config)?,
        Place::Old(folder, lock) => RunFolder::reopen(&folder, lock, run.position.epoch)?,
    };
    folder.begun_with(Environment::now(rule.describe(), &data));
    let path = folder.path().to_path_buf();
    let epochs = run.position.epoch;
    let names = Names::new(&run.network, run.names()?.parameters);
    let tracking = match Tracking::begin(&run.config, names, &path, epochs, client) {
        Ok(tracking) => tracking,
        Err(error) => {
            folder.abandon();
            return Err(error.into());
        }
    };
    say(format_args!("run folder {}", path.display()));
    if run.position != Default::default() {
        let done = run.position;
        say(format_args!(
            "going on after {} epochs and {} batches",
            done.epoch, done.batch
        ));
    }

    if joining.is_first() {
        warn_of_cancellation(&run.config);
        note_what_a_response_ignores(&run.config, &args.settings);
    }
    let shown = match args.quiet {
        true => Shown::Nothing,
        false => args.progress.shown(),
    };
    let epochs_left = run.config.epochs - run.position.epoch;
    if !args.quiet && joining.several().is_none() {
        let images = (data.train.len(), data.test.len());
        let pace = estimate::pace(&run.config, &run.network, &run.model, &data.train)?;
        pace.and_then(|pace| estimate::outlook(pace, images, epochs_left))
            .into_iter()
            .for_each(say);
    }
    let loaders = loaders(&run, data, ranks.shard())?;
    let mut observer = (tracking, Printer::new(shown, epochs_left));
    let interrupted = &interrupt::requested;
    let (rule, folder) = (&mut *rule, Some(folder));
    let trainer = Trainer::on_ranks(
        run,
        rule,
        loaders,
        folder,
        &mut observer,
        interrupted,
        ranks,
    )?;
    Ok(match trainer.run()? {
        Ending::Finished(best) => {
            let best = best.map_or(String::new(), |best| {
                format!(
                    "smallest test error {:.2} % in epoch {}; ",
                    100.0 * best.top1_error,
                    best.epoch
                )
            });
            say(format_args!(
                "finished: {best}the network is {}",
                path.join("best.safetensors").display()
            ));
            ExitCode::SUCCESS
        }
        Ending::Interrupted => {
            say(format_args!(
                "interrupted and saved: go on with `eqprop-cuda train --resume {}`",
                shell_word(&path)
            ));
            ExitCode::from(interrupt::exit_code())
        }
    })
}

/// The parameters that `--init-from` means: those of a file, or of a run's best checkpoint.
fn known(path: &Path) -> Result<Known> {
    match path.is_file() {
        true => Known::read(path),
        false => Known::read(&runs::checkpoint_of(path)?),
    }
}

/// A word where two nudged states will differ by hardly more than their rounding errors, and are subtracted.
fn warn_of_cancellation(config: &Config) {
    let rounding = match config.precision {
        Precision::Bf16 => 2f64.powi(-8),
        Precision::Fp16 => 2f64.powi(-11),
        Precision::Fp32 => 2f64.powi(-24),
        Precision::Fp64 => 2f64.powi(-53),
    };
    let foreign = config.algorithm.description().foreign;
    let direct = config.nudged_phase == NudgedPhase::Direct && !foreign.contains(&"nudged-phase");
    if direct && rounding > MOST_ROUNDING * config.beta {
        output::complain(format_args!(
            "warning: with --beta {} and --nudged-phase direct, rounding errors of {} take most of the gradient; use \
             --nudged-phase sum-difference, which subtracts nothing, or a larger beta",
            config.beta, config.precision
        ));
    }
}

/// A word about options that change nothing, because the gradient comes from a linear response. `--algorithm rbp`, which never has another
/// one, refuses them.
fn note_what_a_response_ignores(config: &Config, given: &Settings) {
    let foreign = config.algorithm.description().foreign;
    if config.nudged_phase != NudgedPhase::Linear || foreign.contains(&"nudged-phase") {
        return;
    }
    let implied = given.algorithm.as_ref().filter(|a| !a.implied().is_empty());
    let ignored = [
        given.beta.map(|beta| format!("--beta {beta}")),
        given.variant.map(|variant| format!("--variant {variant}")),
        implied.map(|name| format!("the variant of --algorithm {}", String::from(name.clone()))),
    ];
    let ignored: Vec<String> = ignored.into_iter().flatten().collect();
    if !ignored.is_empty() {
        output::complain(format_args!(
            "note: with --nudged-phase linear, {} changes nothing: the linear response is the limit of all variants for a vanishing beta; \
             --nudged-phase sum-difference nudges",
            ignored.join(" or ")
        ));
    }
}

/// What a resumed run talks to or reads because its checkpoint says so: its folder may be from somebody else.
fn say_taken_over(config: &Config, given: &Settings) {
    let taken = [
        (config.wandb && given.wandb.is_none()).then(|| "--wandb".to_string()),
        (config.mirror.as_ref())
            .filter(|_| given.mirror.is_none())
            .map(|url| format!("--mirror {url}")),
        (config.data_dir.as_ref())
            .filter(|_| given.data_dir.is_none())
            .map(|folder| format!("--data-dir {}", shell_word(folder))),
    ];
    let taken: Vec<String> = taken.into_iter().flatten().collect();
    if !taken.is_empty() {
        say(format_args!(
            "taken over from the checkpoint: {}",
            taken.join(", ")
        ));
    }
}

/// The part of a rank that prints and writes nothing.
fn follow(
    run: Checkpoint,
    rule: &mut dyn LearningRule,
    data: Splits,
    ranks: Rc<dyn Ranks>,
) -> Result<ExitCode> {
    let loaders = loaders(&run, data, ranks.shard())?;
    let interrupted = &interrupt::requested;
    let mut nobody = ();
    let trainer = Trainer::on_ranks(run, rule, loaders, None, &mut nobody, interrupted, ranks)?;
    Ok(match trainer.run()? {
        Ending::Finished(_) => ExitCode::SUCCESS,
        Ending::Interrupted => ExitCode::from(interrupt::exit_code()),
    })
}

/// Training and test batches, of each the rows of a rank.
fn loaders(run: &Checkpoint, data: Splits, shard: Shard) -> Result<(Loader, Loader)> {
    Ok((
        loader(&run.config, data.train, true, shard)?,
        loader(&run.config, data.test, false, shard)?,
    ))
}

/// What `--resume` and `--output` together mean: the folder or checkpoint to go on from, or nothing for a new run.
fn resumed_path(args: &TrainArgs) -> Result<Option<PathBuf>> {
    match (&args.resume, &args.output) {
        (None, _) => Ok(None),
        (Some(Some(path)), None) => Ok(Some(path.clone())),
        (Some(None), Some(output)) => Ok(RunFolder::has_checkpoint(output).then(|| output.clone())),
        (Some(Some(path)), Some(output)) if path == output => Ok(Some(path.clone())),
        (Some(Some(path)), Some(output)) => bail!(UsageError(format!(
            "--output {}: a resumed run stays in its folder, {}",
            output.display(),
            path.display()
        ))),
        (Some(None), None) => bail!(UsageError(
            "--resume needs the folder or the checkpoint of a run, here or with --output".into()
        )),
    }
}
