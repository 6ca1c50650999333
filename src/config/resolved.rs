//! A run's configuration, with everything decided.

use super::layers::FileSettings;
use super::presets;
use super::settings::{Config, DEFAULTS, MAY_CHANGE, SETTINGS, Settings};
use super::tensors::with_gains;
use super::tolerance::Tolerance;
use crate::data::{DatasetName, Normalize};
use crate::device::Device;
use crate::error::{Context, Error, Result};
use crate::learn::Algorithm;
use crate::network::Network;
use crate::phase::NudgedPhase;
use crate::usage::{UsageError, usage};
use toml::Table;

impl Config {
    /// Puts the layers on top of each other, fills in what depends on other settings, and checks everything.
    ///
    /// `preset` and `file` are the values of `--preset` and `--config`; `given` holds the other options.
    ///
    /// # Errors
    /// A [`UsageError`] that names the setting, its value and what was expected; or a network file that cannot be read.
    pub fn resolve(
        preset: Option<&str>,
        file: Option<FileSettings>,
        given: &Settings,
    ) -> Result<(Self, Network)> {
        let layers = layers(preset, file, given, None)?;
        let said = put_together(Settings::default(), layers.clone());
        let algorithm = algorithm_of(&said);
        check_foreign(algorithm, &said)?;
        let read =
            |text| FileSettings::parse(text).map_err(|e| Error::File(format!("a default: {e}")));
        let own = read(algorithm.learning().defaults(said.network.as_deref()))?;
        let defaults = own.settings.over(read(DEFAULTS)?.settings);
        put_together(defaults, layers).resolved()
    }

    /// The configuration of a run that is resumed with further options. One that would change what is computed is an
    /// error that names it; one that repeats what the run has is fine.
    ///
    /// # Errors
    /// A [`UsageError`].
    pub fn resumed(
        &self,
        preset: Option<&str>,
        file: Option<FileSettings>,
        given: &Settings,
    ) -> Result<Self> {
        let said = put_together(
            Settings::default(),
            layers(preset, file, given, Some(self.algorithm))?,
        );
        check_foreign(self.algorithm, &said)?;
        let mine = self.settings();
        let mut merged = mine.clone();
        for setting in SETTINGS.iter().filter(|setting| setting.is_in(&said)) {
            let key = setting.key();
            if MAY_CHANGE.contains(&&*key) {
                (setting.copy)(&mut merged, &said);
            } else if !(setting.same)(&said, &mine) && !self.implies(&key, &said) {
                usage!(
                    "--{key} {}: the run was started with {}, and a resumed run may change only {}",
                    (setting.show)(&said).unwrap_or_default(),
                    (setting.show)(&mine).unwrap_or("unset".into()),
                    MAY_CHANGE.map(|key| format!("--{key}")).join(", ")
                );
            }
        }
        let mut config = merged.decide()?;
        config.check_ranges()?;
        config.find_data_from_anywhere()?;
        Ok(config)
    }

    /// The same with other settings for an evaluation of its network.
    ///
    /// # Errors
    /// A [`UsageError`].
    pub fn evaluated(&self, given: &Settings, network: &Network) -> Result<Self> {
        let mut mine = self.settings();
        if given.dataset.is_some_and(|dataset| dataset != self.dataset) {
            mine.limit_test = None;
        }
        let config = given.clone().over(mine).decide()?;
        config.check_ranges()?;
        let learning = config.algorithm.learning();
        learning.check(&config.rule_settings(), network)?;
        Ok(config)
    }

    /// Makes `--data-dir` absolute: a run may be resumed from another folder.
    fn find_data_from_anywhere(&mut self) -> Result<()> {
        if let Some(folder) = &self.data_dir {
            self.data_dir = Some(std::path::absolute(folder).context("--data-dir")?);
        }
        Ok(())
    }

    /// Whether a setting that was said in other words is what this configuration has.
    fn implies(&self, key: &str, said: &Settings) -> bool {
        let (biases, weights) = (&self.learning_rates_biases, &self.learning_rates_weights);
        match key {
            "learning-rate" if self.learning_rate.is_none() => {
                let mut mine = biases.iter().chain(weights);
                mine.all(|&mine| said.learning_rate == Some(mine))
            }
            // May be the published list with one value per weight tensor.
            "learning-rates-biases" => said.learning_rates_biases.iter().all(|given| {
                let mine = |i: usize| biases.get(i).or(biases.last());
                (given.iter().enumerate()).all(|(i, rate)| Some(rate) == mine(i))
            }),
            "tolerance" => {
                said.tolerance == Some(Tolerance::OFF) && self.free_relaxation().tolerance.is_none()
            }
            "tolerance-nudged" => {
                said.tolerance_nudged == Some(Tolerance::OFF)
                    && self.nudged_relaxation().tolerance.is_none()
            }
            "normalize" => {
                self.dataset == DatasetName::Folder && said.normalize == Some(Normalize::Auto)
            }
            _ => false,
        }
    }

    /// The text of `config.toml`, which `--config` reads again.
    ///
    /// # Errors
    /// When a value cannot be written as TOML, such as a path that is no text.
    pub fn to_toml(&self) -> Result<String> {
        let mut table = Table::try_from(self)?;
        let foreign = self.algorithm.description().foreign;
        table.retain(|key, _| !foreign.contains(&key));
        Ok(format!(
            "# Every setting of this run; `eqprop-cuda train --config` takes this file.\n{}",
            toml::to_string(&table)?
        ))
    }
}

impl Settings {
    /// Fills in what depends on other settings, and checks everything.
    fn resolved(mut self) -> Result<(Config, Network)> {
        // Precision goes with the device, and the form of the nudged phases with the precision, where nobody chose them.
        let device = self.device.unwrap_or(Device::Auto);
        let precision = *(self.precision).get_or_insert_with(|| device.default_precision());
        (self.nudged_phase).get_or_insert(precision.default_nudged_phase());
        let mut config = self.decide()?;
        config.check_ranges()?;
        config.find_data_from_anywhere()?;
        let network = config.build_network()?;
        let learning = config.algorithm.learning();
        learning.check(&config.rule_settings(), &network)?;
        if !config.algorithm.description().rates.for_each_tensor {
            let rate = config.default_rate();
            config.learning_rate.get_or_insert(rate);
            return Ok((config, network));
        }
        config.complete(&network)?;
        let network = with_gains(&network, &config.weight_gains)?;
        Ok((config, network))
    }
}

/// What was said, the strongest last; `algorithm` is the one that goes without saying.
fn layers(
    preset: Option<&str>,
    file: Option<FileSettings>,
    given: &Settings,
    algorithm: Option<Algorithm>,
) -> Result<Vec<Settings>> {
    let file = file.unwrap_or_default();
    let preset = preset.or(file.preset.as_deref());
    let mut preset = preset.map(presets::find).transpose()?.unwrap_or_default();
    let (file, given) = (file.settings.spelled_out()?, given.clone().spelled_out()?);
    // What a preset says for another algorithm than the one that was asked for is no mistake of the user's.
    let asked = given.algorithm.as_ref().or(file.algorithm.as_ref());
    if let Some(algorithm) = asked.map(|name| name.algorithm()).or(algorithm) {
        let description = algorithm.description();
        if preset.nudged_phase == Some(NudgedPhase::Linear) && !description.responds {
            let pair = Settings {
                nudged_phase: Some(NudgedPhase::SumDifference),
                ..Settings::default()
            };
            preset = pair.over(preset);
        }
        let foreign = description.foreign;
        for setting in SETTINGS.iter().filter(|s| foreign.contains(&&*s.key())) {
            (setting.copy)(&mut preset, &Settings::default());
        }
    }
    Ok(vec![preset, file, given])
}

fn put_together(lowest: Settings, layers: Vec<Settings>) -> Settings {
    layers
        .into_iter()
        .fold(lowest, |lower, upper| upper.over(lower))
}

fn algorithm_of(said: &Settings) -> Algorithm {
    let name = said.algorithm.as_ref();
    name.map_or(Algorithm::default(), |name| name.algorithm())
}

/// Settings that were given for an algorithm that has no use for them are a mistake.
fn check_foreign(algorithm: Algorithm, said: &Settings) -> Result<(), UsageError> {
    let foreign = algorithm.description().foreign;
    let given = SETTINGS.iter().filter(|setting| setting.is_in(said));
    let Some(setting) = given.into_iter().find(|s| foreign.contains(&&*s.key())) else {
        return Ok(());
    };
    let key = setting.key();
    let others = Algorithm::ALL.iter().map(|other| other.description());
    let others = others.filter(|other| !other.foreign.contains(&&*key));
    let titles: Vec<_> = others.map(|other| other.title).collect();
    usage!(
        "--{key} {}: belongs to {}; leave it out with --algorithm {algorithm}",
        (setting.show)(said).unwrap_or_default(),
        titles.join(", ")
    )
}
