//! Golden files: safetensors with a configuration in the metadata, each value JSON-encoded.
//!
//! Every accessor notes what was asked for, so that at the end the tensors and metadata that nothing used can be
//! named. No input makes it panic: whatever is missing, truncated or of an unexpected type is a [`GoldenError`].

use crate::error::Error;
use crate::network::NetworkError;
use crate::shown::complaint;
use ndarray::{Array4, ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Metadata that says where a file comes from; no number depends on it.
const PROVENANCE: [&str; 12] = [
    "comment",
    "created",
    "description",
    "generator",
    "name",
    "note",
    "numpy",
    "seed",
    "source",
    "torch",
    "torchvision",
    "version",
];

/// JSON's way to say that a key has no value.
const NULL: &str = "null";

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the message says what each case and its fields are"
)]
pub enum GoldenError {
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    #[error("not a complete safetensors file: {0}")]
    Format(String),
    #[error("metadata {key:?}: {message}")]
    Metadata { key: String, message: String },
    #[error("tensor {name:?}: {message}")]
    Tensor { name: String, message: String },
    #[error("the network it describes is wrong: {0}")]
    Network(#[from] NetworkError),
}

impl From<GoldenError> for Error {
    fn from(error: GoldenError) -> Self {
        Self::File(error.to_string())
    }
}

type Result<T> = std::result::Result<T, GoldenError>;

struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A golden file in memory. Every method that reads something fails when it is missing, or of another type or shape.
pub struct Golden {
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
    used_tensors: RefCell<BTreeSet<String>>,
    used_metadata: RefCell<BTreeSet<String>>,
}

#[expect(clippy::missing_errors_doc, reason = "said once for the type")]
impl Golden {
    /// Reads a file whole.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&std::fs::read(path)?)
    }

    /// The same from memory.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let format =
            |e: safetensors::SafeTensorError| GoldenError::Format(complaint(&e.to_string()));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let file = SafeTensors::deserialize(bytes).map_err(format)?;
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let tensor = Tensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            };
            (name, tensor)
        });
        Ok(Self {
            tensors: tensors.collect(),
            metadata: metadata.into_iter().collect(),
            used_tensors: RefCell::default(),
            used_metadata: RefCell::default(),
        })
    }

    /// All tensor names, in alphabetical order. Does not count as use.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is such a tensor. Does not count as use.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Sizes of a tensor without looking at its values. Does not count as use.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(&tensor.shape),
            None => Err(fail(name, "is missing".into())),
        }
    }

    /// A float tensor of any shape.
    pub fn floats(&self, name: &str) -> Result<ArrayD<f64>> {
        let tensor = self.tensor(name)?;
        let values: Vec<f64> = match tensor.dtype {
            Dtype::F64 => words(&tensor.bytes).map(f64::from_le_bytes).collect(),
            Dtype::F32 => words(&tensor.bytes)
                .map(|b| f64::from(f32::from_le_bytes(b)))
                .collect(),
            other => return Err(fail(name, format!("holds {other:?}; expected F32 or F64"))),
        };
        ArrayD::from_shape_vec(IxDyn(&tensor.shape), values).map_err(|e| fail(name, e.to_string()))
    }

    /// A float tensor of one dimension.
    pub fn vector(&self, name: &str) -> Result<Vec<f64>> {
        let values = self.floats(name)?;
        if values.ndim() > 1 {
            return Err(fail(
                name,
                format!("has shape {:?}; expected a vector", values.shape()),
            ));
        }
        Ok(values.into_iter().collect())
    }

    /// A single number.
    pub fn scalar(&self, name: &str) -> Result<f64> {
        match self.vector(name)?[..] {
            [value] => Ok(value),
            ref other => Err(fail(
                name,
                format!("holds {} numbers; expected 1", other.len()),
            )),
        }
    }

    /// A batch of images `(N, C, H, W)`.
    pub fn images(&self, name: &str) -> Result<Array4<f32>> {
        let images = self.floats(name)?;
        let shape = images.shape().to_vec();
        (images.mapv(|v| v as f32).into_dimensionality())
            .map_err(|_| fail(name, format!("has shape {shape:?}; expected (N, C, H, W)")))
    }

    /// Non-negative integers of one dimension: labels and predictions.
    pub fn labels(&self, name: &str) -> Result<Vec<usize>> {
        let tensor = self.tensor(name)?;
        let values: Vec<i64> = match tensor.dtype {
            Dtype::I64 => words(&tensor.bytes).map(i64::from_le_bytes).collect(),
            Dtype::I32 => words(&tensor.bytes)
                .map(|b| i64::from(i32::from_le_bytes(b)))
                .collect(),
            Dtype::U8 => tensor.bytes.iter().map(|&b| i64::from(b)).collect(),
            other => return Err(fail(name, format!("holds {other:?}; expected I64"))),
        };
        let convert = |v: i64| {
            usize::try_from(v).map_err(|_| fail(name, format!("holds {v}; expected a label")))
        };
        values.into_iter().map(convert).collect()
    }

    /// An 8-bit image `(C, H, W)`.
    pub fn image(&self, name: &str) -> Result<crate::data::Image> {
        let tensor = self.tensor(name)?;
        let image = match (tensor.dtype, &tensor.shape[..]) {
            (Dtype::U8, &[c, h, w]) => crate::data::Image::new(c, h, w, tensor.bytes.clone()),
            _ => None,
        };
        image.ok_or_else(|| {
            let (dtype, shape) = (tensor.dtype, &tensor.shape);
            fail(
                name,
                format!("is {dtype:?} of shape {shape:?}; expected a U8 image (C, H, W)"),
            )
        })
    }

    /// A metadata value, or `None` where the key is absent or null.
    pub fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.metadata.get(key) else {
            return Ok(None);
        };
        self.used_metadata.borrow_mut().insert(key.to_string());
        if text.trim() == NULL {
            return Ok(None);
        }
        serde_json::from_str(text)
            .map(Some)
            .map_err(|e| GoldenError::Metadata {
                key: key.to_string(),
                message: format!("{text:?} cannot be understood: {e}"),
            })
    }

    /// A metadata value that must be there.
    pub fn setting<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| GoldenError::Metadata {
            key: key.to_string(),
            message: "is missing".into(),
        })
    }

    /// The text that a metadata key must have.
    pub fn text(&self, key: &str) -> Result<String> {
        self.setting(key)
    }

    /// The undecoded value of a metadata key. Does not count as use.
    pub fn raw_metadata(&self, key: &str) -> &str {
        self.metadata.get(key).map_or("", String::as_str)
    }

    /// Tensors that nobody asked for.
    pub fn unused_tensors(&self) -> Vec<String> {
        let used = self.used_tensors.borrow();
        let unused = self.tensors.keys().filter(|name| !used.contains(*name));
        unused.cloned().collect()
    }

    /// Keys that nobody asked for, but for those that only inform.
    pub fn unused_metadata(&self) -> Vec<String> {
        let used = self.used_metadata.borrow();
        let unknown = |(key, value): &(&String, &String)| {
            // null says nothing, so nothing of it is passed over
            let known = used.contains(*key) || PROVENANCE.contains(&key.as_str());
            !known && value.trim() != NULL
        };
        let unused = self.metadata.iter().filter(unknown);
        unused.map(|(key, _)| key.clone()).collect()
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        let tensor = self.tensors.get(name);
        self.used_tensors.borrow_mut().insert(name.to_string());
        tensor.ok_or_else(|| fail(name, "is missing".into()))
    }
}

fn fail(name: &str, message: String) -> GoldenError {
    GoldenError::Tensor {
        name: name.to_string(),
        message,
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}
