//! Event files in the folder `tensorboard` of a run: `tensorboard --logdir RUN_DIR` shows them.
//!
//! Each session (a start or a resumption) writes a file of its own. TensorBoard reads the files of a folder in the order
//! of their names, so a new one gets a later time than all others, whatever the clock says. When a session trains epochs
//! again that an earlier one had recorded, its first event tells TensorBoard to forget those.

use super::Tracker;
use super::event::{What, frame};
use anyhow::{Context, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The folder within a run's.
pub const FOLDER: &str = "tensorboard";
const PREFIX: &str = "events.out.tfevents.";

/// The event file of a session.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Makes the next event file of the run in `run`, which has come to the end of epoch `epochs`; whether it is the
    /// first one. An error when the folder cannot be made, read or written to.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written to.
    pub fn create(run: &Path, epochs: usize) -> Result<(Self, bool)> {
        let folder = run.join(FOLDER);
        let remedy = "repair it or move it away, or train with --tensorboard=false";
        let unusable = || format!("--tensorboard: cannot use {}; {remedy}", folder.display());
        fs::create_dir_all(&folder).with_context(unusable)?;
        let latest = latest_time(&folder).with_context(unusable)?;
        let now = wall_time() as u64;
        let time = latest.map_or(now, |latest| now.max(latest.saturating_add(1)));
        let path = folder.join(format!(
            "{PREFIX}{time:010}.{}.{}",
            host(),
            std::process::id()
        ));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut events = Self {
            file: file.with_context(unusable)?,
            path,
        };
        events.write(0, &What::FileVersion)?;
        if latest.is_some() {
            events.write(epochs + 1, &What::Start)?;
        }
        Ok((events, latest.is_none()))
    }

    /// Writes an event at once: TensorBoard may be watching.
    fn write(&mut self, step: usize, what: &What) -> Result<()> {
        let bytes = frame(wall_time(), step, what);
        let written = self.file.write_all(&bytes);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Tracker for EventFile {
    /// The step of an event is the epoch.
    fn log(&mut self, epoch: usize, values: &[(String, f64)]) -> Result<()> {
        self.write(epoch, &What::Scalars(values))
    }

    fn finish(&mut self, _exit_code: u8) -> Result<()> {
        Ok(())
    }
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The latest time in the names of a folder's event files; `None` when it has no event file.
fn latest_time(folder: &Path) -> Result<Option<u64>> {
    let mut latest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let time = rest.split('.').next().and_then(|time| time.parse().ok());
        latest = latest.max(Some(time.unwrap_or(0)));
    }
    Ok(latest)
}

/// The machine's name, for the file's.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let name: String = name.chars().filter(plain).collect();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}
