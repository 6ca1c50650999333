//! The idx format of the MNIST family: a magic number, the extents of each dimension (big-endian), then the bytes.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use super::Contents;
use super::read::{broken, decompress, open, read_up_to};
use crate::data::{DataError, Dataset};

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;
/// More examples than any dataset of the family has (EMNIST: 814,255): a header that claims more is damaged, and nothing is
/// read after it.
const MOST_EXAMPLES: u32 = 1_000_000;
/// More pixels a side than a network here takes.
const LARGEST_SIDE: u32 = 1024;

/// The idx file `name` in `folder`, compressed or not.
pub(crate) fn file(folder: &Path, name: &str) -> Option<PathBuf> {
    [name, name.trim_end_matches(".gz")]
        .map(|n| folder.join(n))
        .into_iter()
        .find(|p| p.is_file())
}

/// Height and width of the images in a file, from its header.
pub(crate) fn images_size(path: &Path) -> Result<(usize, usize), DataError> {
    let source = &mut *open(path)?;
    expect(word(source, path)?, IMAGES, path)?;
    word(source, path)?;
    let (height, width) = (word(source, path)?, word(source, path)?);
    let fits = |side| (1..=LARGEST_SIDE).contains(&side);
    match fits(height) && fits(width) {
        true => Ok((height as usize, width as usize)),
        false => Err(DataError::corrupt(
            path,
            format!(
                "its header claims images of {height} x {width} pixels, more than {LARGEST_SIDE} a side or none"
            ),
        )),
    }
}

/// The labels in a file.
pub(crate) fn read_labels(path: &Path) -> Result<Vec<u8>, DataError> {
    let source = &mut *open(path)?;
    expect(word(source, path)?, LABELS, path)?;
    let count = checked_count(word(source, path)?, path)?;
    body(source, count.into(), path)
}

/// Reads an images file and the labels file that belongs to it.
pub(crate) fn read_pair(
    contents: &Contents,
    images_path: &Path,
    labels_path: &Path,
) -> Result<Dataset, DataError> {
    parse_pair(
        contents,
        (images_path, &mut *open(images_path)?),
        (labels_path, &mut *open(labels_path)?),
    )
}

/// The same of files in memory, compressed or not; the names are for messages.
pub(crate) fn read_embedded(
    contents: &Contents,
    images: &(&str, &'static [u8]),
    labels: &(&str, &'static [u8]),
) -> Result<Dataset, DataError> {
    let [(images_path, mut images), (labels_path, mut labels)] =
        [unpacked(images)?, unpacked(labels)?];
    parse_pair(
        contents,
        (images_path, &mut *images),
        (labels_path, &mut *labels),
    )
}

fn unpacked<'a>(file: &(&'a str, &'static [u8])) -> Result<(&'a Path, Box<dyn Read>), DataError> {
    let path = Path::new(file.0);
    Ok((path, decompress(Box::new(Cursor::new(file.1)), path)?))
}

/// [`read_pair`] on decompressed content; the paths are for messages.
pub(crate) fn parse_pair(
    contents: &Contents,
    (images_path, images): (&Path, &mut dyn Read),
    (labels_path, labels): (&Path, &mut dyn Read),
) -> Result<Dataset, DataError> {
    let count = header(labels, LABELS, contents, labels_path)?;
    let labels = body(labels, count.into(), labels_path)?;
    let images_count = header(images, IMAGES, contents, images_path)?;
    if images_count != count {
        return Err(DataError::CountMismatch {
            images_path: images_path.to_owned(),
            images: images_count as usize,
            labels_path: labels_path.to_owned(),
            labels: labels.len(),
        });
    }
    let size = u64::from(count) * contents.pixels() as u64;
    let pixels = body(images, size, images_path)?;
    contents.check_labels(labels_path, &labels)?;
    Ok(contents.dataset(pixels, labels))
}

fn describe(magic: u32) -> String {
    match magic {
        IMAGES => "an idx images file".into(),
        LABELS => "an idx labels file".into(),
        other => format!("a file with magic number {other:#010x}"),
    }
}

/// Reads the header, whose kind and extents are checked, and returns the number of examples that it announces.
fn header(
    source: &mut dyn Read,
    magic: u32,
    contents: &Contents,
    path: &Path,
) -> Result<u32, DataError> {
    expect(word(source, path)?, magic, path)?;
    let count = word(source, path)?;
    if magic == IMAGES {
        let (height, width) = (word(source, path)?, word(source, path)?);
        let expected = (contents.height as u32, contents.width as u32);
        if (height, width) != expected {
            return Err(DataError::mislabelled(
                path,
                format!("images of {} x {} pixels", expected.0, expected.1),
                format!("{height} x {width}"),
            ));
        }
    }
    checked_count(count, path)
}

/// The number of a file's kind must be `magic`.
fn expect(found: u32, magic: u32, path: &Path) -> Result<(), DataError> {
    match found == magic {
        true => Ok(()),
        false => Err(DataError::mislabelled(
            path,
            describe(magic),
            describe(found),
        )),
    }
}

fn checked_count(count: u32, path: &Path) -> Result<u32, DataError> {
    match count {
        0 => Err(DataError::corrupt(path, "it holds no examples")),
        1..=MOST_EXAMPLES => Ok(count),
        _ => Err(DataError::corrupt(
            path,
            format!("its header claims {count} examples, more than {MOST_EXAMPLES}"),
        )),
    }
}

/// The `size` bytes after the header, and no others.
fn body(source: &mut dyn Read, size: u64, path: &Path) -> Result<Vec<u8>, DataError> {
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
