//! The command line, one file per subcommand.
//!
//! Everything that goes wrong ends as one line on stderr, `error: ...`: exit status 2 for an option's value
//! ([`UsageError`], or clap's own errors), 1 for anything else, 128 and its number when a signal
//! ended it: 130 after Ctrl-C.

mod check_gradients;
mod compare;
mod differences;
mod estimate;
mod eval;
mod export;
mod figure;
mod import;
mod info;
mod list;
mod manual;
mod output;
mod parameters;
mod parity;
mod plot;
mod progress;
mod ranks;
mod report;
mod runs;
mod settings;
mod statistics;
mod sweep;
mod table;
mod train;

use crate::config::UsageError;
use crate::error::Error;
use crate::run::interrupt;
use crate::shown::one_line;
use clap::ColorChoice;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use output::{complain, say};
use std::process::ExitCode;

/// Trains deep convolutional Hopfield networks with equilibrium propagation.
#[derive(Parser)]
#[command(name = "eqprop-cuda", version, arg_required_else_help = true)]
struct Cli {
    /// Whether help has colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto, hide_possible_values = true, hide_default_value = true)]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Sweep(sweep::SweepArgs),
    Eval(eval::EvalArgs),
    Parity(parity::ParityArgs),
    List(list::ListArgs),
    Compare(compare::CompareArgs),
    Report(report::ReportArgs),
    Plot(plot::PlotArgs),
    CheckGradients(Box<check_gradients::CheckGradientsArgs>),
    Info(Box<info::InfoArgs>),
    Import(Box<import::ImportArgs>),
    Export(export::ExportArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    // A panic is a mistake in this program; whoever meets it gets a line to report, not a backtrace.
    std::panic::set_hook(Box::new(|panic| {
        let text = one_line(&panic.to_string());
        complain(format_args!(
            "error: internal error, please report it: {text}"
        ));
    }));
    ignore_file_size_signal();
    output::print_what_is_logged();
    let code = std::panic::catch_unwind(dispatch).unwrap_or(ExitCode::from(EXIT_FAILURE));
    match output::failure() {
        Some(error) if code == ExitCode::SUCCESS => {
            complain(format_args!("error: cannot write to stdout: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
        _ => code,
    }
}

/// A limit on the size of files (`ulimit -f`) then is an error of the write, as a full disk is, not the end of the process.
fn ignore_file_size_signal() {
    #[cfg(unix)]
    // SAFETY: no handler is installed, and no other thread runs yet.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn dispatch() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return explain_usage(error),
    };
    let result = match cli.command {
        Command::Train(args) => train::run(*args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Eval(args) => eval::run(args),
        Command::List(args) => list::run(&args),
        Command::Compare(args) => compare::run(args),
        Command::Report(args) => report::run(&args),
        Command::Plot(args) => plot::run(args),
        Command::CheckGradients(args) => check_gradients::run(*args),
        Command::Info(args) => info::run(*args),
        Command::Import(args) => import::run(*args),
        Command::Export(args) => export::run(args),
        Command::Completions(args) => manual::completions(&args, command()),
        Command::Man(args) => manual::man(&args, &command()),
        Command::Parity(args) => parity::run(&args),
    };
    result.unwrap_or_else(|error| {
        ranks::wait_for_turn();
        complain(format_args!("error: {}", one_line(&format!("{error:#}"))));
        ExitCode::from(match error.downcast_ref().map(Error::root) {
            Some(Error::Usage(_)) => EXIT_USAGE,
            None if error.is::<UsageError>() => EXIT_USAGE,
            Some(Error::Interrupted) => interrupt::exit_code(),
            _ => EXIT_FAILURE,
        })
    })
}

fn parse() -> Result<Cli, clap::Error> {
    // Help and errors are printed by who parses.
    let command = command().color(color());
    Cli::from_arg_matches(&command.try_get_matches()?)
}

/// The value of `--color`, wherever it is.
fn color() -> ColorChoice {
    let words: Vec<_> = std::env::args_os().collect();
    let value = |i: usize| {
        let word = words[i].to_str()?;
        match word.strip_prefix("--color")? {
            "" => words.get(i + 1)?.to_str(),
            rest => rest.strip_prefix('='),
        }
    };
    let values = (0..words.len()).filter_map(value);
    let mut choices = values.filter_map(|value| ColorChoice::from_str(value, true).ok());
    choices.next_back().unwrap_or(ColorChoice::Auto)
}

/// The program's command line as it is parsed.
fn command() -> clap::Command {
    let subcommands: Vec<String> = (Cli::command().get_subcommands())
        .map(|command| command.get_name().to_string())
        .collect();
    subcommands.iter().fold(Cli::command(), |command, name| {
        // Of an option that is given twice the last one counts, as in the published program.
        command.mut_subcommand(name, |sub| accept_snake_case(sub).args_override_self(true))
    })
}

/// The published program spells its options with underscores: `--batch_size` is `--batch-size` too.
fn accept_snake_case(command: clap::Command) -> clap::Command {
    command.mut_args(
        |arg| match arg.get_long().map(|long| long.replace('-', "_")) {
            Some(snake) if Some(snake.as_str()) != arg.get_long() => arg.alias(snake),
            _ => arg,
        },
    )
}

/// Options of the subcommand whose words a mistyped one has, or whose initials it is (`--lr`): closer than what has most letters in
/// common with it.
fn meant(mistyped: &str) -> Vec<String> {
    let word = mistyped.trim_start_matches('-').replace('_', "-");
    let program = command();
    let name = std::env::args().nth(1).unwrap_or_default();
    let arguments = program.find_subcommand(name).into_iter();
    let options = arguments.flat_map(|sub| sub.get_arguments().filter_map(clap::Arg::get_long));
    let parts = |option: &str| option.split('-').map(str::to_string).collect::<Vec<_>>();
    let is_meant = |option: &&str| {
        let parts = parts(option);
        let initials: String = parts
            .iter()
            .filter_map(|part| part.chars().next())
            .collect();
        (word.len() > 1 && initials == word)
            || word
                .split('-')
                .all(|typed| parts.iter().any(|part| part == typed))
    };
    options
        .filter(is_meant)
        .map(|option| format!("--{option}"))
        .collect()
}

/// Prints clap's help as it is, and its errors on one line.
fn explain_usage(mut error: clap::Error) -> ExitCode {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(mistyped))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        let meant = meant(mistyped);
        if !meant.is_empty() {
            error.insert(ContextKind::SuggestedArg, ContextValue::Strings(meant));
        }
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::keep(error.print());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(EXIT_USAGE)
        }
        _ => {
            ranks::wait_for_turn();
            let text = error.render().to_string();
            let text = text.split("\nUsage:").next().unwrap_or_default();
            let text = text
                .split("\nFor more information")
                .next()
                .unwrap_or_default();
            complain(format_args!(
                "{} (--help lists the options)",
                one_line(text)
            ));
            ExitCode::from(EXIT_USAGE)
        }
    }
}
