//! What a run was begun with, for whoever wants to repeat it.

use crate::data::{Dataset, Splits};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The contents of `environment.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// of this program
    pub version: String,
    /// program and arguments
    pub command: Vec<String>,
    /// name of the machine
    pub host: String,
    /// processor, and threads that it offers
    pub cpu: String,
    /// that the run uses
    pub threads: usize,
    /// the backend's description, which names a GPU
    pub device: String,
    /// MD5 of all images (8 bits, 32 x 32) followed by all labels, as they are used
    pub training_images: String,
    /// the same of the test images
    pub test_images: String,
}

impl Environment {
    /// Of this process, now.
    pub fn now(device: String, data: &Splits) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args_os()
                .map(|a| a.to_string_lossy().into_owned())
                .collect(),
            host: first_line("/proc/sys/kernel/hostname").unwrap_or_default(),
            cpu: cpu().unwrap_or_else(|| std::env::consts::ARCH.into()),
            threads: std::thread::available_parallelism().map_or(0, usize::from),
            device,
            training_images: checksum(&data.train),
            test_images: checksum(&data.test),
        }
    }
}

fn first_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_string())
}

/// The first processor's name.
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn checksum(data: &Dataset) -> String {
    let digest = Md5::new()
        .chain_update(&data.images)
        .chain_update(&data.labels);
    digest
        .finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
