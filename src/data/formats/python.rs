//! The pickled CIFAR files for Python: a dictionary with an array `data` of (N, 3072) bytes, and a list of labels.

use std::path::Path;

use super::Contents;
use crate::data::DataError;
use crate::pickle::{self, Node, Value};
use crate::shown::one_line;

/// Pixels and labels, which lie under the key `labels`.
pub(super) fn pixels_and_labels(
    contents: &Contents,
    key: &str,
    path: &Path,
    bytes: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), DataError> {
    let corrupt = |reason: String| DataError::corrupt(path, reason);
    let file = pickle::read(bytes).map_err(|e| corrupt(one_line(&e.to_string())))?;
    let entry = |key: &str| {
        let found = file.entry(&file.root, key);
        found.ok_or_else(|| DataError::truncated(path, format!("an entry {key:?}"), "none in it"))
    };
    let Some(Node::Array(array)) = file.node(entry("data")?) else {
        return Err(corrupt("its data is no array".into()));
    };
    let labels = file.list(entry(key)?);
    let labels = labels.ok_or_else(|| corrupt(format!("its {key} are no list")))?;
    let pixels = &file.bytes[array.data.clone()];
    let count = match array.shape[..] {
        [count, width] if width == contents.pixels() && array.dtype == "u1" => count,
        _ => 0,
    };
    if count == 0 || pixels.len() != count * contents.pixels() {
        return Err(corrupt(format!(
            "its data is an array of shape {:?} and type {:?}; expected (N, {}) of bytes",
            array.shape,
            one_line(&array.dtype),
            contents.pixels()
        )));
    }
    if labels.len() != count {
        return Err(DataError::CountMismatch {
            images_path: path.to_owned(),
            images: count,
            labels_path: path.to_owned(),
            labels: labels.len(),
        });
    }
    let label = |(index, value): (usize, &Value)| {
        match *value {
            Value::Int(label) => u8::try_from(label).ok(),
            _ => None,
        }
        .ok_or_else(|| corrupt(format!("label {index} is no number of a class")))
    };
    let labels = labels
        .iter()
        .enumerate()
        .map(label)
        .collect::<Result<_, _>>()?;
    Ok((pixels.to_vec(), labels))
}
