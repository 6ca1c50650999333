//! The error of a value that a user gave, and its short form.

/// An option's value that cannot be used: the message names the option, its value and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Returns a [`UsageError`] with a formatted message.
macro_rules! usage {
    ($($message:tt)*) => {
        return Err($crate::usage::UsageError(format!($($message)*)).into())
    };
}
pub(crate) use usage;
