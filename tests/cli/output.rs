//! A full or closed stdout or stderr: no report that was cut off passes for a whole one, and nothing ends the program from within.

use crate::support::program::{TINIEST, path, succeed};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(folder: &Path, arguments: &str, stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = Command::new(path());
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    command.stdout(stdout).stderr(stderr).output().unwrap()
}

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_is_an_error_of_every_report() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &format!("train {TINIEST} --output run"));
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/schedule.safetensors"
    );
    for arguments in [
        "--help",
        "eval run --offline",
        "compare run",
        "info --preset quickstart",
        "completions bash",
        "check-gradients run --offline --iterations 2+1 --betas 0.1",
        &format!("parity {golden}"),
    ] {
        let output = run(folder.path(), arguments, full(), Stdio::piped());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {stderr}");
        let expected = "error: cannot write to stdout: No space left";
        assert!(stderr.starts_with(expected), "{arguments}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_or_closed_stderr_changes_no_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for (arguments, status) in [("train --epochs many", 2), ("eval nothing", 1)] {
        for stderr in [full(), closed()] {
            let output = run(folder.path(), arguments, Stdio::null(), stderr);
            assert_eq!(output.status.code(), Some(status), "{arguments}");
        }
    }
    let output = run(folder.path(), "eval nothing", full(), full());
    assert_eq!(output.status.code(), Some(1));
}
