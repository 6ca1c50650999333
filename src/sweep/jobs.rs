//! The processes that train the points of a sweep.

use super::point::{Point, State};
use crate::error::{Context, Result};
use crate::parallel::child;
use crate::shown::one_line;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(50);
/// What a run says, in its folder.
const LOG: &str = "log.txt";

/// What the processes share.
pub struct Crew<'a> {
    /// how many run at a time
    pub jobs: usize,
    /// more options for a point, whose process is in a place from 0 to `jobs`
    pub options: &'a dyn Fn(usize, &Point) -> Vec<String>,
    /// whether to save and end
    pub stop: &'a dyn Fn() -> bool,
}

/// What happens to a point.
#[derive(Debug)]
pub enum Event {
    /// nothing: it was finished before
    Skipped,
    /// its process runs
    Begun,
    /// so it does, from where an earlier one stopped
    Resumed,
    /// all epochs are over, after so long
    Finished(Duration),
    /// it saved and ended, as it was asked to
    Stopped,
    /// why
    Failed(String),
}

struct Job<'a> {
    point: &'a Point,
    child: Child,
    begun: Instant,
}

/// Dropping it kills the process.
impl Drop for Job<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Trains what is not finished, in folders of `folder` called after the points. What happens is `told`, in the order in which it
/// happens; that one fails does not keep the others from being trained. Once `stop` says so, those under way save and end, and no
/// other begins.
///
/// # Errors
/// When the processes cannot be watched.
pub fn train(
    points: &[Point],
    folder: &Path,
    crew: &Crew,
    told: &mut dyn FnMut(&Point, Event),
) -> Result<()> {
    let mut waiting = points.iter();
    let mut places: Vec<Option<Job>> = (0..crew.jobs).map(|_| None).collect();
    let mut asked = false;
    loop {
        for (place, slot) in places.iter_mut().enumerate() {
            if let Some(job) = slot
                && let Some(status) = job
                    .child
                    .try_wait()
                    .with_context(|| format!("waiting for {}", job.point.name))?
            {
                let event = match status.success() {
                    true => Event::Finished(job.begun.elapsed()),
                    false if asked && child::code_of(status) > 128 => Event::Stopped,
                    false => Event::Failed(last_error(&folder.join(&job.point.name), status)),
                };
                told(job.point, event);
                *slot = None;
            }
            while slot.is_none() && !(crew.stop)() {
                let Some(point) = waiting.next() else { break };
                *slot = begin(point, folder, &(crew.options)(place, point), told);
            }
        }
        if places.iter().all(Option::is_none) {
            return Ok(());
        }
        if !asked && (crew.stop)() {
            asked = true;
            places
                .iter()
                .flatten()
                .for_each(|job| child::ask_to_end(&job.child));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Starts the process of a point, unless it is finished or cannot be started.
fn begin<'a>(
    point: &'a Point,
    folder: &Path,
    more: &[String],
    told: &mut dyn FnMut(&Point, Event),
) -> Option<Job<'a>> {
    let folder = folder.join(&point.name);
    let started = point.state(&folder).and_then(|state| match state {
        State::Finished => Ok((state, None)),
        _ => Ok((state, Some(start(point, &folder, more)?))),
    });
    match started {
        Ok((state, Some(child))) => {
            told(
                point,
                if state == State::New {
                    Event::Begun
                } else {
                    Event::Resumed
                },
            );
            let begun = Instant::now();
            return Some(Job {
                point,
                child,
                begun,
            });
        }
        Ok((_, None)) => told(point, Event::Skipped),
        Err(error) => told(point, Event::Failed(one_line(&format!("{error:#}")))),
    }
    None
}

fn start(point: &Point, folder: &Path, more: &[String]) -> Result<Child> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(LOG);
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(std::env::current_exe().context("where this program is")?);
    command.arg("train").args(point.arguments()).args(more);
    command.arg("--output").arg(folder).arg("--resume");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    child::own_group(&mut command);
    // Whatever ends this process: the runs save themselves.
    child::end_with_this_process(&mut command, child::TERMINATE);
    command.spawn().context("cannot start the program")
}

/// The last complaint in the log of a run, or how it ended where it could not complain.
fn last_error(folder: &Path, status: std::process::ExitStatus) -> String {
    let path = folder.join(LOG);
    let text = File::open(&path)
        .and_then(std::io::read_to_string)
        .unwrap_or_default();
    let mut lines = text
        .lines()
        .rev()
        .take_while(|line| !line.trim().is_empty());
    match lines.next().and_then(|line| line.strip_prefix("error: ")) {
        Some(error) => one_line(error),
        None => format!(
            "it ended with {status}; {} has what it said",
            path.display()
        ),
    }
}
