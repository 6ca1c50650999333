//! `eqprop-cuda completions` and `eqprop-cuda man`: what a shell and `man` know of the command line.

use super::output::Stdout;
use super::say;
use crate::config::presets;
use crate::run::atomic;
use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, Command};
use clap_complete::Shell;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print the completions of a shell
///
/// For bash: mkdir -p ~/.local/share/bash-completion/completions, then
/// eqprop-cuda completions bash > ~/.local/share/bash-completion/completions/eqprop-cuda
#[derive(Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    for name in subcommands_with_presets(&command) {
        command = command.mut_subcommand(name, |sub| {
            sub.mut_arg(PRESET, |arg| {
                arg.value_parser(PossibleValuesParser::new(presets::names()))
            })
        });
    }
    clap_complete::generate(args.shell, &mut command, "eqprop-cuda", &mut script);
    // clap_complete 4.6.11 writes the program's hyphen in two ways into its bash script, whose options are then never found.
    let script = String::from_utf8(script)?.replace("eqprop__subcmd__cuda", "eqprop__cuda");
    let script = match args.shell {
        Shell::Bash => with_runs(&script),
        _ => script,
    };
    Stdout.write_all(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Completes the runs in `runs/` by their names, too; of others bash completes the paths. (So do zsh and fish of all.)
fn with_runs(script: &str) -> String {
    const WITH_RUNS: &str = r#"
_eqprop_cuda_with_runs() {
    COMPLETE "$@"
    case "${COMP_WORDS[1]} $3" in
        "train --resume") ;;
        *" -"*) return ;;
        "check-gradients "* | "compare "* | "eval "* | "export "* | "plot "* | "report "*) ;;
        *) return ;;
    esac
    [[ $2 == -* ]] && return
    COMPREPLY=()
    local config run
    for config in runs/*/config.toml; do
        run=${config%/config.toml}
        if [[ -e $config && ($run == "$2"* || ${run#runs/} == "$2"*) ]]; then COMPREPLY+=("$run"); fi
    done
}
"#;
    // The function's name is clap_complete's own affair.
    let name = (script.split("complete -F ").nth(1)).and_then(|rest| rest.split(' ').next());
    let Some(name) = name else {
        return script.to_string();
    };
    let registered = script.replace(
        &format!("complete -F {name} "),
        "complete -F _eqprop_cuda_with_runs ",
    );
    format!("{}{registered}", WITH_RUNS.replace("COMPLETE", name))
}

const PRESET: &str = "preset";

fn subcommands_with_presets(command: &clap::Command) -> Vec<String> {
    let has = |sub: &&clap::Command| sub.get_arguments().any(|arg| arg.get_id() == PRESET);
    let subcommands = command.get_subcommands().filter(has);
    subcommands.map(|sub| sub.get_name().to_string()).collect()
}

/// Write the manual pages
#[derive(Args)]
pub struct ManArgs {
    /// Folder for eqprop-cuda.1 and a page per command, for instance ~/.local/share/man/man1
    folder: PathBuf,
}

pub fn man(args: &ManArgs, program: &Command) -> Result<ExitCode> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let name = program.get_name().to_string();
    let mut pages = vec![(name.clone(), program.clone())];
    for command in program.get_subcommands() {
        // Its page is called eqprop-cuda-plot, and what one types eqprop-cuda plot.
        let page = format!("{name}-{}", command.get_name());
        let typed = format!("{name} {}", command.get_name());
        pages.push((page.clone(), command.clone().name(page).bin_name(typed)));
    }
    let count = pages.len();
    for (page, command) in pages {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        atomic::replace(&folder.join(format!("{page}.1")), &text)?;
    }
    say(format_args!("{count} pages in {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}
