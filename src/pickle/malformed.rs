//! The error of what is no such file, for readers of pickles and of the archives around them.

use std::fmt::Display;

/// What is wrong with a file's content; whoever knows its name says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// The result of reading.
pub type Result<T, E = Malformed> = std::result::Result<T, E>;

impl From<std::io::Error> for Malformed {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Says what is missing or wrong.
pub trait Context<T> {
    /// In these words.
    fn context(self, what: &str) -> Result<T>;

    /// In words that are made when they are needed.
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: &str) -> Result<T> {
        self.ok_or_else(|| Malformed(what.to_string()))
    }

    fn with_context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.ok_or_else(|| Malformed(what()))
    }
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &str) -> Result<T> {
        self.with_context(|| what.to_string())
    }

    fn with_context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Malformed(format!("{}: {error}", what())))
    }
}

/// Returns a [`Malformed`] with a formatted message.
macro_rules! malformed {
    ($($message:tt)*) => {
        return Err($crate::pickle::malformed::Malformed(format!($($message)*)))
    };
}
pub(crate) use malformed;
