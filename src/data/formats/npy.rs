//! numpy's `.npy` files of images and of labels: a magic number, a version, a header (a dictionary of Python with the type, the order
//! and the shape), then the numbers. <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::Read;
use std::path::Path;

use super::Contents;
use super::read::{broken, open, read_up_to};
use crate::data::{DataError, Dataset};
use crate::shown::shown;

const MAGIC: &[u8] = b"\x93NUMPY";
/// A header has 128 bytes, but for a shape of many axes.
const LONGEST_HEADER: usize = 4096;
/// More than a file that any memory takes has.
const MOST_EXAMPLES: usize = 1_000_000;
/// More pixels a side than a network here takes.
const LARGEST_SIDE: usize = 1024;

/// Which axis the channels are.
#[derive(Clone, Copy, PartialEq)]
enum Channels {
    First,
    Last,
}

/// What a file of images holds.
struct Images {
    count: usize,
    /// channels, height, width
    shape: (usize, usize, usize),
    channels: Channels,
}

struct Header {
    /// as numpy writes it: `|u1`
    dtype: String,
    shape: Vec<usize>,
}

/// Channels, height and width of the images in a file.
pub(crate) fn images_shape(path: &Path) -> Result<(usize, usize, usize), DataError> {
    Ok(images_header(&mut *open(path)?, path)?.shape)
}

/// Labels, each below 256.
pub(crate) fn read_labels(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut file = open(path)?;
    let header = header(&mut *file, path)?;
    let count = match header.shape[..] {
        [n] | [n, 1] if (1..=MOST_EXAMPLES).contains(&n) => n,
        _ => {
            return Err(wrong(
                path,
                &header,
                "labels: integers of shape (N,), at most a million",
            ));
        }
    };
    let (order, rest) = header.dtype.split_at_checked(1).unwrap_or_default();
    let bytes = match rest {
        "u1" | "i1" | "b1" => 1,
        "u2" | "i2" => 2,
        "u4" | "i4" => 4,
        "u8" | "i8" => 8,
        _ => return Err(wrong(path, &header, "labels: integers of shape (N,)")),
    };
    let data = body(&mut *file, count * bytes, path)?;
    let label = |(index, number): (usize, &[u8])| {
        let lowest = if order == ">" { bytes - 1 } else { 0 };
        let others = number.iter().enumerate().filter(|(i, _)| *i != lowest);
        let negative = rest == "i1" && number[0] > 127;
        match others.clone().all(|(_, &byte)| byte == 0) && !negative {
            true => Ok(number[lowest]),
            false => Err(DataError::own(
                path,
                format!("label {index} is none of 0 to 255; number the classes from 0"),
            )),
        }
    };
    data.chunks_exact(bytes).enumerate().map(label).collect()
}

/// Images and the labels that belong to them.
pub(crate) fn read_pair(
    contents: &Contents,
    images_path: &Path,
    labels_path: &Path,
) -> Result<Dataset, DataError> {
    let labels = read_labels(labels_path)?;
    contents.check_labels(labels_path, &labels)?;
    let mut file = open(images_path)?;
    let Images {
        count,
        shape,
        channels: order,
    } = images_header(&mut *file, images_path)?;
    let expected = (contents.channels, contents.height, contents.width);
    if shape != expected {
        let of = |(c, h, w): (usize, usize, usize)| format!("{c}x{h}x{w}");
        return Err(DataError::own(
            images_path,
            format!(
                "its images are {}, but the training images are {}: all need one size",
                of(shape),
                of(expected)
            ),
        ));
    }
    if count != labels.len() {
        return Err(DataError::CountMismatch {
            images_path: images_path.to_owned(),
            images: count,
            labels_path: labels_path.to_owned(),
            labels: labels.len(),
        });
    }
    let mut images = body(&mut *file, count * contents.pixels(), images_path)?;
    let channels = contents.channels;
    if order == Channels::Last && channels > 1 {
        for image in images.chunks_exact_mut(contents.pixels()) {
            let plane = |c: usize| image.iter().skip(c).step_by(channels).copied();
            let planes: Vec<u8> = (0..channels).flat_map(plane).collect();
            image.copy_from_slice(&planes);
        }
    }
    Ok(contents.dataset(images, labels))
}

/// Number of images, their channels, height and width, and which axis the channels are: the last one if that has one or three, else the
/// one after the first.
fn images_header(file: &mut dyn Read, path: &Path) -> Result<Images, DataError> {
    let header = header(file, path)?;
    let (count, shape, channels) = match header.shape[..] {
        [n, h, w] => (n, (1, h, w), Channels::Last),
        [n, h, w, c @ (1 | 3)] => (n, (c, h, w), Channels::Last),
        [n, c @ (1 | 3), h, w] => (n, (c, h, w), Channels::First),
        _ => (0, (0, 0, 0), Channels::Last),
    };
    let fits = |side| (1..=LARGEST_SIDE).contains(&side);
    let is_bytes = matches!(&*header.dtype, "|u1" | "u1" | "<u1" | ">u1");
    match is_bytes && (1..=MOST_EXAMPLES).contains(&count) && fits(shape.1) && fits(shape.2) {
        true => Ok(Images {
            count,
            shape,
            channels,
        }),
        false => Err(wrong(
            path,
            &header,
            "images: uint8 of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, at most a million of 1024 pixels a side",
        )),
    }
}

fn wrong(path: &Path, header: &Header, expected: &str) -> DataError {
    let found = format!("{} of shape {:?}", shown(&header.dtype), header.shape);
    DataError::own(
        path,
        format!("it holds {}; expected {expected}", shown(found)),
    )
}

fn header(file: &mut dyn Read, path: &Path) -> Result<Header, DataError> {
    let mut take = |size: usize| -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes).map_err(|e| broken(path, e))?;
        Ok(bytes)
    };
    let start = take(8)?;
    let length = match (start.starts_with(MAGIC), start[6]) {
        (true, 1) => take(2)?
            .iter()
            .rev()
            .fold(0, |n, &b| n << 8 | usize::from(b)),
        (true, 2 | 3) => take(4)?
            .iter()
            .rev()
            .fold(0, |n, &b| n << 8 | usize::from(b)),
        _ => {
            return Err(DataError::own(
                path,
                "it is no .npy file of version 1 to 3; save it with numpy.save",
            ));
        }
    };
    if length > LONGEST_HEADER {
        return Err(DataError::corrupt(
            path,
            format!("its header claims {length} bytes"),
        ));
    }
    let text = String::from_utf8_lossy(&take(length)?).into_owned();
    let header = parse(&text);
    let header = header
        .ok_or_else(|| DataError::corrupt(path, format!("its header is {}", shown(&text))))?;
    match header {
        (header, false) => Ok(header),
        (_, true) => Err(DataError::own(
            path,
            "its numbers are in Fortran order; save numpy.ascontiguousarray of it",
        )),
    }
}

/// `{'descr': '|u1', 'fortran_order': False, 'shape': (3, 28, 28), }`, and whether it is in Fortran order.
fn parse(text: &str) -> Option<(Header, bool)> {
    let after = |key: &str| {
        let (_, rest) = text.split_once(key)?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let dtype = after("'descr'")?.strip_prefix('\'')?.split_once('\'')?.0;
    let order = after("'fortran_order'")?;
    let shape = after("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let shape = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let header = Header {
        dtype: dtype.into(),
        shape: shape.map(|n| n.parse().ok()).collect::<Option<_>>()?,
    };
    Some((header, order.starts_with("True")))
}

/// The `size` bytes after the header, and no others.
fn body(file: &mut dyn Read, size: usize, path: &Path) -> Result<Vec<u8>, DataError> {
    let (data, more) = read_up_to(file, size as u64, path)?;
    match data.len() == size && !more {
        true => Ok(data),
        false => Err(DataError::truncated(
            path,
            format!("{size} bytes after the header"),
            if more {
                "more".into()
            } else {
                data.len().to_string()
            },
        )),
    }
}
