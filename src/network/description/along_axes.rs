//! A number for rows and columns, or one for each.

use serde::de::{self, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Something that is said of rows and columns: one number for both, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AlongAxes {
    /// the same for both
    Same(usize),
    /// rows, then columns
    Each([usize; 2]),
}

impl AlongAxes {
    pub(super) fn of(pair: [usize; 2]) -> Self {
        match pair {
            [y, x] if y == x => Self::Same(y),
            _ => Self::Each(pair),
        }
    }

    pub(super) fn pair(self) -> [usize; 2] {
        match self {
            Self::Same(both) => [both; 2],
            Self::Each(pair) => pair,
        }
    }
}

// Not derived, so that an error names the value.
impl<'de> Deserialize<'de> for AlongAxes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AlongAxesVisitor)
    }
}

struct AlongAxesVisitor;

impl<'de> Visitor<'de> for AlongAxesVisitor {
    type Value = AlongAxes;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number of at least 0, or two: [rows, columns]")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<AlongAxes, E> {
        let both = usize::try_from(value);
        both.map(AlongAxes::Same)
            .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<AlongAxes, E> {
        let both = usize::try_from(value);
        both.map(AlongAxes::Same)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<AlongAxes, A::Error> {
        let mut pair = [0; 2];
        for (i, value) in pair.iter_mut().enumerate() {
            let next = sequence.next_element()?;
            *value = next.ok_or_else(|| de::Error::invalid_length(i, &self))?;
        }
        match sequence.next_element::<usize>()? {
            None => Ok(AlongAxes::Each(pair)),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}
