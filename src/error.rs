//! What can go wrong in the library, from the backends up: one type, by what a caller can do about it.
//!
//! Each message is one line: what has which value, what was expected, what to do. Rooms that know more have types of their own
//! ([`UsageError`], [`NetworkError`], [`DataError`], [`CudaError`](crate::cuda::CudaError)), which travel inside of this one.

use crate::data::DataError;
use crate::network::NetworkError;
use crate::pickle::Malformed;
use crate::usage::UsageError;
use std::{fmt, io};

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. As text it is what was under way, or what went wrong; with `{:#}` first the one and then the other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// a value that a user gave
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// something is no network, or does not fit one
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// a dataset cannot be had
    #[error(transparent)]
    Data(#[from] DataError),

    /// a backend was called before what it needs, which is said
    #[error("{0}")]
    OutOfOrder(&'static str),
    /// what a backend was given does not fit its network
    #[error("{0}")]
    Mismatch(String),
    /// the two nudged phases would be one state twice
    #[error("beta is 0: the two nudged phases would be the same")]
    NoNudging,
    /// a kind of phase, or a formula, that the backend does not have
    #[error("the backend {backend} does not compute {what}; the device cpu does")]
    Unsupported {
        /// what a log calls the backend
        backend: String,
        /// the phase or formula
        what: &'static str,
    },
    /// this build or machine has no such device, or the device not such arithmetic
    #[error("{0}")]
    Unavailable(String),
    /// a device failed: a [`CudaError`](crate::cuda::CudaError), or what an emulation of one found
    #[error(transparent)]
    Device(Box<dyn std::error::Error + Send + Sync>),

    /// numbers ran away; training cannot go on from them
    #[error("{0}")]
    Diverged(String),
    /// a signal asked for the end
    #[error("interrupted")]
    Interrupted,
    /// the processes of a run do not come together, or do not agree
    #[error("{0}")]
    Ranks(String),

    /// a file or folder is not what it should be
    #[error("{0}")]
    File(String),
    /// a figure cannot be drawn
    #[error("{0}")]
    Figure(String),
    /// somebody else's program that was asked to help does not
    #[error("{0}")]
    Program(String),
    /// the system does not read, write or start something
    #[error(transparent)]
    System(#[from] io::Error),

    /// something went wrong on the way to this
    #[error(fmt = during)]
    During {
        /// what was under way, or what the consequence is
        what: String,
        /// what went wrong
        source: Box<Error>,
    },
}

fn during(what: &str, source: &Error, f: &mut fmt::Formatter) -> fmt::Result {
    match f.alternate() {
        true => write!(f, "{what}: {source:#}"),
        false => f.write_str(what),
    }
}

impl Error {
    /// What went wrong in the first place.
    pub fn root(&self) -> &Self {
        match self {
            Self::During { source, .. } => source.root(),
            error => error,
        }
    }

    /// This error, met on the way to something.
    pub fn during(self, what: impl Into<String>) -> Self {
        let (what, source) = (what.into(), Box::new(self));
        Self::During { what, source }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::File(error.to_string())
    }
}

impl From<toml::ser::Error> for Error {
    fn from(error: toml::ser::Error) -> Self {
        Self::File(error.to_string())
    }
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Self::File(error.to_string())
    }
}

/// Says of an error what was under way.
pub(crate) trait Context<T> {
    fn context(self, what: impl Into<String>) -> Result<T>;
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.with_context(|| what)
    }

    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().during(what()))
    }
}

/// Returns an [`Error`] of a kind with a formatted message.
macro_rules! bail {
    ($kind:ident, $($message:tt)*) => {
        return Err($crate::error::Error::$kind(format!($($message)*)))
    };
}
pub(crate) use bail;

/// The same, unless a condition holds.
macro_rules! ensure {
    ($kind:ident, $condition:expr, $($message:tt)*) => {
        if !$condition {
            $crate::error::bail!($kind, $($message)*);
        }
    };
}
pub(crate) use ensure;
