//! The network of a configuration.

use super::settings::{Config, is_network_file};
use crate::data::SIDE;
use crate::network::presets::{PAPER_CHANNELS, PresetOptions};
use crate::network::{Network, NetworkDescription};
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
        let channels = self.channels.as_deref().unwrap_or(&PAPER_CHANNELS);
        let options = PresetOptions {
            input_channels: self.dataset.channels(),
            classes: self.dataset.classes(),
            channels: channels.try_into().expect("the length was checked"),
            activation: self.activation,
            gains: None,
        };
        let learning = self.algorithm.learning();
        Ok(learning.network(&self.network, &options, &mut rng)?)
    }

    fn read_network(&self, rng: &mut ChaCha8Rng) -> Result<Network> {
        let path = &self.network;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the network {path}"))?;
        let network = NetworkDescription::from_toml(&text)
            .and_then(|description| description.build(self.activation, rng))
            .with_context(|| format!("the network {path}"))?;
        let input = network.input().shape;
        let expected = (self.dataset.channels(), SIDE, SIDE);
        ensure!(
            (input.channels, input.height, input.width) == expected
                && network.classes() == self.dataset.classes(),
            UsageError(format!(
                "--network {path}: its input is {input} with {} classes, but {} has {}x{SIDE}x{SIDE} images of {} classes",
                network.classes(),
                self.dataset,
                expected.0,
                self.dataset.classes()
            ))
        );
        Ok(network)
    }
}
