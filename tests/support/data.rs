//! Small synthetic datasets in the real formats, for the tests of the data module.
use std::fs;
use std::io::Write;
use std::path::Path;

use eqprop_cuda::data::{DataError, DatasetName, Manifest, Plan, Splits};
use flate2::Compression;
use flate2::write::GzEncoder;

pub const TRAIN_IMAGES: &str = "train-images-idx3-ubyte.gz";
pub const TRAIN_LABELS: &str = "train-labels-idx1-ubyte.gz";
pub const TEST_IMAGES: &str = "t10k-images-idx3-ubyte.gz";
pub const TEST_LABELS: &str = "t10k-labels-idx1-ubyte.gz";
pub const CIFAR10_ARCHIVE: &str = "cifar-10-binary.tar.gz";
pub const CIFAR100_ARCHIVE: &str = "cifar-100-binary.tar.gz";

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

/// An idx images file of `n` images; pixel p of image i is (i + p) mod 256.
pub fn idx_images(n: usize) -> Vec<u8> {
    let mut data = words(&[0x803, n as u32, 28, 28]);
    for i in 0..n {
        data.extend((0..28 * 28).map(|p| (i + p) as u8));
    }
    data
}

/// An idx labels file of `n` labels: i mod 10.
pub fn idx_labels(n: usize) -> Vec<u8> {
    let mut data = words(&[0x801, n as u32]);
    data.extend((0..n).map(|i| (i % 10) as u8));
    data
}

/// The four files of a Fashion-MNIST of 7 + 3 images, compressed.
pub fn fashion_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (TRAIN_IMAGES, gzip(&idx_images(7))),
        (TRAIN_LABELS, gzip(&idx_labels(7))),
        (TEST_IMAGES, gzip(&idx_images(3))),
        (TEST_LABELS, gzip(&idx_labels(3))),
    ]
}

pub fn write_files(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, data) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
}

/// One CIFAR record: the label bytes, then planes filled with `fill`, `fill + 1`, `fill + 2`.
pub fn record(labels: &[u8], fill: u8) -> Vec<u8> {
    let mut record = labels.to_vec();
    for plane in 0..3 {
        record.extend([fill + plane; 1024]);
    }
    record
}

/// The members of a CIFAR-10 archive with two examples per training file and one test example.
pub fn cifar10_members() -> Vec<(String, Vec<u8>)> {
    let folder = "cifar-10-batches-bin";
    let mut members: Vec<_> = (1..=5u8)
        .map(|b| {
            let data = [record(&[b], 10 * b), record(&[b - 1], 10 * b + 5)].concat();
            (format!("{folder}/data_batch_{b}.bin"), data)
        })
        .collect();
    members.push((format!("{folder}/batches.meta.txt"), b"airplane\n".to_vec()));
    members.push((format!("{folder}/test_batch.bin"), record(&[9], 200)));
    members
}

/// The members of a CIFAR-100 archive with three training examples and one test example: coarse, then fine label.
pub fn cifar100_members() -> Vec<(String, Vec<u8>)> {
    let train = [
        record(&[3, 42], 0),
        record(&[19, 99], 50),
        record(&[0, 0], 9),
    ]
    .concat();
    vec![
        ("cifar-100-binary/train.bin".into(), train),
        ("cifar-100-binary/test.bin".into(), record(&[1, 7], 1)),
    ]
}

pub fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, data.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// A plan that looks in `folder` alone and never downloads.
pub fn only(name: DatasetName, folder: &Path) -> Plan {
    Plan {
        manifest: Manifest::published(name),
        data_dir: Some(folder.to_owned()),
        cache: None,
        system: Vec::new(),
        offline: true,
        mirror: None,
        largest: 1 << 20,
        stop: || false,
    }
}

/// The error's message, which must be one line that contains all of `parts`.
pub fn message(result: Result<Splits, DataError>, parts: &[&str]) -> String {
    let message = result.expect_err("an error").to_string();
    assert!(!message.contains('\n'), "not one line: {message}");
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    message
}
