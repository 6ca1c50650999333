//! The folder of a run.
//!
//! | file | what |
//! |---|---|
//! | `config.toml` | the resolved configuration, which `--config` reads again |
//! | `network.toml` | the network, when it came from a file |
//! | `environment.json` | what it was begun with: version, command line, host, device, checksums of the data ([`Environment`]) |
//! | `metrics.jsonl` | one object per epoch ([`Record`]) |
//! | `last.safetensors` | the run as it was last saved ([`Checkpoint`]) |
//! | `best.safetensors` | the same after the epoch with the smallest test error |
//! | `events.out.tfevents.*`, `wandb/`, `wandb-id` | what the observers for TensorBoard and W&B keep, when it was asked for |
//!
//! Each is replaced as a whole. At the end of an epoch the last checkpoint comes last, so that whatever it says has been
//! recorded; what a killed run recorded beyond it is dropped on resuming, and computed again to the same bits.

use super::metrics::Record;
use super::{Checkpoint, Environment, atomic};
use crate::config::Config;
use crate::config::is_network_file;
use crate::error::{Context, Error, Result, bail, ensure};
use crate::network::{Network, NetworkDescription};
use crate::shown::shell_word;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.toml";
const NETWORK: &str = "network.toml";
const ENVIRONMENT: &str = "environment.json";
const METRICS: &str = "metrics.jsonl";
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
/// Where runs go that are given no folder.
const RUNS: &str = "runs";

/// Held so that no other process trains in the same folder; empty where folders cannot be locked.
pub struct FolderLock(#[expect(dead_code, reason = "open files hold locks")] Option<File>);

/// A run's folder while it is trained in.
pub struct RunFolder {
    path: PathBuf,
    _lock: FolderLock,
    /// of a session that has begun but saved nothing yet
    environment: Option<Environment>,
}

impl RunFolder {
    /// Makes the folder of a new run: `output`, or else the first free `runs/DATASET-NETWORK-N`.
    ///
    /// # Errors
    /// When the folder cannot be made, has a run already, or is held by another process.
    pub fn create(output: Option<&Path>, config: &Config) -> Result<Self> {
        let path = match output {
            Some(path) => path.to_path_buf(),
            None => free_name(config)?,
        };
        Self::check_unused(&path)?;
        fs::create_dir_all(&path).with_context(|| {
            format!(
                "cannot make the folder {}; choose another with --output",
                path.display()
            )
        })?;
        let lock = Self::lock(&path)?;
        // Another process may have begun and ended a run there meanwhile.
        Self::check_unused(&path)?;
        Ok(Self {
            environment: None,
            _lock: lock,
            path,
        })
    }

    /// Fails when there is a run already. Worth knowing before a dataset is loaded.
    ///
    /// # Errors
    /// When there is one.
    pub fn check_unused(path: &Path) -> Result<()> {
        let taken = [LAST, BEST, METRICS, CONFIG]
            .iter()
            .find(|name| path.join(name).exists());
        if let Some(name) = taken {
            bail!(
                File,
                "{} holds a run already ({name} is there): continue it with --resume {}, or choose another --output",
                path.display(),
                shell_word(path)
            );
        }
        ensure!(
            File,
            !path.exists() || path.is_dir(),
            "{} is not a folder; choose another --output",
            path.display()
        );
        Ok(())
    }

    /// Whether there is something to resume.
    pub fn has_checkpoint(path: &Path) -> bool {
        path.join(LAST).exists()
    }

    /// The folder and the checkpoint that `--resume PATH` means: a folder's last checkpoint, or that file.
    ///
    /// # Errors
    /// When there is no run: with the runs that there are.
    pub fn find(path: &Path) -> Result<(PathBuf, PathBuf)> {
        if path.is_dir() {
            ensure!(
                File,
                Self::has_checkpoint(path),
                "{} has no checkpoint ({LAST}): start the run without --resume",
                path.display()
            );
            return Ok((path.to_path_buf(), path.join(LAST)));
        }
        ensure!(
            File,
            path.exists(),
            "{}: there is no such run folder or checkpoint",
            path.display()
        );
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        Ok((folder.to_path_buf(), path.to_path_buf()))
    }

    /// Fails when a folder has nothing of a run.
    ///
    /// # Errors
    /// When it has nothing.
    pub fn check_is_one(path: &Path) -> Result<()> {
        let names = [CONFIG, METRICS, LAST, BEST];
        ensure!(
            File,
            names.iter().any(|name| path.join(name).exists()),
            "{} is not the folder of a run: it has no config.toml, metrics or checkpoint",
            path.display()
        );
        Ok(())
    }

    /// Whether a process trains in it just now, as far as the system tells without getting in its way: taking the lock to
    /// see whether it is free could make a run fail that begins at that moment.
    pub fn is_in_use(path: &Path) -> bool {
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::MetadataExt;
            let inode = fs::metadata(path).map(|data| data.ino());
            let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
            // `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF`
            let inodes = locks.lines().filter_map(|line| {
                line.split_whitespace()
                    .nth(5)?
                    .rsplit(':')
                    .next()?
                    .parse()
                    .ok()
            });
            inode.is_ok_and(|inode| inodes.into_iter().any(|locked: u64| locked == inode))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = path;
            false
        }
    }

    /// What a run recorded: one entry per epoch that is over.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is damaged.
    pub fn records(path: &Path) -> Result<Vec<Record>> {
        let lines = metrics_lines(path)?;
        Ok(lines.into_iter().map(|(record, _)| record).collect())
    }

    /// Keeps other processes from training in a folder. What is read before may be out of date once it is held.
    ///
    /// # Errors
    /// When another one does.
    pub fn lock(folder: &Path) -> Result<FolderLock> {
        let Ok(file) = File::open(folder) else {
            return Ok(FolderLock(None));
        };
        match file.try_lock() {
            Ok(()) => Ok(FolderLock(Some(file))),
            Err(TryLockError::WouldBlock) => bail!(
                File,
                "another process is training in {}: wait for it, or choose another --output",
                folder.display()
            ),
            Err(TryLockError::Error(_)) => Ok(FolderLock(None)),
        }
    }

    /// Opens the folder of a run that has come to the end of epoch `epochs`, forgetting what it recorded beyond.
    ///
    /// # Errors
    /// When what it recorded cannot be read, or not be written.
    pub fn reopen(path: &Path, lock: FolderLock, epochs: usize) -> Result<Self> {
        let lines = metrics_lines(path)?.into_iter();
        let done = lines.filter(|(record, _)| record.epoch <= epochs);
        let text: String = done.map(|(_, line)| format!("{line}\n")).collect();
        // What comes next is appended: an editor may have taken the last end of a line away, too.
        let file = path.join(METRICS);
        if fs::read(&file).unwrap_or_default() != text.as_bytes() {
            atomic::replace(&file, text.as_bytes())?;
        }
        Ok(Self {
            environment: None,
            _lock: lock,
            path: path.to_path_buf(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder of a run that cannot begin, unless something is in it.
    pub fn abandon(&self) {
        // A folder that stays does no harm.
        let _ = fs::remove_dir(&self.path);
    }

    /// Writes `config.toml`, `network.toml` when the network came from a file, and `environment.json`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save_config(&self, config: &Config, network: &Network) -> Result<()> {
        let mut config = config.clone();
        if is_network_file(&config.network) {
            let text = toml::to_string(&NetworkDescription::of(network))?;
            atomic::replace(&self.path.join(NETWORK), text.as_bytes())?;
            config.network = NETWORK.to_string();
        }
        atomic::replace(&self.path.join(CONFIG), config.to_toml()?.as_bytes())?;
        let path = self.path.join(ENVIRONMENT);
        match &self.environment {
            // That of the run's beginning stays.
            Some(environment) if !path.exists() => {
                atomic::replace(&path, serde_json::to_string_pretty(environment)?.as_bytes())
            }
            _ => Ok(()),
        }
    }

    /// The description of the network that lies beside a checkpoint, where that of a run was not a published one.
    pub fn network_beside(checkpoint: &Path) -> Option<PathBuf> {
        let network = checkpoint.with_file_name(NETWORK);
        network.is_file().then_some(network)
    }

    /// Notes what the session was begun with, which [`save_config`](Self::save_config) writes: nothing is left of a run that could
    /// not be saved once.
    pub fn begun_with(&mut self, environment: Environment) {
        self.environment = Some(environment);
    }

    /// What a run was begun with; `None` when it does not say, or not in a way that can be read.
    pub fn environment(path: &Path) -> Option<Environment> {
        let text = fs::read_to_string(path.join(ENVIRONMENT)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Adds an epoch to the metrics.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_record(&mut self, record: &Record) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(record)?);
        atomic::append(&self.path.join(METRICS), line.as_bytes())
    }

    /// Keeps an [encoded](Checkpoint::encode) checkpoint as the last one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_last(&self, checkpoint: &[u8]) -> Result<()> {
        atomic::replace(&self.last(), checkpoint)
    }

    /// Keeps a checkpoint as the best one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_best(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.save(&self.path.join(BEST))
    }

    /// The checkpoint to evaluate that `path` means: of a folder the best one.
    pub fn best_of(path: &Path) -> PathBuf {
        let names = [BEST, LAST].map(|name| path.join(name));
        let found = names
            .into_iter()
            .find(|file| path.is_dir() && file.exists());
        found.unwrap_or_else(|| path.to_path_buf())
    }

    /// The file of the last checkpoint.
    pub fn last(&self) -> PathBuf {
        self.path.join(LAST)
    }

    /// The file of the settings.
    pub fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }
}

/// The lines of a run's metrics, read and as they are; none when the file is not there yet.
fn metrics_lines(folder: &Path) -> Result<Vec<(Record, String)>> {
    let file = folder.join(METRICS);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Error::File(format!("cannot read {}: {e}", file.display()))),
    };
    let read = |(i, line): (usize, &str)| {
        let record = serde_json::from_str(line).map_err(|e| {
            // serde_json counts lines too, of the one line that it sees.
            let problem = e.to_string().replace(" at line 1 column", ", column");
            Error::File(format!(
                "{}: line {} is corrupt ({problem}); repair it or move the file away",
                file.display(),
                i + 1
            ))
        })?;
        Ok((record, line.to_string()))
    };
    let lines: Vec<(Record, String)> = text.lines().enumerate().map(read).collect::<Result<_>>()?;
    check_epochs(lines.iter().map(|(record, _)| record.epoch))
        .with_context(|| format!("{} cannot be used", file.display()))?;
    Ok(lines)
}

/// Epochs follow each other: a line that is gone, or there twice, would shift all curves and means. The first may be a later
/// one, where an older file was moved away.
fn check_epochs(epochs: impl Iterator<Item = usize>) -> Result<()> {
    let mut last: Option<usize> = None;
    for (i, epoch) in epochs.enumerate() {
        let expected = last.map_or(epoch.max(1), |last| last + 1);
        ensure!(
            File,
            epoch == expected,
            "line {} is of epoch {epoch}, where epoch {expected} was expected: lines are missing, doubled or in another \
             order; repair it or move the file away",
            i + 1
        );
        last = Some(epoch);
    }
    Ok(())
}

fn free_name(config: &Config) -> Result<PathBuf> {
    fs::create_dir_all(RUNS)
        .with_context(|| format!("cannot make the folder {RUNS}; choose another with --output"))?;
    let name = format!("{}-{}", config.dataset, config.network_name()).to_lowercase();
    for n in 1.. {
        let path = Path::new(RUNS).join(format!("{name}-{n}"));
        // Making it claims the name.
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("cannot make the folder {}", path.display()));
            }
        }
    }
    unreachable!("there is always a next number")
}
