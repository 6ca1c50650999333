//! What learns: one file per learning rule, behind one trait.
//!
//! An [`Algorithm`] is a handle to a registered [`Learning`]: what a run has to know before anything is trained (names, default settings,
//! tensors, initial values, the memory of a device). That makes the [`LearningRule`], which the training loop drives batch by batch.
//! Another rule is another file, whose `REGISTERED` says all of that, and a line in the list below. One that relaxes a network and then
//! estimates a gradient writes only the second half: `relaxing.rs` has the first.

mod formula;
mod pair;
mod probe;
mod published;
mod relaxing;
mod rule;

pub use formula::{GradientFormula, VariantChoice};
pub use probe::Probe;
pub use published::{Magnitudes, Published};
pub use rule::{
    Alias, BatchReport, Description, Learning, LearningRates, LearningRule, RuleSettings, SavedAs,
    TensorNames,
};

use crate::shown::shown;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Declares the files of the learning rules, and registers what is in them.
macro_rules! algorithms {
    ($($file:ident,)*) => {
        $(mod $file;)*

        impl Algorithm {
            /// All of them; the first is the default.
            pub const ALL: &[Self] = &[$(Self(&$file::REGISTERED),)*];
        }
    };
}

algorithms! {
    ep,
    contrastive,
    coupled,
    rbp,
    tbp,
    backprop,
}

/// How a network learns: a registered learning rule, by its name.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Algorithm(&'static dyn Learning);

impl Algorithm {
    /// What its file says.
    pub fn learning(self) -> &'static dyn Learning {
        self.0
    }

    /// What is fixed about it.
    pub fn description(self) -> &'static Description {
        self.0.description()
    }

    /// As users write it.
    pub fn name(self) -> &'static str {
        self.description().name
    }

    /// The algorithm that is meant by a name, and the alias of it that the name is, if it is one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn named(name: &str) -> Result<(Self, Option<&'static Alias>), String> {
        let found = Self::ALL.iter().find_map(|&algorithm| {
            let description = algorithm.description();
            let alias = (description.aliases.iter()).find(|a| a.name.eq_ignore_ascii_case(name));
            match description.name.eq_ignore_ascii_case(name) {
                true => Some((algorithm, None)),
                false => alias.map(|alias| (algorithm, Some(alias))),
            }
        });
        found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|algorithm| algorithm.name()).collect();
            format!(
                "unknown algorithm {:?}; expected one of {}",
                shown(name),
                known.join(", ")
            )
        })
    }
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::ALL[0]
    }
}

impl PartialEq for Algorithm {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Algorithm {}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::named(name).map(|(algorithm, _)| algorithm)
    }
}

impl TryFrom<String> for Algorithm {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Algorithm> for String {
    fn from(algorithm: Algorithm) -> Self {
        algorithm.name().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_one_algorithm() {
        let mut names = Vec::new();
        for algorithm in Algorithm::ALL {
            let description = algorithm.description();
            let aliases = description.aliases.iter().map(|alias| alias.name);
            for name in aliases.chain([description.name]) {
                assert_eq!(name.parse(), Ok(*algorithm));
                names.push(name.to_lowercase());
            }
        }
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!("hebb".parse::<Algorithm>().is_err());
    }
}
