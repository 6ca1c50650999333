//! The network of a configuration.

use super::settings::{Config, is_network_file};
use crate::network::{Ends, Network, NetworkDescription, Shape, presets};
use crate::usage::{UsageError, usage};
use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

impl Config {
    /// Builds it with its published gains; `channels` has been checked.
    pub(super) fn build_network(&self) -> Result<Network> {
        // Draws the clips of `reluclip` layers only; parameters have streams of their own.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        if is_network_file(&self.network) {
            if self.channels.is_some() {
                usage!(
                    "--channels: the widths of {} are in that file; --channels goes with {}",
                    self.network,
                    self.algorithm.description().networks.join(" or ")
                );
            }
            return self.read_network(&mut rng);
        }
        let known = self.algorithm.description().networks;
        if !known.contains(&self.network.as_str()) {
            usage!(
                "--network {}: expected {} or the path of a .toml file for --algorithm {}",
                self.network,
                known.join(", "),
                self.algorithm
            );
        }
        // The paper's networks take padded images, those that take any size take them as they are.
        let any_size = |preset: &presets::Preset| preset.size.is_none();
        let size = match presets::find(&self.network) {
            Some(preset) if any_size(preset) => self.dataset.size(),
            Some(preset) => preset.size.unwrap_or(self.dataset.padded_size()),
            None => self.dataset.padded_size(),
        };
        let ends = self.ends(size);
        self.normalization(ends.input.channels)?;
        self.check_size("network", &self.network, ends.input)?;
        let widths = self.channels.as_deref();
        let learning = self.algorithm.learning();
        Ok(learning.network(&self.network, ends, widths, self.activation, &mut rng)?)
    }

    /// Images of this size, and the classes, of the dataset.
    fn ends(&self, (height, width): (usize, usize)) -> Ends {
        Ends {
            input: Shape::new(self.dataset.channels(), height, width),
            classes: self.dataset.classes(),
        }
    }

    /// Whether the dataset has images of this size.
    fn check_size(&self, option: &str, value: &str, input: Shape) -> Result<(), UsageError> {
        let sizes = [self.dataset.size(), self.dataset.padded_size()];
        if !sizes.contains(&(input.height, input.width)) {
            let [(h, w), (ph, pw)] = sizes;
            usage!(
                "--{option} {value}: takes images of {}x{} pixels, but those of {} have {h}x{w}, or padded {ph}x{pw}",
                input.height,
                input.width,
                self.dataset
            );
        }
        Ok(())
    }

    fn read_network(&self, rng: &mut ChaCha8Rng) -> Result<Network> {
        let path = &self.network;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the network {path}"))?;
        let network = NetworkDescription::from_toml(&text)
            .and_then(|description| {
                let ends = self.ends(self.dataset.padded_size());
                description.build_between(Some(ends), self.activation, rng)
            })
            .with_context(|| format!("the network {path}"))?;
        let input = network.input().shape;
        self.normalization(self.dataset.channels())?;
        let size = (input.height, input.width);
        let (dataset, channels) = (self.dataset, self.dataset.channels());
        let has_size = size == dataset.size() || size == dataset.padded_size();
        let (height, width) = dataset.padded_size();
        ensure!(
            has_size && (input.channels, network.classes()) == (channels, dataset.classes()),
            UsageError(format!(
                "--network {path}: its input is {input} with {} classes, but {dataset} has {channels}x{height}x{width} images of {} classes",
                network.classes(),
                dataset.classes()
            ))
        );
        Ok(network)
    }
}
