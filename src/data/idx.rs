//! The idx format of the MNIST family: a magic number, the extents of each dimension (big-endian), then the bytes.

use std::io::Read;
use std::path::Path;

use super::read::{broken, open, read_up_to};
use super::{DataError, Dataset, DatasetName};

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;
const SIDE: u32 = 28;

/// Reads an images file and the labels file that belongs to it.
pub(super) fn read_pair(
    name: DatasetName,
    images_path: &Path,
    labels_path: &Path,
) -> Result<Dataset, DataError> {
    parse_pair(
        name,
        (images_path, &mut *open(images_path)?),
        (labels_path, &mut *open(labels_path)?),
    )
}

/// [`read_pair`] on decompressed content; the paths are for messages.
pub(super) fn parse_pair(
    name: DatasetName,
    (images_path, images): (&Path, &mut dyn Read),
    (labels_path, labels): (&Path, &mut dyn Read),
) -> Result<Dataset, DataError> {
    let pixels = parse(images, IMAGES, images_path)?;
    let labels = parse(labels, LABELS, labels_path)?;
    let images = pixels.len() / (SIDE * SIDE) as usize;
    if images != labels.len() {
        return Err(DataError::CountMismatch {
            images_path: images_path.to_owned(),
            images,
            labels_path: labels_path.to_owned(),
            labels: labels.len(),
        });
    }
    if let Some(index) = labels
        .iter()
        .position(|&l| usize::from(l) >= name.classes())
    {
        return Err(DataError::Label {
            path: labels_path.to_owned(),
            dataset: name,
            index,
            label: labels[index],
        });
    }
    Ok(Dataset::from_28(name, &pixels, labels))
}

fn describe(magic: u32) -> String {
    match magic {
        IMAGES => "an idx images file".into(),
        LABELS => "an idx labels file".into(),
        other => format!("a file with magic number {other:#010x}"),
    }
}

/// The bytes after the header, whose kind and extents are checked.
fn parse(source: &mut dyn Read, magic: u32, path: &Path) -> Result<Vec<u8>, DataError> {
    let found = word(source, path)?;
    if found != magic {
        return Err(DataError::mislabelled(
            path,
            describe(magic),
            describe(found),
        ));
    }
    let count = word(source, path)?;
    let mut size = u64::from(count);
    if magic == IMAGES {
        let (height, width) = (word(source, path)?, word(source, path)?);
        if (height, width) != (SIDE, SIDE) {
            return Err(DataError::mislabelled(
                path,
                format!("images of {SIDE} x {SIDE} pixels"),
                format!("{height} x {width}"),
            ));
        }
        size *= u64::from(SIDE * SIDE);
    }
    if count == 0 {
        return Err(DataError::corrupt(path, "it holds no examples"));
    }
    let (data, more) = read_up_to(source, size, path)?;
    if (data.len() as u64) < size {
        return Err(DataError::truncated(
            path,
            format!("{size} bytes after the header"),
            data.len().to_string(),
        ));
    }
    if more {
        return Err(DataError::corrupt(
            path,
            format!("it goes on after the {size} bytes that its header announces"),
        ));
    }
    Ok(data)
}

fn word(source: &mut dyn Read, path: &Path) -> Result<u32, DataError> {
    let mut bytes = Vec::new();
    source
        .take(4)
        .read_to_end(&mut bytes)
        .map_err(|e| broken(path, e))?;
    let bytes: [u8; 4] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| DataError::truncated(path, "an idx header", "an early end of the file"))?;
    Ok(u32::from_be_bytes(bytes))
}
