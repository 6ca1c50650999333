//! Every reader of files as a function of bytes, for the test beside it and for `fuzz/`. What lies around the bytes (the other files of a
//! dataset, checksums) is right, so that damage reaches the reader and not a checksum before it.

use crate::files::*;
use eqprop_cuda::config::{Config, FileSettings, Settings};
use eqprop_cuda::data::{DatasetName, Manifest, Plan};
use eqprop_cuda::network::{ActivationKind, NetworkDescription};
use eqprop_cuda::parity::Golden;
use eqprop_cuda::run::{Checkpoint, RunFolder};
use eqprop_cuda::{sweep, torch};
use image::ImageFormat;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

pub struct Reader {
    pub name: &'static str,
    /// Reads bytes, for which there is a folder; the error is the message.
    pub read: fn(&Path, &[u8]) -> Result<(), String>,
    /// What it reads without an error.
    pub corpus: fn() -> Vec<Vec<u8>>,
}

pub const READERS: &[Reader] = &[
    Reader {
        name: "idx_images",
        read: |folder, bytes| idx(folder, "train-images-idx3-ubyte", bytes),
        corpus: || vec![idx_images(3)],
    },
    Reader {
        name: "idx_labels",
        read: |folder, bytes| idx(folder, "train-labels-idx1-ubyte", bytes),
        corpus: || vec![idx_labels(3)],
    },
    Reader {
        name: "gzip",
        read: |folder, bytes| idx(folder, "train-images-idx3-ubyte.gz", bytes),
        corpus: || vec![gzip(&idx_images(3))],
    },
    Reader {
        name: "tar",
        read: cifar,
        corpus: || vec![archive()],
    },
    Reader {
        name: "mat",
        read: |folder, bytes| mat(folder, bytes),
        corpus: || vec![mat_file(false), mat_file(true)],
    },
    Reader {
        name: "python_batch",
        read: python_batch,
        corpus: || vec![batch(2)],
    },
    Reader {
        name: "npy_images",
        read: |folder, bytes| arrays(folder, "train_images.npy", bytes),
        corpus: || vec![npy("|u1", "(2, 4, 5)", &[7; 40])],
    },
    Reader {
        name: "npy_labels",
        read: |folder, bytes| arrays(folder, "train_labels.npy", bytes),
        corpus: || vec![npy("|u1", "(2,)", &[0, 1]), npy("<i8", "(2,)", &LABELS)],
    },
    Reader {
        name: "image",
        read: image,
        corpus: || vec![encoded(ImageFormat::Png), encoded(ImageFormat::Jpeg)],
    },
    Reader {
        name: "safetensors",
        read: checkpoint,
        corpus: || vec![older_run("last.safetensors")],
    },
    Reader {
        name: "checkpoint_state",
        read: |folder, json| checkpoint(folder, &signed(json)),
        corpus: || vec![state_of(&older_run("last.safetensors")).into_bytes()],
    },
    Reader {
        name: "golden",
        read: |_, bytes| said(Golden::parse(bytes)),
        corpus: || vec![repository("tests/golden/schedule.safetensors")],
    },
    Reader {
        name: "torch_zip",
        read: pytorch,
        corpus: || torch_files().to_vec(),
    },
    Reader {
        name: "pickle",
        read: |folder, bytes| pytorch(folder, &zipped(bytes)),
        corpus: || torch_files().iter().map(|file| pickle_of(file)).collect(),
    },
    Reader {
        name: "bare_pickle",
        read: pytorch,
        corpus: || vec![repository("tests/torch/energy.pkl")],
    },
    Reader {
        name: "settings",
        read: |_, bytes| settings(bytes),
        corpus: || vec![SETTINGS.as_bytes().to_vec()],
    },
    Reader {
        name: "sweep",
        read: sweep,
        corpus: || vec![SWEEP.as_bytes().to_vec()],
    },
    Reader {
        name: "network",
        read: |_, bytes| network(bytes),
        corpus: || vec![repository("examples/networks/branches.toml")],
    },
    Reader {
        name: "metrics",
        read: metrics,
        corpus: || vec![older_run("metrics.jsonl")],
    },
    Reader {
        name: "environment",
        read: environment,
        corpus: || vec![ENVIRONMENT.as_bytes().to_vec()],
    },
];

/// Puts the whole files of a reader into `folder`.
#[allow(dead_code, reason = "for fuzz/")]
pub fn write_corpus(reader: &Reader, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder can be made");
    for (i, bytes) in (reader.corpus)().iter().enumerate() {
        file(folder, &format!("whole-{i}"), bytes);
    }
}

fn said<T, E: Display>(result: Result<T, E>) -> Result<(), String> {
    // With its causes, as the program prints it.
    result.map(|_| ()).map_err(|error| format!("{error:#}"))
}

/// A folder's file with these bytes.
fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("a file can be written");
    path
}

fn plan(dataset: DatasetName, folder: &Path) -> Plan {
    Plan {
        manifest: Manifest::published(dataset),
        data_dir: Some(folder.to_owned()),
        cache: None,
        system: Vec::new(),
        offline: true,
        mirror: None,
        largest: 1 << 20,
        stop: || false,
    }
}

/// One file of four; the others are right.
fn idx(place: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let folder = &place.join("MNIST/raw");
    fs::create_dir_all(folder).expect("a folder can be made");
    for (name, bytes) in [
        ("train-images-idx3-ubyte", idx_images(3)),
        ("train-labels-idx1-ubyte", idx_labels(3)),
        ("t10k-images-idx3-ubyte", idx_images(2)),
        ("t10k-labels-idx1-ubyte", idx_labels(2)),
    ] {
        file(folder, name, &bytes);
    }
    if let Some(plain) = name.strip_suffix(".gz") {
        fs::remove_file(folder.join(plain)).expect("it was written");
    }
    file(folder, name, bytes);
    said(plan(DatasetName::Mnist, place).load())
}

fn cifar(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    file(folder, "cifar-100-binary.tar.gz", &gzip(bytes));
    said(plan(DatasetName::Cifar100, folder).load())
}

fn mat(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    file(folder, "train_32x32.mat", bytes);
    file(folder, "test_32x32.mat", &mat_file(false));
    said(plan(DatasetName::Svhn, folder).load())
}

fn python_batch(place: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = place.join("cifar-100-python");
    fs::create_dir_all(&folder).expect("a folder can be made");
    file(&folder, "train", bytes);
    file(&folder, "test", &batch(1));
    said(plan(DatasetName::Cifar100, place).load())
}

fn arrays(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    for split in ["train", "test"] {
        let images = npy("|u1", "(2, 4, 5)", &[7; 40]);
        file(folder, &format!("{split}_images.npy"), &images);
        let labels = npy("|u1", "(2,)", &[0, 1]);
        file(folder, &format!("{split}_labels.npy"), &labels);
    }
    file(folder, name, bytes);
    said(plan(DatasetName::Folder, folder).load())
}

/// The only image of its class.
fn image(place: &Path, bytes: &[u8]) -> Result<(), String> {
    for class in ["train/a", "train/b", "test/a"] {
        let folder = place.join(class);
        fs::create_dir_all(&folder).expect("a folder can be made");
        file(&folder, "1.png", &encoded(ImageFormat::Png));
    }
    file(&place.join("train/a"), "1.png", bytes);
    said(plan(DatasetName::Folder, place).load())
}

fn checkpoint(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    said(Checkpoint::load(&file(folder, "last.safetensors", bytes)))
}

fn pytorch(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    said(torch::read(&file(folder, "model.pt", bytes)))
}

fn settings(bytes: &[u8]) -> Result<(), String> {
    let file = FileSettings::parse(&String::from_utf8_lossy(bytes))?;
    said(Config::resolve(None, Some(file), &Settings::default()))
}

/// The file, and what its first runs would be.
fn sweep(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let plan = sweep::Plan::read(&file(folder, "sweep.toml", bytes));
    let plan = plan.map_err(|error| format!("{error:#}"))?;
    plan.points
        .iter()
        .take(100)
        .try_for_each(|point| said(point.config()))
}

fn network(bytes: &[u8]) -> Result<(), String> {
    let description = NetworkDescription::from_toml(&String::from_utf8_lossy(bytes));
    let description = description.map_err(|error| error.to_string())?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    said(description.build(ActivationKind::Relu6, &mut rng))
}

fn metrics(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    file(folder, "metrics.jsonl", bytes);
    said(RunFolder::records(folder))
}

fn environment(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    file(folder, "environment.json", bytes);
    RunFolder::environment(folder).map_or(Err("no environment".into()), |_| Ok(()))
}
