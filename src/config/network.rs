//! The network of a configuration.

use super::settings::{Config, is_network_file};
use crate::data::Profile;
use crate::error::{Context, Result};
use crate::network::{Ends, Network, NetworkDescription, Shape, presets};
use crate::shown::shown;
use crate::usage::{UsageError, usage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

impl Config {
    /// Builds it with its published gains; `channels` has been checked.
    pub(super) fn build_network(&self) -> Result<Network> {
        // Draws the clips of `reluclip` layers only; parameters have streams of their own.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let profile = self.profile()?;
        if is_network_file(&self.network) {
            if self.channels.is_some() {
                usage!(
                    "--channels: the widths of {} are in that file; --channels goes with {}",
                    shown(&self.network),
                    self.algorithm.description().networks.join(" or ")
                );
            }
            return self.read_network(&profile, &mut rng);
        }
        let known = self.algorithm.description().networks;
        if !known.contains(&self.network.as_str()) {
            usage!(
                "--network {}: expected {} or the path of a .toml file for --algorithm {}",
                shown(&self.network),
                known.join(", "),
                self.algorithm
            );
        }
        // The paper's networks take padded images, those that take any size take them as they are.
        let any_size = |preset: &presets::Preset| preset.size.is_none();
        let size = match presets::find(&self.network) {
            Some(preset) if any_size(preset) => profile.size,
            Some(preset) => preset.size.unwrap_or(profile.padded_size()),
            None => profile.padded_size(),
        };
        let ends = ends(&profile, size);
        self.normalization(ends.input.channels)?;
        self.check_size(&profile, ends.input)?;
        let widths = self.channels.as_deref();
        let learning = self.algorithm.learning();
        Ok(learning.network(&self.network, ends, widths, self.activation, &mut rng)?)
    }

    /// Whether the dataset has images of this size.
    fn check_size(&self, profile: &Profile, input: Shape) -> Result<(), UsageError> {
        let sizes = [profile.size, profile.padded_size()];
        if !sizes.contains(&(input.height, input.width)) {
            let [(h, w), (ph, pw)] = sizes;
            let padded = match profile.pad {
                0 => String::new(),
                _ => format!(", or padded {ph}x{pw}"),
            };
            usage!(
                "--network {}: takes images of {}x{} pixels, but those of {} have {h}x{w}{padded}",
                self.network,
                input.height,
                input.width,
                self.dataset
            );
        }
        Ok(())
    }

    fn read_network(&self, profile: &Profile, rng: &mut ChaCha8Rng) -> Result<Network> {
        let text = std::fs::read_to_string(&self.network);
        let path = shown(&self.network);
        let text = text.with_context(|| format!("cannot read the network {path}"))?;
        let network = NetworkDescription::from_toml(&text)
            .and_then(|description| {
                let ends = ends(profile, profile.padded_size());
                description.build_between(Some(ends), self.activation, rng)
            })
            .with_context(|| format!("the network {path}"))?;
        let input = network.input().shape;
        self.normalization(profile.channels)?;
        let size = (input.height, input.width);
        let (dataset, channels, classes) = (self.dataset, profile.channels, profile.classes.len());
        let has_size = size == profile.size || size == profile.padded_size();
        let (height, width) = profile.padded_size();
        if !has_size || (input.channels, network.classes()) != (channels, classes) {
            usage!(
                "--network {path}: its input is {input} with {} classes, but {dataset} has {channels}x{height}x{width} images of {classes} classes",
                network.classes()
            );
        }
        Ok(network)
    }
}

/// Images of this size, and the classes, of a dataset.
fn ends(profile: &Profile, (height, width): (usize, usize)) -> Ends {
    Ends {
        input: Shape::new(profile.channels, height, width),
        classes: profile.classes.len(),
    }
}
