//! The CIFAR files, in a tar.gz archive or unpacked: binary ones, records of one label byte (CIFAR-100: a coarse one, then the fine one)
//! and 3 x 32 x 32 pixels; or those for Python.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::Contents;
use super::python;
use super::read::{broken, open, read_up_to};
use crate::data::{DataError, Splits};
use crate::shown::shown;

/// More than any file of the family holds (31 MB each), so that a damaged size does not fill the memory.
const LARGEST_MEMBER: u64 = 256 << 20;
/// More than any of the archives holds.
const LARGEST_ARCHIVE: u64 = 1 << 30;

/// How a dataset is laid out.
pub struct Layout {
    /// The archive's file name.
    pub archive: &'static str,
    /// The folder that holds the files, inside the archive and when unpacked.
    pub folder: &'static str,
    /// Files with training examples, in the order of the examples.
    pub train: &'static [&'static str],
    /// Files with test examples, in the order of the examples.
    pub test: &'static [&'static str],
    /// Files of the archive that hold no examples.
    pub other: &'static [&'static str],
    /// What those files hold.
    pub records: Records,
}

/// How a file holds its examples.
#[derive(Clone, Copy, Debug)]
pub enum Records {
    /// One after the other: label bytes, the last of which is the label, then the pixels.
    Binary {
        /// before the pixels: one, or two with a coarse label first
        label_bytes: usize,
    },
    /// A pickle, which has the labels under this key.
    Python {
        /// its key
        labels: &'static str,
    },
}

impl Layout {
    /// The files with examples: training first.
    pub(crate) fn members(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().chain(self.test).copied()
    }

    /// Reads the unpacked files in `folder`.
    pub(crate) fn read_folder(
        &self,
        contents: &Contents,
        folder: &Path,
    ) -> Result<Splits, DataError> {
        let mut files = BTreeMap::new();
        for member in self.members() {
            let path = folder.join(member);
            let (data, more) = read_up_to(&mut *open(&path)?, LARGEST_MEMBER, &path)?;
            if more {
                return Err(DataError::corrupt(&path, "it is larger than 256 MiB"));
            }
            files.insert(member, (path, data));
        }
        self.assemble(contents, files)
    }

    /// Reads the archive at `path`, which must hold exactly the expected files.
    pub(crate) fn read_archive(
        &self,
        contents: &Contents,
        path: &Path,
    ) -> Result<Splits, DataError> {
        let mut archive = tar::Archive::new(open(path)?.take(LARGEST_ARCHIVE));
        let mut files = BTreeMap::new();
        // Raw: the crate would read long names and extended headers into memory, whatever size they claim.
        for entry in archive.entries().map_err(|e| broken(path, e))?.raw(true) {
            let mut entry = entry.map_err(|e| broken(path, e))?;
            let kind = entry.header().entry_type();
            if kind.is_dir() || is_annotation(kind) {
                continue;
            }
            let inside = entry
                .path()
                .map_err(|e| DataError::corrupt(path, e.to_string()))?
                .into_owned();
            let Some(member) = self.member(&inside) else {
                return Err(DataError::mislabelled(
                    path,
                    format!("an archive of {}/", self.folder),
                    format!("`{}` in it", shown(inside.to_string_lossy())),
                ));
            };
            if self.other.contains(&member) {
                continue;
            }
            let size = entry.size();
            if size > LARGEST_MEMBER || !entry.header().entry_type().is_file() {
                return Err(DataError::corrupt(
                    path,
                    format!("`{member}` in it is no ordinary file of examples"),
                ));
            }
            let (data, _) = read_up_to(&mut entry, size, path)?;
            if (data.len() as u64) < size {
                return Err(DataError::truncated(
                    path,
                    format!("{size} bytes of `{member}`"),
                    data.len().to_string(),
                ));
            }
            if files.insert(member, (path.join(&inside), data)).is_some() {
                return Err(DataError::corrupt(
                    path,
                    format!("it holds `{member}` twice"),
                ));
            }
        }
        // An archive may end before the compressed data does; the checksum is at the very end.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| broken(path, e))?;
        if let Some(missing) = self.members().find(|m| !files.contains_key(m)) {
            return Err(DataError::truncated(
                path,
                format!("an archive with {}/{missing}", self.folder),
                "none in it",
            ));
        }
        self.assemble(contents, files)
    }

    /// The expected file that `inside` (a path in the archive) names, if any.
    fn member(&self, inside: &Path) -> Option<&'static str> {
        let mut parts = inside
            .components()
            .filter(|c| !matches!(c, Component::CurDir))
            .map(|c| c.as_os_str().to_str());
        let (Some(Some(folder)), Some(Some(file)), None) =
            (parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let known = |m: &&str| folder == self.folder && *m == file;
        self.members().chain(self.other.iter().copied()).find(known)
    }

    fn assemble(
        &self,
        contents: &Contents,
        files: BTreeMap<&'static str, (PathBuf, Vec<u8>)>,
    ) -> Result<Splits, DataError> {
        let split = |members: &[&'static str]| {
            let (mut images, mut labels) = (Vec::new(), Vec::new());
            for (path, data) in members.iter().filter_map(|m| files.get(m)) {
                let (more, their_labels) = match self.records {
                    Records::Binary { label_bytes } => binary(contents, label_bytes, path, data)?,
                    Records::Python { labels } => {
                        python::pixels_and_labels(contents, labels, path, data)?
                    }
                };
                contents.check_labels(path, &their_labels)?;
                images.extend(more);
                labels.extend(their_labels);
            }
            Ok(contents.dataset(images, labels))
        };
        Ok(Splits {
            train: split(self.train)?,
            test: split(self.test)?,
        })
    }
}

/// Entries that only describe others. The names that we accept are short, and need none of them.
fn is_annotation(kind: tar::EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_global_extensions()
        || kind.is_pax_local_extensions()
}

/// Pixels and labels of the records of one file.
fn binary(
    contents: &Contents,
    label_bytes: usize,
    path: &Path,
    data: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), DataError> {
    let record = label_bytes + contents.pixels();
    if data.is_empty() || !data.len().is_multiple_of(record) {
        return Err(DataError::truncated(
            path,
            format!("a multiple of {record} bytes"),
            data.len().to_string(),
        ));
    }
    let (mut images, mut labels) = (Vec::with_capacity(data.len()), Vec::new());
    for record in data.chunks_exact(record) {
        let (head, pixels) = record.split_at(label_bytes);
        labels.push(head[label_bytes - 1]);
        images.extend_from_slice(pixels);
    }
    Ok((images, labels))
}
