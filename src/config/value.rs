//! What a setting's value may be: how it is read from the command line, and shown in a message.

use super::tolerance::Tolerance;
use crate::choice::Choice;
use crate::data::{Augment, DatasetName, Normalize};
use crate::device::{Device, Precision};
use crate::learn::{Algorithm, Alias, GradientFormula, VariantChoice};
use crate::network::{ActivationKind, Mode};
use crate::optim::{ClipNorm, OptimizerKind, ScheduleKind};
use crate::phase::{CostFunction, NudgedPhase};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a value looks like on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syntax {
    /// anything
    Text,
    /// it may begin with a minus
    Number,
    /// numbers with commas between them
    List,
    /// true or false; true without a value
    Flag,
    /// one of these
    Choice(Vec<Named>),
}

/// A value that is chosen by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// as users write it
    pub name: &'static str,
    /// what it means, if that is not plain
    pub about: &'static str,
    /// other names, which no help text lists
    pub aliases: Vec<&'static str>,
}

/// What a user may say of a setting.
pub trait Value: Sized + PartialEq {
    /// How it is written.
    fn syntax() -> Syntax;

    /// Reads it.
    ///
    /// # Errors
    /// What was expected, without the text.
    fn read(text: &str) -> Result<Self, String>;

    /// As a user would write it.
    fn show(&self) -> String;

    /// What it is where nobody says it, if that can be.
    fn unsaid() -> Option<Self> {
        None
    }
}

/// A field of the configuration: a value, or one that may be missing.
pub trait Field: Sized {
    /// What a user may say of it.
    type Said: Value;

    /// The field, if enough was said.
    fn decide(said: Option<Self::Said>) -> Option<Self>;

    /// What somebody would have to say for it.
    fn said(&self) -> Option<Self::Said>;
}

impl<T: Value + Clone> Field for T {
    type Said = T;

    fn decide(said: Option<T>) -> Option<T> {
        said.or_else(T::unsaid)
    }

    fn said(&self) -> Option<T> {
        Some(self.clone())
    }
}

impl<T: Value + Clone> Field for Option<T> {
    type Said = T;

    fn decide(said: Option<T>) -> Option<Self> {
        Some(said)
    }

    fn said(&self) -> Option<T> {
        self.clone()
    }
}

/// The name of an algorithm as it was given: one of the literature may imply more settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AlgorithmName {
    name: String,
    algorithm: Algorithm,
    alias: Option<&'static Alias>,
}

impl PartialEq for AlgorithmName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl AlgorithmName {
    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The settings that the name implies, as text of a configuration file.
    pub fn implied(&self) -> &'static str {
        self.alias.map_or("", |alias| alias.settings)
    }
}

impl From<Algorithm> for AlgorithmName {
    fn from(algorithm: Algorithm) -> Self {
        Self {
            name: algorithm.name().into(),
            algorithm,
            alias: None,
        }
    }
}

impl From<AlgorithmName> for String {
    fn from(name: AlgorithmName) -> Self {
        name.name
    }
}

impl TryFrom<String> for AlgorithmName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let (algorithm, alias) = Algorithm::named(&name)?;
        Ok(Self {
            name,
            algorithm,
            alias,
        })
    }
}

impl Field for Algorithm {
    type Said = AlgorithmName;

    fn decide(said: Option<AlgorithmName>) -> Option<Self> {
        said.map(|name| name.algorithm())
    }

    fn said(&self) -> Option<AlgorithmName> {
        Some((*self).into())
    }
}

impl Value for AlgorithmName {
    fn syntax() -> Syntax {
        let named = |algorithm: &Algorithm| {
            let description = algorithm.description();
            Named {
                name: description.name,
                about: description.about,
                aliases: description.aliases.iter().map(|a| a.name).collect(),
            }
        };
        Syntax::Choice(Algorithm::ALL.iter().map(named).collect())
    }

    fn read(text: &str) -> Result<Self, String> {
        text.to_string().try_into()
    }

    fn show(&self) -> String {
        self.name.clone()
    }
}

/// Reads a number that counts something. TOML's whole numbers have 63 bits.
///
/// # Errors
/// When it is none.
pub fn count(text: &str) -> Result<usize, String> {
    let number = text.trim().parse::<i64>().ok();
    let number = number.and_then(|n| usize::try_from(n).ok());
    (number.filter(|&n| n > 0)).ok_or_else(|| "expected a whole number of at least 1".to_string())
}

impl Value for usize {
    fn syntax() -> Syntax {
        Syntax::Number
    }

    fn read(text: &str) -> Result<Self, String> {
        count(text)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn syntax() -> Syntax {
        Syntax::Number
    }

    fn read(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|n| *n <= i64::MAX as u64);
        number.ok_or_else(|| format!("expected a whole number from 0 to {}", i64::MAX))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for f64 {
    fn syntax() -> Syntax {
        Syntax::Number
    }

    fn read(text: &str) -> Result<Self, String> {
        let number = text.trim().parse();
        number.map_err(|_| "expected a number".to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    fn syntax() -> Syntax {
        Syntax::Flag
    }

    fn read(text: &str) -> Result<Self, String> {
        let known = text.parse();
        known.map_err(|_| "expected true or false".to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn syntax() -> Syntax {
        Syntax::Text
    }

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_string())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn syntax() -> Syntax {
        Syntax::Text
    }

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// A list is empty where nobody says it.
macro_rules! lists {
    ($($Item:ty),*) => {$(
        impl Value for Vec<$Item> {
            fn syntax() -> Syntax {
                Syntax::List
            }

            fn read(text: &str) -> Result<Self, String> {
                text.split(',').map(<$Item>::read).collect()
            }

            fn show(&self) -> String {
                self.iter().map(Value::show).collect::<Vec<_>>().join(",")
            }

            fn unsaid() -> Option<Self> {
                Some(Self::new())
            }
        }
    )*};
}
lists!(f64, usize);

/// The values of a [`Choice`].
fn choices<T: Choice>() -> Syntax {
    let named = |&(_, name, about): &(T, &'static str, &'static str)| Named {
        name,
        about: about.trim(),
        aliases: Vec::new(),
    };
    Syntax::Choice(T::CHOICES.iter().map(named).collect())
}

impl Value for ActivationKind {
    fn syntax() -> Syntax {
        let named = |kind: Self| Named {
            name: kind.name(),
            about: kind.definition().about,
            aliases: Vec::new(),
        };
        Syntax::Choice(Self::for_hidden().map(named).collect())
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        self.name().into()
    }
}

fn datasets() -> Syntax {
    let named = |dataset: DatasetName| Named {
        name: dataset.as_str(),
        about: "",
        aliases: dataset.set().aliases.to_vec(),
    };
    Syntax::Choice(DatasetName::ALL.into_iter().map(named).collect())
}

/// Values that know their own text.
macro_rules! values {
    ($($T:ty: $syntax:expr;)*) => {$(
        impl Value for $T {
            fn syntax() -> Syntax {
                $syntax
            }

            fn read(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
values! {
    DatasetName: datasets();
    Device: Syntax::Text;
    Precision: choices::<Self>();
    Mode: choices::<Self>();
    CostFunction: choices::<Self>();
    VariantChoice: choices::<Self>();
    GradientFormula: choices::<Self>();
    NudgedPhase: choices::<Self>();
    OptimizerKind: choices::<Self>();
    ScheduleKind: choices::<Self>();
    ClipNorm: Syntax::Number;
    Tolerance: Syntax::Number;
    Augment: choices::<Self>();
    Normalize: Syntax::List;
}
