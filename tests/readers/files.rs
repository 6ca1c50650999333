//! Whole files of every kind, of which the readers read one and the tests damage one.

use image::{ImageFormat, RgbImage};
use md5::{Digest, Md5};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub const SETTINGS: &str = r#"
# as a user writes it
preset = "fast-cifar10"
dataset = "CIFAR100"
offline = true
batch-size = 64
channels = [8, 8, 16, 16]
activation = "reluclip"
learning-rates-weights = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
omega = 1.5
tolerance = 1e-3
tolerance-nudged = "off"
"#;
pub const SWEEP: &str = r#"
preset = "quickstart"
epochs = 4
draws = 3
draw-seed = 7
[grid]
lossfn = ["MSE", "CE"]
seed = [0, 1]
[random]
learning-rate = { from = 1e-4, to = 1e-2, scale = "log" }
batch-size = { from = 10, to = 50 }
[case.published]
mode = "asynchronous"
omega = 1.0
[case.fast]
"#;
pub const ENVIRONMENT: &str = r#"{"version":"0.1.0","command":["eqprop-cuda","train"],"host":"here",
"cpu":"a CPU","threads":2,"device":"cpu","training_images":"0","test_images":"0"}"#;
/// A file of the repository, of which the crate of `fuzz/` is a folder.
pub fn repository(path: &str) -> Vec<u8> {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = folders
        .map(|folder| folder.join(path))
        .find(|path| path.exists());
    fs::read(found.expect(path)).expect("it can be read")
}
pub fn older_run(name: &str) -> Vec<u8> {
    repository(&format!("tests/track/older_run/{name}"))
}
pub fn torch_files() -> [Vec<u8>; 5] {
    ["float32", "state_dict", "strides", "energy", "module"]
        .map(|name| repository(&format!("tests/torch/{name}.pt")))
}
pub fn idx_images(count: u32) -> Vec<u8> {
    let mut data: Vec<u8> = [0x803, count, 28, 28].map(u32::to_be_bytes).concat();
    data.extend((0..28 * 28 * count).map(|p| p as u8));
    data
}
pub fn idx_labels(count: u32) -> Vec<u8> {
    let mut data: Vec<u8> = [0x801, count].map(u32::to_be_bytes).concat();
    data.extend((0..count).map(|label| label as u8));
    data
}
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
/// CIFAR-100 of two training images and a test image.
pub fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, images) in [("train", 2), ("test", 1)] {
        let data = [3u8; 2 + 3072].repeat(images);
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        let path = format!("cifar-100-binary/{name}.bin");
        (builder.append_data(&mut header, path, &data[..])).expect("memory takes it");
    }
    builder.into_inner().expect("memory takes it")
}
/// SVHN of two training images, of which MATLAB wrote the file, compressed or not.
pub fn mat_file(compressed: bool) -> Vec<u8> {
    let element = |kind: u32, data: &[u8]| {
        let mut out = [kind, data.len() as u32].map(u32::to_le_bytes).concat();
        out.extend(data);
        out
    };
    let matrix = |class: u32, dimensions: &[u32], name: u8, numbers: Vec<u8>| {
        let dimensions: Vec<u8> = dimensions.iter().flat_map(|w| w.to_le_bytes()).collect();
        let flags = [class, 0].map(u32::to_le_bytes).concat();
        let parts = [
            element(6, &flags),
            element(5, &dimensions),
            vec![1, 0, 1, 0, name, 0, 0, 0],
            numbers,
        ];
        element(14, &parts.concat())
    };
    let mut out = vec![b' '; 124];
    out.extend([0x00, 0x01, b'I', b'M']);
    for variable in [
        matrix(9, &[32, 32, 3, 2], b'X', element(2, &[9; 2 * 3072])),
        matrix(9, &[2, 1], b'y', vec![2, 0, 2, 0, 10, 1, 0, 0]),
    ] {
        match compressed {
            false => out.extend(variable),
            true => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(&variable).expect("memory takes it");
                out.extend(element(15, &encoder.finish().expect("memory takes it")));
            }
        }
    }
    out
}
/// CIFAR-100 for Python of `count` images.
pub fn batch(count: u8) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x01(U\x0bfine_labels]q\x05(".to_vec();
    out.extend((0..count).flat_map(|label| [b'K', label]));
    out.extend(b"eU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01");
    out.extend([b'K', count, b'M', 0, 12]);
    out.extend(b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend((u32::from(count) * 3072).to_le_bytes());
    out.extend([5; 3072].repeat(count.into()));
    out.extend(b"tbu.");
    out
}
pub const LABELS: [u8; 16] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
pub fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}
pub fn encoded(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(9, 7, |x, y| [20 * x as u8, 30 * y as u8, 9].into());
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).expect("memory takes it");
    out.into_inner()
}
pub const KEY: &str = "eqprop-cuda";
/// What a checkpoint says beside its tensors, without a checksum.
pub fn state_of(checkpoint: &[u8]) -> String {
    let (_, header) = SafeTensors::read_metadata(checkpoint).expect("it is whole");
    let json = &header.metadata().as_ref().expect("it has some")[KEY];
    let (before, rest) = json.split_once("\"checksum\":\"").expect("it has one");
    let (_, after) = rest.split_once('"').expect("it ends");
    format!("{before}\"checksum\":\"\"{after}")
}
/// The tensors of a checkpoint with another state, which comes with the right checksum if it is written as the program does.
pub fn signed(state: &[u8]) -> Vec<u8> {
    let old = older_run("last.safetensors");
    let file = SafeTensors::deserialize(&old).expect("it is whole");
    let mut tensors: Vec<_> = file.iter().collect();
    tensors.sort_by_key(|(name, _)| *name);
    let state = String::from_utf8_lossy(state);
    let mut hash = Md5::new();
    for (name, view) in &tensors {
        hash.update(format!("{name} {:?} {:?}\n", view.dtype(), view.shape()));
        hash.update(view.data());
    }
    hash.update(state.as_bytes());
    let sum: String = (hash.finalize().iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let state = state.replacen("\"checksum\":\"\"", &format!("\"checksum\":\"{sum}\""), 1);
    let metadata = HashMap::from([(KEY.to_string(), state)]);
    safetensors::serialize(tensors, Some(metadata)).expect("memory takes it")
}
pub fn pickle_of(archive: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).expect("it is whole");
    let name = (archive.file_names())
        .filter_map(|name| Some(name.ok()?.to_string()))
        .find(|name| name.ends_with("/data.pkl"))
        .expect("it has one");
    let mut bytes = Vec::new();
    let mut part = archive.by_name(&name).expect("it has one");
    std::io::copy(&mut part, &mut bytes).expect("it is whole");
    bytes
}
/// An archive with this pickle, and storages for it.
pub fn zipped(pickle: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut part = |name: &str, bytes: &[u8]| {
        (writer.start_file(name, stored)).expect("memory takes it");
        writer.write_all(bytes).expect("memory takes it");
    };
    part("model/data.pkl", pickle);
    for storage in 0..10 {
        part(&format!("model/data/{storage}"), &[0; 4096]);
    }
    writer.finish().expect("memory takes it").into_inner()
}
