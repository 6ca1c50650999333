//! Layers of settings on top of each other, and configuration files, which are such layers.

use super::settings::{Settings, is_network_file};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::network::presets;
use crate::shown::{shown, toml_error};
use crate::usage::UsageError;
use std::path::Path;
use toml::Table;

impl Settings {
    /// Puts `self` on top of `lower`. What was chosen for the value of another setting goes when that one changes.
    pub fn over(self, mut lower: Self) -> Self {
        fn changes<T: PartialEq>(upper: &Option<T>, lower: &Option<T>) -> bool {
            upper.is_some() && upper != lower
        }
        if changes(&self.network, &lower.network) {
            lower.weight_gains = None;
            lower.gains = None;
            lower.learning_rates_weights = None;
            lower.learning_rates_biases = None;
        }
        if changes(&self.optimizer, &lower.optimizer) {
            lower.learning_rate = None;
            lower.learning_rates_weights = None;
            lower.learning_rates_biases = None;
        }
        if changes(&self.learning_rate, &lower.learning_rate) {
            lower.learning_rates_weights = None;
            lower.learning_rates_biases = None;
        }
        if changes(&self.learning_rates_weights, &lower.learning_rates_weights) {
            lower.learning_rate = None;
            lower.learning_rates_biases = None;
        }
        if changes(&self.mode, &lower.mode) {
            lower.mode_nudged = None;
        }
        if lower.nudged_phase.is_some() && changes(&self.nudged_phase, &lower.nudged_phase) {
            // It was chosen for another change: two states hardly change in the iterations in which their difference still does.
            lower.tolerance_nudged = lower.tolerance_nudged.and(Some(Tolerance::OFF));
        }
        if changes(&self.tolerance, &lower.tolerance) {
            lower.tolerance_nudged = None;
        }
        // A network file has widths of its own, and so has a network with another number of them.
        let fits = |widths: &Vec<usize>| {
            let preset = self
                .network
                .as_deref()
                .map(|name| (name, presets::find(name)));
            preset.is_none_or(|(name, preset)| match preset {
                Some(preset) => preset.widths.len() == widths.len(),
                None => !is_network_file(name),
            })
        };
        lower.channels = lower.channels.filter(fits);
        self.or(lower)
    }

    /// The same with what the algorithm's name implies said too, where nothing else is.
    ///
    /// # Errors
    /// When what is implied cannot be read.
    pub fn spelled_out(mut self) -> Result<Self> {
        let Some(name) = self.algorithm.take() else {
            return Ok(self);
        };
        let implied = FileSettings::parse(name.implied()).map_err(|e| {
            Error::File(format!(
                "settings of --algorithm {}: {e}",
                String::from(name.clone())
            ))
        })?;
        self.algorithm = Some(name.algorithm().into());
        Ok(self.over(implied.settings))
    }

    /// Reads a configuration file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// When it cannot be read, or has a key or value that no setting has.
    pub fn read(path: &Path) -> Result<FileSettings> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::File(format!(
                "cannot read the configuration {}: {e}",
                path.display()
            ))
        })?;
        let mut file = FileSettings::parse(&text)
            .map_err(|e| UsageError(format!("{}: {e}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if let Some(network) = &mut file.settings.network
            && is_network_file(network)
        {
            *network = folder.join(&*network).display().to_string();
        }
        if let Some(data_dir) = &mut file.settings.data_dir {
            *data_dir = folder.join(&*data_dir);
        }
        Ok(file)
    }
}

/// A configuration file: settings, and possibly the preset that they modify.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileSettings {
    /// the name of a preset
    pub preset: Option<String>,
    /// all other keys
    pub settings: Settings,
}

impl FileSettings {
    /// Parses TOML.
    ///
    /// # Errors
    /// One line that names the key or the value that is wrong, and its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = &with_hyphens(text);
        // Not serde's `flatten`, which would give up the check for unknown keys.
        let mut table: Table = text.parse().map_err(|e| toml_error(&e, text))?;
        let preset = match table.remove("preset") {
            None => None,
            Some(toml::Value::String(name)) => Some(name),
            Some(other) => {
                return Err(format!(
                    "preset = {}: expected a name in quotes",
                    shown(other.to_string())
                ));
            }
        };
        // Parsed again from the text where possible, so that an error knows its line.
        let settings = match &preset {
            None => toml::from_str(text).map_err(|e| toml_error(&e, text))?,
            Some(_) => table.try_into().map_err(|e| toml_error(&e, ""))?,
        };
        Ok(Self { preset, settings })
    }
}

/// The same with hyphens for the underscores of keys, which the published program has. All stays in its line.
fn with_hyphens(text: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some((key, value))
            if key
                .trim()
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_') =>
        {
            format!("{}={value}", key.replace('_', "-"))
        }
        _ => line.to_string(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}
