//! Golden files as values that a test can change.
use eqprop_cuda::device::{Device, Precision};
use eqprop_cuda::parity::{self, Golden, Report, Tolerances};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap()
}

/// All golden files, sorted.
pub fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    files
}

/// Replays bytes on the CPU backend.
pub fn replay(bytes: &[u8], precision: Precision) -> eqprop_cuda::Result<Report> {
    let golden = Golden::parse(bytes)?;
    parity::replay(&golden, Device::Cpu, precision, &Tolerances::of(precision))
}

/// A safetensors file taken apart.
#[derive(Clone)]
pub struct File {
    pub tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    pub metadata: HashMap<String, String>,
}

impl File {
    pub fn read(name: &str) -> Self {
        let bytes = bytes_of(name);
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.tensors().into_iter();
        Self {
            tensors: tensors
                .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
                .collect(),
            metadata: header.metadata().clone().unwrap(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        safetensors::serialize(views, Some(self.metadata.clone())).unwrap()
    }

    /// Changes the last value of a tensor: a float by `relative` of the tensor's largest value, an integer by 1.
    pub fn perturb(&mut self, name: &str, relative: f64) {
        let (dtype, _, data) = self
            .tensors
            .get_mut(name)
            .unwrap_or_else(|| panic!("no {name}"));
        match dtype {
            Dtype::F64 => {
                let (values, []) = data.as_chunks_mut::<8>() else {
                    panic!("half a number")
                };
                let size = |m: f64, v: &[u8; 8]| m.max(f64::from_le_bytes(*v).abs());
                let largest = values.iter().fold(0.0, size);
                let last = values.last_mut().unwrap();
                *last = (f64::from_le_bytes(*last) + relative * largest).to_le_bytes();
            }
            Dtype::F32 => {
                let (values, []) = data.as_chunks_mut::<4>() else {
                    panic!("half a number")
                };
                let size = |m: f32, v: &[u8; 4]| m.max(f32::from_le_bytes(*v).abs());
                let largest = values.iter().fold(0.0, size);
                let last = values.last_mut().unwrap();
                *last = (f32::from_le_bytes(*last) + relative as f32 * largest).to_le_bytes();
            }
            Dtype::I64 => {
                let at = data.len() - 8;
                data[at] ^= 1;
            }
            Dtype::U8 => *data.last_mut().unwrap() ^= 1,
            other => panic!("{other:?}"),
        }
    }
}
