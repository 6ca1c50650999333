//! Reading files that may be compressed, cut short or damaged.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::data::DataError;
use crate::shown::shown;

/// Opens a file; one that begins like gzip is decompressed on the way.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = File::open(path).map_err(DataError::io(path))?;
    decompress(Box::new(BufReader::new(file)), path)
}

/// Decompresses what `source` yields if it begins like gzip. `path` is for messages.
pub(crate) fn decompress(
    mut source: Box<dyn Read>,
    path: &Path,
) -> Result<Box<dyn Read>, DataError> {
    let mut start = Vec::new();
    source
        .by_ref()
        .take(2)
        .read_to_end(&mut start)
        .map_err(|e| broken(path, e))?;
    let gzip = start == [0x1f, 0x8b];
    if !gzip && path.extension().is_some_and(|e| e == "gz") {
        return Err(if start.len() < 2 {
            DataError::truncated(path, "gzip data", format!("{} bytes", start.len()))
        } else {
            DataError::mislabelled(path, "gzip data", "something else")
        });
    }
    let whole = io::Cursor::new(start).chain(source);
    Ok(if gzip {
        Box::new(MultiGzDecoder::new(whole))
    } else {
        Box::new(whole)
    })
}

/// The error for a file whose content cannot be read to the end: cut short, or damaged (gzip keeps a checksum).
pub(crate) fn broken(path: &Path, error: io::Error) -> DataError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            DataError::truncated(path, "complete data", "an early end of the file")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            DataError::corrupt(path, shown(error.to_string()))
        }
        _ => DataError::io(path)(error),
    }
}

/// Reads at most `limit` bytes and reports whether there was more. Memory grows with what is really there, not with `limit`.
pub(crate) fn read_up_to(
    source: &mut dyn Read,
    limit: u64,
    path: &Path,
) -> Result<(Vec<u8>, bool), DataError> {
    let mut data = Vec::new();
    source
        .take(limit)
        .read_to_end(&mut data)
        .map_err(|e| broken(path, e))?;
    let mut one = [0];
    let more = loop {
        // Reading on to the end also has gzip compare its checksum.
        match source.read(&mut one) {
            Ok(n) => break n > 0,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(broken(path, e)),
        }
    };
    Ok((data, more))
}
