//! Where the files of a dataset come from.
//!
//! Three places are searched, in this order: the folder that the user names (`--data-dir`), the cache folder (`$EQPROP_DATA`, else
//! `$XDG_CACHE_HOME/eqprop-cuda`, else `~/.cache/eqprop-cuda`), and the system's `/usr/share/datasets`. In each, Fashion-MNIST
//! may lie in `FashionMNIST/raw/`, in `fashion-mnist/` or directly (the four idx files, with or without `.gz`), and CIFAR as
//! its archive or unpacked. If none has it, it is downloaded into the first of the first two.
//!
//! Files that are found are judged by their content, not by their checksum, so that anyone may bring data of the same
//! format; what is downloaded must match its checksum.

use std::env;
use std::path::{Path, PathBuf};

use super::cifar::{self, Layout};
use super::download::{fetch, md5_of};
use super::{DataError, DatasetName, Splits, idx, mini};

const FASHION_FOLDERS: [&str; 3] = ["FashionMNIST/raw", "fashion-mnist", ""];
const FASHION_URL: &str = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com";
const CIFAR_URL: &str = "https://www.cs.toronto.edu/~kriz";

/// What the user says about where data comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// A folder to search first, and to download into.
    pub data_dir: Option<PathBuf>,
    /// Never download.
    pub offline: bool,
    /// Download `MIRROR/FILE` instead of from the published addresses. If absent, the environment variable `EQPROP_MIRROR`.
    pub mirror: Option<String>,
}

/// A file that can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    pub name: String,
    /// Lower-case hexadecimal.
    pub md5: String,
}

/// The downloadable files of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub dataset: DatasetName,
    /// The address of a file is `base/name`.
    pub base: String,
    /// Fashion-MNIST: training images, training labels, test images, test labels. CIFAR: the archive.
    pub files: Vec<RemoteFile>,
}

impl Manifest {
    /// The published files.
    pub fn published(dataset: DatasetName) -> Self {
        let (base, files): (_, &[(&str, &str)]) = match dataset {
            DatasetName::FashionMnist => (
                FASHION_URL,
                &[
                    (
                        "train-images-idx3-ubyte.gz",
                        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    ),
                    (
                        "train-labels-idx1-ubyte.gz",
                        "25c81989df183df01b3e8a0aad5dffbe",
                    ),
                    (
                        "t10k-images-idx3-ubyte.gz",
                        "bef4ecab320f06d8554ea6380940ec79",
                    ),
                    (
                        "t10k-labels-idx1-ubyte.gz",
                        "bb300cfdad3c16e7a12a480ee83cd310",
                    ),
                ],
            ),
            DatasetName::Cifar10 => (
                CIFAR_URL,
                &[("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")],
            ),
            DatasetName::Cifar100 => (
                CIFAR_URL,
                &[(
                    "cifar-100-binary.tar.gz",
                    "03b5dce01913d631647c71ecec9e9cb8",
                )],
            ),
            DatasetName::FashionMnistMini => ("", &[]),
        };
        Self {
            dataset,
            base: base.to_owned(),
            files: files
                .iter()
                .map(|(name, md5)| RemoteFile {
                    name: (*name).to_owned(),
                    md5: (*md5).to_owned(),
                })
                .collect(),
        }
    }
}

/// Everything that decides where a dataset is looked for and fetched from, spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub manifest: Manifest,
    /// The folder that the user names.
    pub data_dir: Option<PathBuf>,
    /// The user's cache folder.
    pub cache: Option<PathBuf>,
    /// The system's folders, never written to.
    pub system: Vec<PathBuf>,
    /// Never download.
    pub offline: bool,
    /// Replaces the address in the manifest.
    pub mirror: Option<String>,
}

impl Plan {
    /// The usual places and the published files.
    pub fn published(name: DatasetName, source: &Source) -> Self {
        Self {
            manifest: Manifest::published(name),
            data_dir: source.data_dir.clone(),
            cache: cache_folder(),
            system: vec!["/usr/share/datasets".into()],
            offline: source.offline,
            mirror: source
                .mirror
                .clone()
                .or_else(|| env::var("EQPROP_MIRROR").ok().filter(|m| !m.is_empty())),
        }
    }

    /// Finds or downloads the files, and reads them.
    pub fn load(&self) -> Result<Splits, DataError> {
        let name = self.manifest.dataset;
        if name == DatasetName::FashionMnistMini {
            return mini::load();
        }
        for root in self.roots() {
            let found = match cifar::layout(name) {
                Some(layout) => self.find_cifar(root, layout)?,
                None => self.find_fashion(root)?,
            };
            if let Some(splits) = found {
                return Ok(splits);
            }
        }
        self.download()
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        self.data_dir.iter().chain(&self.cache).chain(&self.system)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.manifest.files.iter().map(|f| f.name.as_str())
    }

    fn find_cifar(&self, root: &Path, layout: &Layout) -> Result<Option<Splits>, DataError> {
        if let Some(archive) = self.names().map(|n| root.join(n)).find(|p| p.is_file()) {
            return layout.read_archive(&archive).map(Some);
        }
        let missing = |folder: &Path| layout.members().find(|m| !folder.join(m).is_file());
        let unpacked = root.join(layout.folder);
        if unpacked.is_dir() {
            return match missing(&unpacked) {
                None => layout.read_folder(&unpacked).map(Some),
                Some(missing) => Err(self.incomplete(&unpacked, missing)),
            };
        }
        match missing(root) {
            None => layout.read_folder(root).map(Some),
            Some(_) => Ok(None),
        }
    }

    fn find_fashion(&self, root: &Path) -> Result<Option<Splits>, DataError> {
        for folder in FASHION_FOLDERS.map(|f| root.join(f)) {
            let found: Vec<_> = self.names().map(|n| find_idx(&folder, n)).collect();
            if let [
                Some(images),
                Some(labels),
                Some(test_images),
                Some(test_labels),
            ] = &found[..]
            {
                return Ok(Some(Splits {
                    train: idx::read_pair(self.manifest.dataset, images, labels)?,
                    test: idx::read_pair(self.manifest.dataset, test_images, test_labels)?,
                }));
            }
            self.check_part(&folder, &found)?;
        }
        Ok(None)
    }

    /// A part of the published files (of an interrupted download, say) can be completed; a part of someone's own cannot,
    /// and going on elsewhere would silently train on other data.
    fn check_part(&self, folder: &Path, found: &[Option<PathBuf>]) -> Result<(), DataError> {
        let Some(missing) = found.iter().position(Option::is_none) else {
            return Ok(());
        };
        for (file, path) in self.manifest.files.iter().zip(found) {
            if let Some(path) = path
                && md5_of(path)? != file.md5
            {
                return Err(self.incomplete(folder, &self.manifest.files[missing].name));
            }
        }
        Ok(())
    }

    fn incomplete(&self, folder: &Path, missing: &str) -> DataError {
        DataError::Incomplete {
            dataset: self.manifest.dataset,
            folder: folder.to_owned(),
            missing: missing.to_owned(),
        }
    }

    /// Fetches what is missing in the folder for downloads, then reads it.
    fn download(&self) -> Result<Splits, DataError> {
        let dataset = self.manifest.dataset;
        let Some(root) = self.data_dir.as_ref().or(self.cache.as_ref()) else {
            return Err(DataError::NoFolder { dataset });
        };
        let layout = cifar::layout(dataset);
        let folder = match layout {
            Some(_) => root.clone(),
            None => root.join(FASHION_FOLDERS[0]),
        };
        let missing: Vec<_> = self
            .manifest
            .files
            .iter()
            .filter(|f| !folder.join(&f.name).is_file())
            .collect();
        if self.offline {
            let names: Vec<_> = missing.iter().map(|f| f.name.as_str()).collect();
            return Err(DataError::NotFound {
                dataset,
                files: names.join(", "),
                folder,
            });
        }
        let base = self.mirror.as_deref().unwrap_or(&self.manifest.base);
        for file in missing {
            let url = format!("{}/{}", base.trim_end_matches('/'), file.name);
            fetch(&url, &file.md5, &folder.join(&file.name))?;
        }
        let found = match layout {
            Some(layout) => self.find_cifar(root, layout)?,
            None => self.find_fashion(root)?,
        };
        found.ok_or(DataError::NotFound {
            dataset,
            files: self.names().collect::<Vec<_>>().join(", "),
            folder,
        })
    }
}

/// The idx file `name` in `folder`, compressed or not.
fn find_idx(folder: &Path, name: &str) -> Option<PathBuf> {
    [name, name.trim_end_matches(".gz")]
        .map(|n| folder.join(n))
        .into_iter()
        .find(|p| p.is_file())
}

/// The user's cache folder, if the environment names one.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    variable("EQPROP_DATA").or_else(|| {
        variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .map(|base| base.join("eqprop-cuda"))
    })
}
