//! The numbers of tensors, in the parts of an archive or within a pickle.

use super::format::Format;
use crate::pickle::malformed::{Context, Result, malformed};
use crate::pickle::{Node, Pickle, Tensor};
use crate::shown::shown;
use ndarray::{ArrayD, IxDyn};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use zip::ZipArchive;

/// Where the numbers of a file's tensors are.
pub(super) struct Storages {
    /// the archive, and the folder of everything in it: the name under which it was saved
    archive: Option<(ZipArchive<File>, String)>,
    /// bytes of the storages, read when they are needed
    read: HashMap<String, Vec<u8>>,
    /// bytes that the tensors may have in all: tensors that share storages must not add up to more than the file is worth
    left: u64,
    /// bytes that may still be read: parts of the archive that share one block must not either
    unread: u64,
}

impl Storages {
    /// Those of an archive in a file of `size` bytes.
    ///
    /// # Errors
    /// When it is none of `torch.save`.
    pub(super) fn of(archive: ZipArchive<File>, size: u64) -> Result<Self> {
        let root = (archive.file_names())
            .find_map(|name| Some(name.ok()?.strip_suffix("/data.pkl")?.to_string()));
        let root =
            root.context("it is a zip archive, but not one of torch.save: data.pkl is missing")?;
        Ok(Self {
            archive: Some((archive, root)),
            ..Self::none(size)
        })
    }

    /// None but those within the pickle, which is a file of `size` bytes.
    pub(super) fn none(size: u64) -> Self {
        Self {
            archive: None,
            read: HashMap::new(),
            left: size,
            unread: size,
        }
    }

    /// The pickle of the archive.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>> {
        if self.part("byteorder").is_ok_and(|order| order != b"little") {
            malformed!("its numbers are big-endian");
        }
        self.part("data.pkl")
    }

    fn part(&mut self, name: &str) -> Result<Vec<u8>> {
        let Some((archive, root)) = &mut self.archive else {
            malformed!("it is no archive, and has no part {}", shown(name));
        };
        let name = format!("{root}/{name}");
        let file = (archive.by_name(&name))
            .with_context(|| format!("its part {} cannot be read", shown(&name)))?;
        let mut bytes = Vec::new();
        // A checksum is compared at a part's end: one byte more than allowed is enough to see that it is too long.
        (file
            .take(self.unread.saturating_add(1))
            .read_to_end(&mut bytes))
        .with_context(|| format!("its part {} is damaged", shown(&name)))?;
        let left = self.unread.checked_sub(bytes.len() as u64);
        self.unread = left.context("its parts overlap: together they are larger than the file")?;
        Ok(bytes)
    }

    /// The numbers of a tensor.
    ///
    /// # Errors
    /// When they are not there, or of another type.
    pub(super) fn tensor(&mut self, pickle: &Pickle, tensor: &Tensor) -> Result<ArrayD<f64>> {
        let Some(Node::Storage(storage)) = pickle.nodes.get(tensor.storage) else {
            malformed!("a tensor without a storage");
        };
        let format = Format::of(&storage.kind)?;
        if storage.inline.is_none() && !self.read.contains_key(&storage.key) {
            let bytes = self.part(&format!("data/{}", storage.key))?;
            self.read.insert(storage.key.clone(), bytes);
        }
        let bytes = match &storage.inline {
            Some(range) => &pickle.bytes[range.clone()],
            None => &self.read[&storage.key],
        };
        let available = bytes.len() / format.bytes();
        if available < storage.elements {
            malformed!(
                "a storage has {available} numbers instead of {}",
                storage.elements
            );
        }
        let Tensor {
            offset,
            shape,
            strides,
            ..
        } = tensor;
        if shape.len() != strides.len() {
            malformed!("a tensor of unknown form");
        }
        // The last element is the one farthest into the storage.
        let last = (shape.iter().zip(strides)).try_fold(*offset, |at, (&size, &stride)| {
            at.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        });
        let count = (shape.iter()).try_fold(1usize, |n, &size| n.checked_mul(size));
        let count = count.filter(|&n| n <= available && last.is_some_and(|last| last < available));
        let count = count.with_context(|| {
            format!("a tensor of shape {shape:?} lies beyond its {available} stored numbers")
        })?;
        if count == 0 {
            malformed!("a tensor of shape {shape:?} is empty");
        }
        let left = self.left.checked_sub((count * format.bytes()) as u64);
        self.left = left.context("its tensors are larger than the file")?;
        Ok(ArrayD::from_shape_fn(IxDyn(shape), |index| {
            let at: usize = (0..shape.len())
                .map(|axis| index[axis] * strides[axis])
                .sum();
            format.decode(&bytes[(offset + at) * format.bytes()..])
        }))
    }
}
