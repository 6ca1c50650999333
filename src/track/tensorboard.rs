//! Event files in the folder of a run: `tensorboard --logdir RUN_DIR` shows them, and `--logdir runs` calls each run by its folder's
//! name. Runs of older versions have them in a folder `tensorboard` of their own, which is kept where it is.
//!
//! Each session (a start or a resumption) writes a file of its own. TensorBoard reads the files of a folder in the order
//! of their names, so a new one gets a later time than all others, whatever the clock says. When a session trains epochs
//! again that an earlier one had recorded, its first event tells TensorBoard to forget those.

use super::Tracker;
use super::event::{Setting, What, frame};
use super::histogram::Histogram;
use crate::config::Config;
use crate::error::{Context, Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The folder within a run's that older versions made.
const FOLDER: &str = "tensorboard";
const PREFIX: &str = "events.out.tfevents.";

/// The event file of a session.
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// the last that was written for
    epoch: usize,
}

impl EventFile {
    /// Makes the next event file of the run in `run`, which has come to the end of epoch `epochs`; whether it is the
    /// first one, which then has the settings too.
    ///
    /// # Errors
    /// When the folder cannot be read or written to.
    pub fn create(run: &Path, epochs: usize, config: &Config) -> Result<(Self, bool)> {
        let older = run.join(FOLDER);
        let folder = if older.is_dir() {
            older
        } else {
            run.to_path_buf()
        };
        let remedy = "repair it or move it away, or train with --tensorboard=false";
        let unusable = || format!("--tensorboard: cannot use {}; {remedy}", folder.display());
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
            epoch: epochs,
        };
        events.write(0, &What::FileVersion)?;
        match latest {
            Some(_) => events.write(epochs + 1, &What::Start)?,
            None => events.write(0, &What::Settings(&settings(config)?))?,
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
        self.epoch = epoch;
        self.write(epoch, &What::Scalars(values))
    }

    fn takes_histograms(&self) -> bool {
        true
    }

    fn log_histograms(&mut self, epoch: usize, histograms: &[(String, Histogram)]) -> Result<()> {
        self.write(epoch, &What::Histograms(histograms))
    }

    /// TensorBoard keeps the first end that it is told, and an interrupted run may go on.
    fn finish(&mut self, exit_code: u8) -> Result<()> {
        match exit_code {
            0 => self.write(self.epoch, &What::Success),
            _ => Ok(()),
        }
    }
}

/// A configuration as hyperparameters: lists as a text.
fn settings(config: &Config) -> Result<Vec<(String, Setting)>> {
    let wrong = |error: toml::de::Error| Error::File(error.to_string());
    let table: toml::Table = config.to_toml()?.parse().map_err(wrong)?;
    let setting = |(name, value): (String, toml::Value)| {
        let setting = match value {
            toml::Value::Integer(number) => Setting::Number(number as f64),
            toml::Value::Float(number) => Setting::Number(number),
            toml::Value::Boolean(on) => Setting::Switch(on),
            toml::Value::String(text) => Setting::Text(text),
            other => Setting::Text(other.to_string()),
        };
        (name, setting)
    };
    Ok(table.into_iter().map(setting).collect())
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
