//! One run of a sweep.

use crate::config::{Config, FileSettings, SETTINGS, Settings, UsageError};
use crate::error::{Context, Result};
use crate::run::{Checkpoint, RunFolder};
use crate::shown::shown;
use std::path::Path;

/// Options of `train`, and what the folder of their run is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// its folder, within that of the sweep
    pub name: String,
    /// value of `--preset`
    pub preset: Option<String>,
    /// as `train` takes them: keys without their hyphens, and values
    pub options: Vec<(String, String)>,
}

/// How far a point's run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// nothing is there
    New,
    /// there is a checkpoint to go on from
    Begun,
    /// all epochs are over
    Finished,
}

impl Point {
    /// The words after `train`.
    pub fn arguments(&self) -> Vec<String> {
        let preset = self.preset.iter().map(|name| format!("--preset={name}"));
        let options = self
            .options
            .iter()
            .map(|(key, value)| format!("--{key}={value}"));
        preset.chain(options).collect()
    }

    /// Whether it says anything of an option.
    pub fn says(&self, key: &str) -> bool {
        self.options.iter().any(|(said, _)| said == key)
    }

    /// What `train` makes of it.
    ///
    /// # Errors
    /// When it would refuse it.
    pub fn config(&self) -> Result<Config> {
        let mut given = Settings::default();
        for (key, value) in &self.options {
            read(&mut given, key, value).map_err(UsageError)?;
        }
        Ok(Config::resolve(self.preset.as_deref(), None, &given)?.0)
    }

    /// How far its run in `folder` is.
    ///
    /// # Errors
    /// When another run is there, or something that cannot be read.
    pub fn state(&self, folder: &Path) -> Result<State> {
        if !RunFolder::has_checkpoint(folder) {
            RunFolder::check_unused(folder)?;
            return Ok(State::New);
        }
        let (_, last) = RunFolder::find(folder)?;
        let (config, position) = Checkpoint::outline(&last)?;
        let mine = FileSettings::parse(&self.config()?.to_toml()?).map_err(UsageError)?;
        let resumed = config.resumed(None, Some(mine), &Settings::default());
        let config = resumed.with_context(|| format!("{} holds another run", folder.display()))?;
        Ok(match position.epoch >= config.epochs {
            true => State::Finished,
            false => State::Begun,
        })
    }
}

/// Reads the value of an option.
///
/// # Errors
/// When there is no such option, or the value is wrong.
pub fn read(settings: &mut Settings, key: &str, value: &str) -> Result<(), String> {
    let setting = SETTINGS.iter().find(|setting| setting.key() == key);
    let setting =
        setting.ok_or_else(|| format!("{}: there is no such option of train", shown(key)))?;
    (setting.read)(settings, value).map_err(|e| format!("{key} = {}: {e}", shown(value)))
}
