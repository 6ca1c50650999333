//! `eqprop-cuda man` and `completions`, as `man` and `bash` read them.

use crate::support::program;
use assert_cmd::Command;
use std::fs;
use std::process::Command as Process;

fn stdout(arguments: &[&str]) -> String {
    let mut command = Command::new(program::path());
    let done = command.args(arguments).assert().success();
    String::from_utf8(done.get_output().stdout.clone()).unwrap()
}

/// The commands that the help lists.
fn commands() -> Vec<String> {
    let help = stdout(&["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|&name| !name.is_empty() && name != "help")
        .map(str::to_string)
        .collect()
}

#[test]
fn every_command_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("man1");
    stdout(&["man", target.to_str().unwrap()]);
    let commands = commands();
    assert!(commands.len() >= 10, "{commands:?}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), commands.len() + 1);
    for command in commands {
        let page = fs::read_to_string(target.join(format!("eqprop-cuda-{command}.1"))).unwrap();
        let page = page.replace("\\-", "-");
        assert!(
            page.contains(&format!(".TH eqprop-cuda-{command} 1")),
            "{command}: {page}"
        );
        // The synopsis is what one types.
        assert!(
            page.contains(&format!("\\fBeqprop-cuda {command}\\fR")),
            "{command}: {page}"
        );
    }
}

#[test]
fn bash_completes_commands_and_values() {
    let script = stdout(&["completions", "bash"]);
    let folder = tempfile::tempdir().unwrap();
    let complete = |words: &str, at: usize, word: &str, previous: &str| {
        let ask = format!(
            "{script}\nF=$(complete -p eqprop-cuda | sed 's/.*-F \\([^ ]*\\).*/\\1/')\nCOMP_WORDS=({words}); COMP_CWORD={at}\n\
             $F eqprop-cuda '{word}' '{previous}'; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Process::new("bash")
            .current_dir(folder.path())
            .args(["-c", &ask])
            .output();
        let Ok(output) = output else {
            panic!("there is no bash to ask");
        };
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    assert_eq!(
        complete("eqprop-cuda check", 1, "check", "eqprop-cuda"),
        "check-gradients"
    );
    assert_eq!(
        complete("eqprop-cuda plot --only ''", 3, "", "--only"),
        "curves weights relaxation"
    );
    let presets = complete("eqprop-cuda train --preset fast-", 3, "fast-", "--preset");
    assert_eq!(presets, "fast-cifar10 fast-cifar100 fast-fashionmnist");
    // Runs by name; where there are none of that name bash is left to complete paths.
    for run in ["runs/one", "runs/only", "runs/two", "runs/no-run"] {
        fs::create_dir_all(folder.path().join(run)).unwrap();
        if run != "runs/no-run" {
            fs::write(folder.path().join(run).join("config.toml"), "").unwrap();
        }
    }
    let runs = "runs/one runs/only";
    assert_eq!(complete("eqprop-cuda eval on", 2, "on", "eval"), runs);
    assert_eq!(
        complete("eqprop-cuda plot runs/o", 2, "runs/o", "plot"),
        runs
    );
    let second = complete("eqprop-cuda compare runs/one t", 3, "t", "runs/one");
    assert_eq!(second, "runs/two");
    let resumed = complete("eqprop-cuda train --resume tw", 3, "tw", "--resume");
    assert_eq!(resumed, "runs/two");
    assert_eq!(
        complete("eqprop-cuda eval elsewhere", 2, "elsewhere", "eval"),
        ""
    );
}

#[test]
fn an_unknown_shell_is_answered_with_the_known_ones() {
    let mut command = Command::new(program::path());
    let failed = command.args(["completions", "csh"]).assert().code(2);
    let text = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
    assert!(
        text.starts_with("error: ") && text.lines().count() == 1,
        "{text}"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(text.contains(shell), "{text}");
    }
}
