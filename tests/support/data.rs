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

/// A pickle of Python 2 as the CIFAR files for Python are: `key` has labels, `data` an array of bytes.
pub fn python_batch(key: &str, labels: &[u8], images: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[b'U', text.len() as u8], text.as_bytes()].concat();
    let word = |n: usize| (n as u32).to_le_bytes();
    let mut out = b"\x80\x02}q\x01(".to_vec();
    out.extend(text("batch_label"));
    out.extend(text("training batch 1 of 5"));
    out.extend(text(key));
    out.extend(b"]q\x05(");
    out.extend(labels.iter().flat_map(|&label| [b'K', label]));
    out.push(b'e');
    out.extend(text("data"));
    out.extend(b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01");
    out.push(b'J');
    out.extend(word(labels.len()));
    out.push(b'J');
    out.extend(word(images.len() / labels.len()));
    out.extend(b"\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend(word(images.len()));
    out.extend(images);
    out.extend(b"tb");
    out.extend(text("filenames"));
    out.extend(b"](U\x05a.pngeu.");
    out
}

/// An element of a MATLAB file: a tag, data, padding.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out = [kind, data.len() as u32].map(u32::to_le_bytes).concat();
    out.extend(data);
    if kind != 15 {
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn matrix(class: u32, dimensions: &[u32], name: &str, numbers: Vec<u8>) -> Vec<u8> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut small = [1 | (name.len() as u32) << 16]
        .map(u32::to_le_bytes)
        .concat();
    small.extend(name.as_bytes());
    small.resize(8, 0);
    let parts = [
        element(6, &words(&[class, 0])),
        element(5, &words(dimensions)),
        small,
        numbers,
    ];
    element(14, &parts.concat())
}

/// A file of SVHN, compressed as MATLAB does it or not: `images` are (3, 32, 32) bytes each, and the digit 0 is written as 10.
pub fn svhn(images: &[Vec<u8>], labels: &[u8], compressed: bool) -> Vec<u8> {
    // Rows are the fastest axis of the file, then columns.
    let transposed = |image: &Vec<u8>| -> Vec<u8> {
        let pixel = |p: usize| image[p / 1024 * 1024 + p % 32 * 32 + p / 32 % 32];
        (0..3072).map(pixel).collect()
    };
    let pixels: Vec<u8> = images.iter().flat_map(transposed).collect();
    let digits = labels.iter().map(|&l| if l == 0 { 10 } else { l });
    let digits: Vec<u8> = digits.flat_map(|l| f64::from(l).to_le_bytes()).collect();
    let count = images.len() as u32;
    let mut out = vec![b' '; 124];
    out.extend([0x00, 0x01, b'I', b'M']);
    for variable in [
        matrix(9, &[32, 32, 3, count], "X", element(2, &pixels)),
        matrix(6, &[labels.len() as u32, 1], "y", element(9, &digits)),
    ] {
        match compressed {
            false => out.extend(variable),
            true => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&variable).unwrap();
                out.extend(element(15, &encoder.finish().unwrap()));
            }
        }
    }
    out
}

/// An array as `numpy.save` writes it.
pub fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}
