//! What can go wrong between a file and a dataset. Each message is one line: the file, what was expected, what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a dataset could not be loaded.
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the message says what each case and its fields are"
)]
pub enum DataError {
    #[error("unknown dataset `{name}`: expected one of {known}")]
    UnknownDataset { name: String, known: String },

    #[error(
        "{dataset} has images of {have} pixels, but {want} are asked for: choose a network with such an input"
    )]
    Size {
        dataset: &'static str,
        /// Height x width, and the padded ones.
        have: String,
        want: String,
    },

    #[error(
        "{dataset} was not found and downloading is off (offline): put {files} into {folder}, or name the folder that holds \
         them with --data-dir"
    )]
    NotFound {
        dataset: &'static str,
        files: String,
        folder: PathBuf,
    },

    #[error(
        "{dataset} was not found and there is no folder to download it into: set HOME or EQPROP_DATA, or name a folder with \
         --data-dir"
    )]
    NoFolder { dataset: &'static str },

    #[error(
        "{folder} holds only a part of {dataset}: {missing} is missing, and the files that are there are not the published \
         ones, so it cannot be downloaded to match; put it beside them"
    )]
    Incomplete {
        dataset: &'static str,
        folder: PathBuf,
        missing: String,
    },

    #[error(
        "cannot download {url} ({reason}): download it yourself and put it at {put}, or pass --data-dir or --mirror"
    )]
    Download {
        url: String,
        reason: String,
        put: PathBuf,
    },

    #[error(
        "{url} sent a wrong file (MD5 {found}, expected {expected}), nothing was kept: try again, or put the right file at {put}"
    )]
    Checksum {
        url: String,
        expected: String,
        found: String,
        put: PathBuf,
    },

    #[error("{path}: {reason}")]
    Own { path: PathBuf, reason: String },

    #[error("--dataset folder reads the images in the folder of --data-dir, which is missing")]
    NoOwn,

    #[error("cannot read or write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },

    #[error(
        "{path} is truncated: expected {expected}, found {found}; replace it, or delete it to have it downloaded again"
    )]
    Truncated {
        path: PathBuf,
        expected: String,
        found: String,
    },

    #[error("{path} is corrupt: {reason}; replace it, or delete it to have it downloaded again")]
    Corrupt { path: PathBuf, reason: String },

    #[error(
        "{path} is not what its name says: expected {expected}, found {found}; put the right file there"
    )]
    Mislabelled {
        path: PathBuf,
        expected: String,
        found: String,
    },

    #[error(
        "{images_path} holds {images} images but {labels_path} holds {labels} labels: they do not belong together, replace one"
    )]
    CountMismatch {
        images_path: PathBuf,
        images: usize,
        labels_path: PathBuf,
        labels: usize,
    },

    #[error(
        "{path}: example {index} has label {label}, expected 0 to {last} for {dataset}; replace the file",
        last = .classes - 1
    )]
    Label {
        path: PathBuf,
        dataset: &'static str,
        classes: usize,
        index: usize,
        label: u8,
    },
}

impl DataError {
    /// An I/O error with the path it happened at.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(super) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// Something about a user's own images, with what to do.
    pub(super) fn own(path: &Path, reason: impl Into<String>) -> Self {
        Self::Own {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn truncated(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Truncated {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(super) fn mislabelled(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Mislabelled {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}
