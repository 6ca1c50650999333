//! Files that `torch.save` wrote: a zip archive with a pickle (`data.pkl`) and one file per storage (`data/0` ..).
//!
//! Reads lists of tensors, such as the published program's `model.pt`, and dictionaries of them, such as a module's state.

mod pickle;

use crate::shown::shown;
use anyhow::{Context, Result, anyhow, bail, ensure};
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use pickle::{Tensor, Value};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use zip::ZipArchive;

/// The tensors of a file, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensors {
    /// a list, without names
    List(Vec<ArrayD<f64>>),
    /// a `state_dict`, by name
    Named(Vec<(String, ArrayD<f64>)>),
}

/// How a zip archive starts.
const ZIP: &[u8] = b"PK\x03\x04";

/// Reads the file at `path`; the error names it.
///
/// # Errors
/// When it cannot be read, or holds what is not tensors.
pub fn read(path: &Path) -> Result<Tensors> {
    let mut file = File::open(path).map_err(|e| anyhow!("cannot read {}: {e}", path.display()))?;
    let read = || {
        let size = file.metadata().context("its size cannot be found")?.len();
        let mut start = Vec::new();
        (&mut file).take(ZIP.len() as u64).read_to_end(&mut start)?;
        ensure!(
            start == ZIP,
            "it is not an archive that torch.save writes since PyTorch 1.6; load an older file with PyTorch and save it again"
        );
        let archive = ZipArchive::new(file)
            .context("its archive is damaged or was cut off; copy it again")?;
        Archive::new(archive, size)?.tensors()
    };
    read().with_context(|| format!("{} cannot be used", path.display()))
}

struct Archive {
    archive: ZipArchive<File>,
    /// folder of everything in it: the name under which it was saved
    root: String,
    /// bytes of the storages, read when they are needed
    storages: HashMap<Rc<str>, Vec<u8>>,
    /// bytes that the tensors may have in all: tensors that share storages must not add up to more than the file is worth
    left: u64,
    /// bytes that may still be read: parts of the archive that share one block must not either
    unread: u64,
}

impl Archive {
    fn new(archive: ZipArchive<File>, size: u64) -> Result<Self> {
        let root = (archive.file_names())
            .find_map(|name| Some(name.ok()?.strip_suffix("/data.pkl")?.to_string()));
        Ok(Self {
            root: root
                .context("it is a zip archive, but not one of torch.save: data.pkl is missing")?,
            archive,
            storages: HashMap::new(),
            left: size,
            unread: size,
        })
    }

    fn file(&mut self, name: &str) -> Result<Vec<u8>> {
        let name = format!("{}/{name}", self.root);
        let file = (self.archive.by_name(&name))
            .with_context(|| format!("its part {name} cannot be read"))?;
        let mut bytes = Vec::new();
        // A checksum is compared at a part's end: one byte more than allowed is enough to see that it is too long.
        (file
            .take(self.unread.saturating_add(1))
            .read_to_end(&mut bytes))
        .with_context(|| format!("its part {name} is damaged"))?;
        let left = self.unread.checked_sub(bytes.len() as u64);
        self.unread = left.context("its parts overlap: together they are larger than the file")?;
        Ok(bytes)
    }

    fn tensors(mut self) -> Result<Tensors> {
        if let Ok(order) = self.file("byteorder") {
            ensure!(order == b"little", "its numbers are big-endian");
        }
        let pickle = self.file("data.pkl")?;
        match pickle::read(&pickle)? {
            Value::List(list) => {
                let tensors = list.borrow();
                let tensors = tensors.iter().enumerate().map(|(i, value)| match value {
                    Value::Tensor(tensor) => self.tensor(tensor),
                    _ => bail!("item {i} of its list is not a tensor"),
                });
                Ok(Tensors::List(tensors.collect::<Result<_>>()?))
            }
            Value::Dict(dict) => {
                let entries = dict.borrow();
                let tensors = entries.iter().map(|entry| match entry {
                    (Value::Text(name), Value::Tensor(tensor)) => {
                        Ok((name.to_string(), self.tensor(tensor)?))
                    }
                    _ => bail!("it is a dictionary, but not of named tensors"),
                });
                Ok(Tensors::Named(tensors.collect::<Result<_>>()?))
            }
            _ => bail!("it holds neither a list of tensors nor a dictionary of them"),
        }
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<ArrayD<f64>> {
        let storage = &tensor.storage;
        let format = Format::of(&storage.kind)?;
        if !self.storages.contains_key(&storage.key) {
            let bytes = self.file(&format!("data/{}", storage.key))?;
            self.storages.insert(storage.key.clone(), bytes);
        }
        let bytes = &self.storages[&storage.key];
        let available = bytes.len() / format.bytes();
        ensure!(
            available >= storage.elements,
            "a storage has {available} numbers instead of {}",
            storage.elements
        );
        let Tensor {
            offset,
            shape,
            strides,
            ..
        } = tensor;
        ensure!(shape.len() == strides.len(), "a tensor of unknown form");
        // The last element is the one farthest into the storage.
        let last = (shape.iter().zip(strides)).try_fold(*offset, |at, (&size, &stride)| {
            at.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        });
        let count = (shape.iter()).try_fold(1usize, |n, &size| n.checked_mul(size));
        let count = count.filter(|&n| n <= available && last.is_some_and(|last| last < available));
        let count = count.with_context(|| {
            format!("a tensor of shape {shape:?} lies beyond its {available} stored numbers")
        })?;
        ensure!(count > 0, "a tensor of shape {shape:?} is empty");
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

/// Format of a storage's numbers.
#[derive(Clone, Copy)]
enum Format {
    F64,
    F32,
    F16,
    Bf16,
    I64,
}

impl Format {
    fn of(kind: &str) -> Result<Self> {
        match kind {
            "torch.DoubleStorage" => Ok(Self::F64),
            "torch.FloatStorage" => Ok(Self::F32),
            "torch.HalfStorage" => Ok(Self::F16),
            "torch.BFloat16Storage" => Ok(Self::Bf16),
            "torch.LongStorage" => Ok(Self::I64),
            _ => bail!(
                "its numbers are a {}; float tensors were expected",
                shown(kind)
            ),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The number at the start of `bytes`.
    fn decode(self, bytes: &[u8]) -> f64 {
        fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes[..N]
                .try_into()
                .expect("the number is inside of the storage")
        }
        match self {
            Self::F64 => f64::from_le_bytes(first(bytes)),
            Self::F32 => f32::from_le_bytes(first(bytes)).into(),
            Self::F16 => f16::from_le_bytes(first(bytes)).into(),
            Self::Bf16 => bf16::from_le_bytes(first(bytes)).into(),
            Self::I64 => i64::from_le_bytes(first(bytes)) as f64,
        }
    }
}
