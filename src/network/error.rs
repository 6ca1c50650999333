//! The one error of this folder.

/// What can be wrong with a network. Every message names the layer or edge.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);
