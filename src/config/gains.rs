//! Initial gains of single edges, by the names of their layers.

use super::value::{Syntax, Value};
use crate::network::Network;
use crate::usage::{UsageError, usage};
use serde::{Deserialize, Serialize};

/// `FROM-TO=GAIN`, with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NamedGains(Vec<(String, f64)>);

impl NamedGains {
    /// Puts them over the gains of all edges.
    ///
    /// # Errors
    /// When an edge has no such name.
    pub(super) fn put_over(&self, network: &Network, gains: &mut [f64]) -> Result<(), UsageError> {
        let layers = network.layers();
        let edges = network.edges().iter();
        let names = edges.map(|e| format!("{}-{}", layers[e.pre].name, layers[e.post].name));
        let names: Vec<String> = names.collect();
        for (name, gain) in &self.0 {
            if !names.contains(name) {
                usage!(
                    "--gains {name}={gain}: {} has no such edge; expected {}",
                    network.name(),
                    names.join(", ")
                );
            }
            // Parallel edges share a name.
            let named = names.iter().zip(gains.iter_mut());
            let named = named.filter(|(known, _)| *known == name);
            named.for_each(|(_, of_edge)| *of_edge = *gain);
        }
        Ok(())
    }
}

impl Value for NamedGains {
    fn syntax() -> Syntax {
        Syntax::Text
    }

    fn read(text: &str) -> Result<Self, String> {
        let gain = |part: &str| {
            let (name, gain) = part.split_once('=')?;
            let gain = gain.trim().parse().ok();
            let gain = gain.filter(|g: &f64| g.is_finite() && *g >= 0.0)?;
            Some((name.trim().to_string(), gain))
        };
        let gains: Option<Vec<_>> = text.split(',').map(gain).collect();
        let expected =
            "expected FROM-TO=GAIN, with commas between several; gains are 0 or positive";
        gains.map(Self).ok_or_else(|| expected.to_string())
    }

    fn show(&self) -> String {
        self.clone().into()
    }

    fn unsaid() -> Option<Self> {
        Some(Self::default())
    }
}

impl From<NamedGains> for String {
    fn from(gains: NamedGains) -> Self {
        let gains = gains.0.iter().map(|(name, gain)| format!("{name}={gain}"));
        gains.collect::<Vec<_>>().join(",")
    }
}

impl TryFrom<String> for NamedGains {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.is_empty() {
            true => Ok(Self::default()),
            false => Self::read(&text),
        }
    }
}
