//! Settings of which each tensor has its own: initial gains and learning rates.

use super::settings::Config;
use crate::error::Result;
use crate::network::Network;
use crate::optim::OptimizerKind;
use crate::usage::usage;

impl Config {
    /// The learning rate that goes with the optimizer.
    pub(super) fn default_rate(&self) -> f64 {
        let rates = &self.algorithm.description().rates;
        match self.optimizer {
            OptimizerKind::Sgd => rates.sgd,
            OptimizerKind::Adam => rates.adam,
        }
    }

    /// Fills in gains and learning rates, and checks what depends on the network.
    pub(super) fn complete(&mut self, network: &Network) -> Result<()> {
        let edges = network.edges();
        if self.weight_gains.is_empty() {
            self.weight_gains = edges.iter().map(|edge| edge.gain).collect();
        }
        check_length(
            "weight-gains",
            &self.weight_gains,
            edges.len(),
            "weight tensor",
            network,
        )?;
        self.gains.put_over(network, &mut self.weight_gains)?;
        if let (Some(rate), false) = (self.learning_rate, self.learning_rates_weights.is_empty()) {
            usage!(
                "--learning-rate {rate}: give either this or --learning-rates-weights, not both"
            );
        }
        if self.learning_rates_weights.is_empty() {
            let rate = self.learning_rate.unwrap_or(self.default_rate());
            self.learning_rates_weights = vec![rate; edges.len()];
        }
        self.learning_rate = None;
        let rates = &self.learning_rates_weights;
        check_length(
            "learning-rates-weights",
            rates,
            edges.len(),
            "weight tensor",
            network,
        )?;
        self.learning_rates_biases = self.bias_rates(network)?;
        Ok(())
    }

    /// One learning rate per bias. The published program takes a list with one value per *weight tensor*, whose first
    /// values go to the biases and whose others slide onto weights; only when all are equal does that list mean
    /// something.
    fn bias_rates(&self, network: &Network) -> Result<Vec<f64>> {
        let given = &self.learning_rates_biases;
        let (biases, weights) = (network.free_layers().len(), network.edges().len());
        if given.is_empty() {
            let first_edge = |l| network.edges_into(l).map(|(e, _)| e).next();
            let rate = |l| first_edge(l).map_or(0.0, |e| self.learning_rates_weights[e]);
            return Ok(network.free_layers().map(rate).collect());
        }
        if given.len() == weights && biases != weights {
            if given.iter().any(|rate| *rate != given[0]) {
                usage!(
                    "--learning-rates-biases has {weights} unequal values, one per weight tensor, but {} has {biases} biases; \
                     give {biases} values, one per layer above the input",
                    network.name()
                );
            }
            return Ok(vec![given[0]; biases]);
        }
        check_length("learning-rates-biases", given, biases, "bias", network)?;
        Ok(given.clone())
    }
}

/// The same network with other initial gains.
pub(super) fn with_gains(network: &Network, gains: &[f64]) -> Result<Network> {
    let mut edges = network.edges().to_vec();
    for (edge, &gain) in edges.iter_mut().zip(gains) {
        edge.gain = gain;
    }
    Ok(Network::new(
        network.name(),
        network.layers().to_vec(),
        edges,
    )?)
}

fn check_length(
    name: &str,
    list: &[f64],
    expected: usize,
    each: &str,
    network: &Network,
) -> Result<()> {
    if list.len() != expected {
        usage!(
            "--{name} has {} values: {} needs {expected}, one per {each}",
            list.len(),
            network.name()
        );
    }
    Ok(())
}
