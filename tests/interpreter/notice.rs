//! What notices a defect, as a row of the tables of `docs/interpreter.md`.

use eqprop_cuda::{Error, Result};
use ptx_interpreter::{AsyncProblem, Finding, Problem};

/// What is wrong with the outcome of a training step, if anything: a finding, or an error that correct kernels stay below.
pub fn wrong(outcome: Result<f64>, tolerance: f64) -> Option<String> {
    Some(match outcome {
        Ok(error) if error < tolerance => return None,
        Ok(error) => format!("result off by {error:.0e}"),
        Err(error) => match finding(&error) {
            Some(finding) => summary(finding),
            None => format!("{error:#}"),
        },
    })
}

/// What the interpreter found, where that is the error.
fn finding(error: &Error) -> Option<&Finding> {
    match error.root() {
        Error::Device(found) => found.downcast_ref::<Box<Finding>>().map(|found| &**found),
        _ => None,
    }
}

/// Prints a row for each defect, a name and the PTX with it; fails when `notice` finds nothing wrong with one of them.
pub fn expect_all(
    defects: impl IntoIterator<Item = (String, String)>,
    notice: impl Fn(&str) -> Option<String>,
) {
    let mut unnoticed = Vec::new();
    for (name, ptx) in defects {
        let notice = notice(&ptx);
        println!(
            "| {name} | {} |",
            notice.as_deref().unwrap_or("**nothing**")
        );
        if notice.is_none() {
            unnoticed.push(name);
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}

/// Those whose name contains EQPROP_DEFECTS: all where it is not set.
pub fn wanted(name: &str) -> bool {
    std::env::var("EQPROP_DEFECTS").is_ok_and(|part| name.contains(&part))
        || std::env::var_os("EQPROP_DEFECTS").is_none()
}

/// One function for each instruction.
const WRAPPERS: [&str; 5] = [
    "ptx.cuh",
    "mbarrier.cuh",
    "cluster.cuh",
    "tma.cuh",
    "wgmma.cuh",
];

/// A finding without addresses and threads, for a table.
fn summary(finding: &Finding) -> String {
    let kind = match &finding.problem {
        Problem::OutOfBounds { space, .. } => format!("outside of {space}"),
        Problem::Misaligned { space, align, .. } => format!("not aligned to {align}, {space}"),
        Problem::Uninitialised { space, .. } => format!("nobody wrote it, {space}"),
        Problem::Race { what, space, .. } => format!("{what}, {space}"),
        Problem::BlockRace { what, .. } => format!("{what}, between blocks"),
        Problem::PendingCopy { .. } => "copy not awaited".to_string(),
        Problem::Deadlock(_) => "deadlock".to_string(),
        Problem::Async(problem) => of_its_own(problem),
        other => other.to_string(),
    };
    // The innermost line that is not in a wrapper of one instruction.
    let source = finding.source.iter().map(|line| {
        let name = line.file.rsplit('/').next();
        name.unwrap_or(&line.file)
    });
    let place = source.filter(|name| !WRAPPERS.contains(name) && name.contains(".cu"));
    let place = place.take(1).collect::<String>();
    match place.is_empty() {
        true => format!("{kind}, in {}", finding.kernel),
        false => format!("{kind}, in {} ({place})", finding.kernel),
    }
}

fn of_its_own(problem: &AsyncProblem) -> String {
    match problem {
        AsyncProblem::Deadlock(_) => "deadlock".to_string(),
        AsyncProblem::CopyNotAwaited { .. } => "copy not awaited".to_string(),
        AsyncProblem::NoProxyFence { .. } => "no fence.proxy.async".to_string(),
        AsyncProblem::Unordered { what, .. } => format!("race: {what}, shared memory"),
        AsyncProblem::InUse { user, .. } => format!("overwritten while {user} reads it"),
        AsyncProblem::MapNotFenced(_) => "tensor map without its fence".to_string(),
        other => other.to_string(),
    }
}
