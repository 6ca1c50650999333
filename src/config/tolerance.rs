//! When a phase may end, as a user says it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a tolerance may be.
pub const EXPECTED: &str = "a number between 0 and 1, such as 1e-3, or off";

/// The relative change of the states in an iteration below which a phase ends, or `off`. A number that was chosen elsewhere, as by a preset,
/// is taken back by the word.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Tolerance(pub Option<f64>);

impl Tolerance {
    /// A phase makes all its iterations.
    pub const OFF: Self = Self(None);
}

/// As files have it.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number between 0 and 1, such as 1e-3, or \"off\""
)]
enum Written {
    Number(f64),
    Word(String),
}

impl From<Tolerance> for Written {
    fn from(tolerance: Tolerance) -> Self {
        match tolerance.0 {
            Some(number) => Self::Number(number),
            None => Self::Word(tolerance.to_string()),
        }
    }
}

impl TryFrom<Written> for Tolerance {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self(Some(number))),
            Written::Word(word) => word.parse(),
        }
    }
}

impl FromStr for Tolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "off" => Ok(Self::OFF),
            number => number
                .parse()
                .map(|n| Self(Some(n)))
                .map_err(|_| format!("expected {EXPECTED}")),
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(number) => write!(f, "{number}"),
        }
    }
}
