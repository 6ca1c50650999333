//! MATLAB's files of level 5, as far as SVHN needs them: a variable `X` of bytes (rows, columns, channels, N), and a variable `y` of N
//! labels, where the class of the digit 0 is 10.
//!
//! A file is a header of 128 bytes and elements: a tag (type and number of bytes, four bytes each; small elements have both in four
//! bytes and the data in the next four), then data, padded to eight bytes. An element may hold another one, compressed by zlib. Arrays
//! are elements of elements: flags, dimensions, name, numbers. <https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf>
//! All is read in one pass, and nothing is kept but images and labels.

use std::io::{self, Read};
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::Contents;
use super::read::{broken, open};
use crate::data::{DataError, Dataset};
use crate::shown::shown;

/// Where the file names its version, 0x0100, and the order of its bytes, `IM`.
const HEADER: usize = 128;
/// More examples than any part of SVHN has (the additional ones are 531,131).
const MOST_EXAMPLES: usize = 600_000;
/// Bytes of a name or of dimensions: those of SVHN have 16 at most.
const LONGEST: u64 = 256;

/// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// Reads the images and the labels of one file.
pub(crate) fn read_file(contents: &Contents, path: &Path) -> Result<Dataset, DataError> {
    let mut file = Source {
        from: open(path)?,
        path,
    };
    let mut header = [0; HEADER];
    file.fill(&mut header)?;
    if header[124..] != [0x00, 0x01, b'I', b'M'] {
        return Err(DataError::mislabelled(
            path,
            "a MATLAB file of level 5, little-endian",
            "something else",
        ));
    }
    let (mut images, mut labels) = (None, None);
    while let Some((kind, size)) = file.tag_or_end()? {
        let element = (&mut file.from).take(size.into());
        match kind {
            COMPRESSED => {
                let mut inner = Source {
                    from: ZlibDecoder::new(element),
                    path,
                };
                let (kind, _) = inner.tag()?;
                inner.matrix(kind, contents, &mut images, &mut labels)?;
                // To its end, where its checksum is.
                inner.skip(u64::MAX)?;
                let mut rest = inner.from.into_inner();
                io::copy(&mut rest, &mut io::sink()).map_err(|e| broken(path, e))?;
            }
            _ => {
                let mut inner = Source {
                    from: element,
                    path,
                };
                inner.matrix(kind, contents, &mut images, &mut labels)?;
                inner.skip(u64::MAX)?;
            }
        }
    }
    let missing = |name| DataError::truncated(path, format!("a variable {name}"), "none in it");
    let (images, labels): (Vec<u8>, Vec<u8>) = (
        images.ok_or_else(|| missing("X"))?,
        labels.ok_or_else(|| missing("y"))?,
    );
    let count = images.len() / contents.pixels();
    if count != labels.len() {
        return Err(DataError::CountMismatch {
            images_path: path.to_owned(),
            images: count,
            labels_path: path.to_owned(),
            labels: labels.len(),
        });
    }
    contents.check_labels(path, &labels)?;
    Ok(contents.dataset(images, labels))
}

/// What elements are read from.
struct Source<'a, R> {
    from: R,
    /// for messages
    path: &'a Path,
}

impl<R: Read> Source<'_, R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), DataError> {
        let path = self.path;
        self.from.read_exact(bytes).map_err(|e| broken(path, e))
    }

    fn corrupt(&self, reason: impl Into<String>) -> DataError {
        DataError::corrupt(self.path, reason)
    }

    /// Passes over `size` bytes, or what is left of them.
    fn skip(&mut self, size: u64) -> Result<(), DataError> {
        let path = self.path;
        let mut passed = (&mut self.from).take(size);
        let skipped = io::copy(&mut passed, &mut io::sink());
        skipped.map(drop).map_err(|e| broken(path, e))
    }

    /// Type and size of the next element; `None` at the end of the file.
    fn tag_or_end(&mut self) -> Result<Option<(u32, u32)>, DataError> {
        let mut tag = Vec::new();
        let path = self.path;
        let read = (&mut self.from).take(8).read_to_end(&mut tag);
        read.map_err(|e| broken(path, e))?;
        match *tag {
            [] => Ok(None),
            [a, b, c, d, e, f, g, h] => Ok(Some((
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
            ))),
            _ => Err(DataError::truncated(
                path,
                "a tag of 8 bytes",
                tag.len().to_string(),
            )),
        }
    }

    fn tag(&mut self) -> Result<(u32, u32), DataError> {
        let path = self.path;
        (self.tag_or_end()?).ok_or_else(|| DataError::truncated(path, "a tag", "an early end"))
    }

    /// A short element as a whole.
    fn short(&mut self) -> Result<(u32, Vec<u8>), DataError> {
        let (kind, size) = self.tag()?;
        if kind >> 16 != 0 {
            // Small: type and size share the first four bytes, and the last four are the data.
            let (kind, length) = (kind & 0xffff, kind >> 16);
            let data = size.to_le_bytes();
            let data = (data.get(..length as usize))
                .ok_or_else(|| self.corrupt("a small element of more than four bytes"))?;
            return Ok((kind, data.to_vec()));
        }
        if u64::from(size) > LONGEST {
            return Err(self.corrupt(format!(
                "{size} bytes where a name or dimensions were expected"
            )));
        }
        let mut data = vec![0; size as usize];
        self.fill(&mut data)?;
        self.skip(padding(size.into()))?;
        Ok((kind, data))
    }

    /// The start of numbers: their type, how many bytes they have, and those that came with the tag.
    fn numbers(&mut self) -> Result<(u32, u64, Vec<u8>), DataError> {
        let (kind, size) = self.tag()?;
        if kind >> 16 == 0 {
            return Ok((kind, size.into(), Vec::new()));
        }
        let length = (kind >> 16).min(4);
        let data = size.to_le_bytes()[..length as usize].to_vec();
        Ok((kind & 0xffff, length.into(), data))
    }

    /// An array: taken if it is `X` or `y`.
    fn matrix(
        &mut self,
        kind: u32,
        contents: &Contents,
        images: &mut Option<Vec<u8>>,
        labels: &mut Option<Vec<u8>>,
    ) -> Result<(), DataError> {
        if kind != MATRIX {
            return Ok(());
        }
        let (kind, flags) = self.short()?;
        // The lowest byte of the flags is the class: 6 to 15 are numbers.
        if kind != UINT32 || !matches!(flags.first(), Some(6..=15)) {
            return Ok(());
        }
        let (kind, dimensions) = self.short()?;
        let (words, rest) = dimensions.as_chunks::<4>();
        if kind != INT32 || !rest.is_empty() {
            return Err(self.corrupt("an array without dimensions"));
        }
        let dimensions: Vec<usize> = words
            .iter()
            .map(|&word| u32::from_le_bytes(word) as usize)
            .collect();
        let (kind, name) = self.short()?;
        if kind != INT8 {
            return Err(self.corrupt("an array without a name"));
        }
        let twice = |known: bool| match known {
            true => Err(DataError::corrupt(
                self.path,
                format!("it holds `{}` twice", shown(String::from_utf8_lossy(&name))),
            )),
            false => Ok(()),
        };
        match &*name {
            b"X" => {
                twice(images.is_some())?;
                *images = Some(self.images(contents, &dimensions)?);
            }
            b"y" => {
                twice(labels.is_some())?;
                *labels = Some(self.labels(&dimensions)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Images whose axes are rows, columns, channels and examples, the first the fastest in the file: each image is in one piece, and each
    /// plane of it transposed.
    fn images(&mut self, contents: &Contents, dimensions: &[usize]) -> Result<Vec<u8>, DataError> {
        let Contents {
            channels,
            height,
            width,
            ..
        } = *contents;
        // MATLAB leaves out a last axis of one.
        let count = match dimensions {
            [h, w, c, n] if [*h, *w, *c] == [height, width, channels] => *n,
            [h, w, c] if [*h, *w, *c] == [height, width, channels] => 1,
            _ => {
                return Err(DataError::mislabelled(
                    self.path,
                    format!("X of {height} x {width} x {channels} x N"),
                    format!("{dimensions:?}"),
                ));
            }
        };
        if !(1..=MOST_EXAMPLES).contains(&count) {
            return Err(self.corrupt(format!(
                "it claims {count} images; 1 to {MOST_EXAMPLES} were expected"
            )));
        }
        let (kind, size, _) = self.numbers()?;
        let expected = (count * contents.pixels()) as u64;
        if kind != UINT8 || size != expected {
            return Err(self.corrupt(format!(
                "X has {size} bytes of type {kind}; expected {expected} of type {UINT8}"
            )));
        }
        let mut images = Vec::new();
        let mut columns = vec![0; contents.pixels()];
        for _ in 0..count {
            self.fill(&mut columns)?;
            for plane in columns.chunks_exact(height * width) {
                images.extend((0..height * width).map(|p| plane[p % width * height + p / width]));
            }
        }
        Ok(images)
    }

    /// Labels from 1 to 10, of any type of numbers, as 0 to 9: the class of the digit 0 is 10.
    fn labels(&mut self, dimensions: &[usize]) -> Result<Vec<u8>, DataError> {
        let count = match dimensions {
            [n, 1] | [1, n] if (1..=MOST_EXAMPLES).contains(n) => *n,
            _ => return Err(self.corrupt(format!("y has the dimensions {dimensions:?}"))),
        };
        let (kind, size, small) = self.numbers()?;
        let bytes = match kind {
            INT8 | UINT8 => 1,
            3 | 4 => 2,
            INT32 | UINT32 | 7 => 4,
            9 | 12 | 13 => 8,
            _ => return Err(self.corrupt(format!("y is of type {kind}; numbers were expected"))),
        };
        if size != (count * bytes) as u64 {
            return Err(self.corrupt(format!("y has {size} bytes for {count} labels")));
        }
        let mut labels = Vec::new();
        let mut number = vec![0; bytes];
        let mut small = small.into_iter();
        for index in 0..count {
            match small.len() {
                0 => self.fill(&mut number)?,
                _ => number
                    .iter_mut()
                    .for_each(|byte| *byte = small.next().unwrap_or(0)),
            }
            let value = match (kind, &number[..]) {
                (7, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
                (9, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
                // Beyond a byte there are zeros.
                (_, &[first, ref rest @ ..]) if rest.iter().all(|&byte| byte == 0) => first.into(),
                _ => f64::NAN,
            };
            match value as u8 {
                label @ 1..=10 if f64::from(label) == value => labels.push(label % 10),
                // 0 is how some copies write the digit 0.
                0 if value == 0.0 => labels.push(0),
                _ => return Err(self.corrupt(format!("label {index} of y is none of 1 to 10"))),
            }
        }
        Ok(labels)
    }
}

/// Bytes after `size` ones up to a multiple of eight.
fn padding(size: u64) -> u64 {
    size.next_multiple_of(8) - size
}
