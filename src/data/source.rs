//! Where the files of a dataset come from.
//!
//! Three places are searched, in this order: the folder that the user names (`--data-dir`), the cache folder (`$EQPROP_DATA`, else
//! `$XDG_CACHE_HOME/eqprop-cuda`, else `~/.cache/eqprop-cuda`), and the system's `/usr/share/datasets`. Where in each a dataset
//! may lie is said in its file in `sets/`. If none has it, it is downloaded into the first of the first two.
//!
//! Files that are found are judged by their content, not by their checksum, so that anyone may bring data of the same
//! format; what is downloaded must match its checksum.

use std::env;
use std::path::{Path, PathBuf};

use super::download::{LARGEST, fetch, md5_of};
use super::formats::cifar::Layout;
use super::formats::{Format, idx, mat};
use super::own::Own;
use super::{DataError, DatasetName, Profile, Splits};

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
    /// The last part of its address.
    pub name: String,
    /// Lower-case hexadecimal.
    pub md5: String,
}

/// The downloadable files of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose files they are.
    pub dataset: DatasetName,
    /// The address of a file is `base/name`.
    pub base: String,
    /// Loose files: training images, training labels, test images, test labels. Otherwise the archive.
    pub files: Vec<RemoteFile>,
}

impl Manifest {
    /// The published files.
    pub fn published(dataset: DatasetName) -> Self {
        let set = dataset.set();
        let file = |&(name, md5): &(&str, &str)| RemoteFile {
            name: name.to_owned(),
            md5: md5.to_owned(),
        };
        Self {
            dataset,
            base: set.base.to_owned(),
            files: set.files.iter().map(file).collect(),
        }
    }
}

/// Everything that decides where a dataset is looked for and fetched from, spelled out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is looked for.
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
    /// A file of more bytes is not downloaded.
    pub largest: u64,
    /// Asked between pieces of a download, which ends cleanly when the answer is yes: whether Ctrl-C was pressed, say.
    pub stop: fn() -> bool,
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
            largest: LARGEST,
            stop: || false,
        }
    }

    /// Finds or downloads the files, and reads them. Small images are padded, as the published networks take them.
    ///
    /// # Errors
    /// [`DataError`]: not found, not downloaded, damaged, or not the dataset.
    pub fn load(&self) -> Result<Splits, DataError> {
        let pad = self.profile()?.pad;
        Ok(self.read()?.padded(pad))
    }

    /// [`load`](Self::load) for a network whose input has `(height, width)` pixels: those of the files, or the padded ones.
    ///
    /// # Errors
    /// The same, or that the images have another size.
    pub fn load_at(&self, size: (usize, usize)) -> Result<Splits, DataError> {
        let profile = self.profile()?;
        let padded = profile.padded_size();
        if size == padded {
            Ok(self.read()?.padded(profile.pad))
        } else if size == profile.size {
            self.read()
        } else {
            let mut have = format!("{} x {}", profile.size.0, profile.size.1);
            if profile.pad > 0 {
                have += &format!(" or, padded, {} x {}", padded.0, padded.1);
            }
            let want = format!("{} x {}", size.0, size.1);
            let dataset = self.manifest.dataset.as_str();
            Err(DataError::Size {
                dataset,
                have,
                want,
            })
        }
    }

    /// What the images are like; of a folder of the user's, it is looked into.
    ///
    /// # Errors
    /// When there is no such folder, or its images do not go together.
    pub fn profile(&self) -> Result<Profile, DataError> {
        match self.format() {
            Format::Own => self.own()?.profile(),
            _ => Ok(self.manifest.dataset.profile()),
        }
    }

    fn own(&self) -> Result<Own, DataError> {
        Own::find(self.data_dir.as_deref().ok_or(DataError::NoOwn)?)
    }

    /// The images as they are in the files.
    fn read(&self) -> Result<Splits, DataError> {
        let contents = self.manifest.dataset.contents();
        if let Format::Embedded([images, labels, test_images, test_labels]) = self.format() {
            return Ok(Splits {
                train: idx::read_embedded(&contents, images, labels)?,
                test: idx::read_embedded(&contents, test_images, test_labels)?,
            });
        }
        if let Format::Own = self.format() {
            return self.own()?.read();
        }
        for root in self.roots() {
            if let Some(splits) = self.find(root)? {
                return Ok(splits);
            }
        }
        self.download()
    }

    fn format(&self) -> &'static Format {
        &self.manifest.dataset.set().format
    }

    /// Reads the dataset if it is in `root`.
    fn find(&self, root: &Path) -> Result<Option<Splits>, DataError> {
        match self.format() {
            Format::Embedded(_) | Format::Own => Ok(None),
            Format::Mat { folders } => self.find_mat(root, folders),
            Format::Idx { folders } => self.find_idx(root, folders),
            Format::Cifar(layouts) => {
                for layout in *layouts {
                    if let Some(splits) = self.find_cifar(root, layout)? {
                        return Ok(Some(splits));
                    }
                }
                Ok(None)
            }
        }
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        self.data_dir.iter().chain(&self.cache).chain(&self.system)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.manifest.files.iter().map(|f| f.name.as_str())
    }

    fn find_cifar(&self, root: &Path, layout: &Layout) -> Result<Option<Splits>, DataError> {
        let contents = self.manifest.dataset.contents();
        let archive = root.join(layout.archive);
        if archive.is_file() {
            return layout.read_archive(&contents, &archive).map(Some);
        }
        let missing = |folder: &Path| layout.members().find(|m| !folder.join(m).is_file());
        let unpacked = root.join(layout.folder);
        if unpacked.is_dir() {
            return match missing(&unpacked) {
                None => layout.read_folder(&contents, &unpacked).map(Some),
                Some(missing) => Err(self.incomplete(&unpacked, missing)),
            };
        }
        match missing(root) {
            None => layout.read_folder(&contents, root).map(Some),
            Some(_) => Ok(None),
        }
    }

    fn find_idx(&self, root: &Path, folders: &[&str]) -> Result<Option<Splits>, DataError> {
        let contents = self.manifest.dataset.contents();
        for folder in folders.iter().map(|f| root.join(f)) {
            let found: Vec<_> = self.names().map(|n| idx::file(&folder, n)).collect();
            if let [
                Some(images),
                Some(labels),
                Some(test_images),
                Some(test_labels),
            ] = &found[..]
            {
                return Ok(Some(Splits {
                    train: idx::read_pair(&contents, images, labels)?,
                    test: idx::read_pair(&contents, test_images, test_labels)?,
                }));
            }
            self.check_part(&folder, &found)?;
        }
        Ok(None)
    }

    fn find_mat(&self, root: &Path, folders: &[&str]) -> Result<Option<Splits>, DataError> {
        let contents = self.manifest.dataset.contents();
        for folder in folders.iter().map(|f| root.join(f)) {
            let there = |name| Some(folder.join(name)).filter(|path: &PathBuf| path.is_file());
            let found: Vec<_> = self.names().map(there).collect();
            if let [Some(train), Some(test)] = &found[..] {
                return Ok(Some(Splits {
                    train: mat::read_file(&contents, train)?,
                    test: mat::read_file(&contents, test)?,
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
            dataset: self.manifest.dataset.as_str(),
            folder: folder.to_owned(),
            missing: missing.to_owned(),
        }
    }

    /// Fetches what is missing in the folder for downloads, then reads it.
    fn download(&self) -> Result<Splits, DataError> {
        let dataset = self.manifest.dataset.as_str();
        let Some(root) = self.data_dir.as_ref().or(self.cache.as_ref()) else {
            return Err(DataError::NoFolder { dataset });
        };
        let folder = match self.format() {
            Format::Idx { folders } | Format::Mat { folders } => root.join(folders[0]),
            Format::Cifar(_) | Format::Embedded(_) | Format::Own => root.clone(),
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
            fetch(
                &url,
                &file.md5,
                self.largest,
                self.stop,
                &folder.join(&file.name),
            )?;
        }
        self.find(root)?.ok_or(DataError::NotFound {
            dataset,
            files: self.names().collect::<Vec<_>>().join(", "),
            folder,
        })
    }
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
