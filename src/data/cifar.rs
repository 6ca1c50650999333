//! The binary CIFAR files: records of one label byte (CIFAR-100: a coarse one, then the fine one) and 3 x 32 x 32 pixels,
//! in a tar.gz archive or unpacked.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::read::{broken, open, read_up_to};
use super::{DataError, Dataset, DatasetName, SIDE, Splits};

const PIXELS: usize = 3 * SIDE * SIDE;
/// More than any file of the family holds (30 MB each), so that a damaged size does not fill the memory.
const LARGEST_MEMBER: u64 = 1 << 30;

/// How one of the two datasets is laid out.
pub(super) struct Layout {
    name: DatasetName,
    /// The folder that holds the files, inside the archive and when unpacked.
    pub(super) folder: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// Files of the archive that hold no examples.
    other: &'static [&'static str],
    /// Bytes before the pixels; the last one is the label.
    label_bytes: usize,
}

const CIFAR10: Layout = Layout {
    name: DatasetName::Cifar10,
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: &["test_batch.bin"],
    other: &["batches.meta.txt", "readme.html"],
    label_bytes: 1,
};

const CIFAR100: Layout = Layout {
    name: DatasetName::Cifar100,
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: &["test.bin"],
    other: &["coarse_label_names.txt", "fine_label_names.txt"],
    label_bytes: 2,
};

/// The layout of `name`, if it is a CIFAR dataset.
pub(super) fn layout(name: DatasetName) -> Option<&'static Layout> {
    match name {
        DatasetName::Cifar10 => Some(&CIFAR10),
        DatasetName::Cifar100 => Some(&CIFAR100),
        DatasetName::FashionMnist | DatasetName::FashionMnistMini => None,
    }
}

impl Layout {
    /// The files with examples: training first.
    pub(super) fn members(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().chain(self.test).copied()
    }

    /// Reads the unpacked files in `folder`.
    pub(super) fn read_folder(&self, folder: &Path) -> Result<Splits, DataError> {
        let mut files = BTreeMap::new();
        for member in self.members() {
            let path = folder.join(member);
            let (data, more) = read_up_to(&mut *open(&path)?, LARGEST_MEMBER, &path)?;
            if more {
                return Err(DataError::corrupt(&path, "it is larger than 1 GiB"));
            }
            files.insert(member, (path, data));
        }
        self.assemble(files)
    }

    /// Reads the archive at `path`, which must hold exactly the expected files.
    pub(super) fn read_archive(&self, path: &Path) -> Result<Splits, DataError> {
        let mut archive = tar::Archive::new(open(path)?);
        let mut files = BTreeMap::new();
        for entry in archive.entries().map_err(|e| broken(path, e))? {
            let mut entry = entry.map_err(|e| broken(path, e))?;
            if entry.header().entry_type().is_dir() {
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
                    format!("`{}` in it", inside.display()),
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
        self.assemble(files)
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
        files: BTreeMap<&'static str, (PathBuf, Vec<u8>)>,
    ) -> Result<Splits, DataError> {
        let split = |members: &[&'static str]| {
            let (mut images, mut labels) = (Vec::new(), Vec::new());
            for (path, data) in members.iter().filter_map(|m| files.get(m)) {
                self.append(path, data, &mut images, &mut labels)?;
            }
            Ok(Dataset::new(self.name, images, labels))
        };
        Ok(Splits {
            train: split(self.train)?,
            test: split(self.test)?,
        })
    }

    /// Appends the records of one file.
    fn append(
        &self,
        path: &Path,
        data: &[u8],
        images: &mut Vec<u8>,
        labels: &mut Vec<u8>,
    ) -> Result<(), DataError> {
        let record = self.label_bytes + PIXELS;
        if data.is_empty() || !data.len().is_multiple_of(record) {
            return Err(DataError::truncated(
                path,
                format!("a multiple of {record} bytes"),
                data.len().to_string(),
            ));
        }
        for (index, record) in data.chunks_exact(record).enumerate() {
            let (head, pixels) = record.split_at(self.label_bytes);
            let label = head[self.label_bytes - 1];
            if usize::from(label) >= self.name.classes() {
                return Err(DataError::Label {
                    path: path.to_owned(),
                    dataset: self.name,
                    index,
                    label,
                });
            }
            images.extend_from_slice(pixels);
            labels.push(label);
        }
        Ok(())
    }
}
