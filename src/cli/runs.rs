//! Runs that were named on the command line: what they are called, how they differ, and which belong together.

use super::output::complain;
use crate::config::{Config, Settings};
use crate::learn::Algorithm;
use crate::run::{Checkpoint, Record, RunFolder};
use crate::shown::{shell_word, shown};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A run's folder with what can be said of it without its parameters.
pub struct Run {
    pub name: String,
    pub folder: PathBuf,
    /// by name, as in `config.toml`
    pub settings: Table,
    pub records: Vec<Record>,
}

/// What has no influence on the numbers of a run, or hardly.
pub(super) const MACHINE: [&str; 9] = [
    "data-dir",
    "device",
    "mirror",
    "offline",
    "published-series",
    "save-every",
    "tensorboard",
    "threads",
    "wandb",
];
pub(super) const SEED: &str = "seed";
impl Run {
    /// Reads a run's folder; an error when it is none.
    pub fn read(folder: &Path) -> Result<Self> {
        RunFolder::check_is_one(folder)?;
        Ok(Self {
            name: name_of(folder),
            folder: folder.to_path_buf(),
            settings: settings(folder)?,
            records: RunFolder::records(folder)?,
        })
    }

    /// A setting's value as text; empty when the run has none of that name.
    pub fn setting(&self, key: &str) -> String {
        self.settings.get(key).map(plain).unwrap_or_default()
    }

    /// How it learns; as its `config.toml` has it where this program does not know such a name.
    pub fn algorithm(&self) -> Result<Algorithm, String> {
        algorithm(&self.setting("algorithm"))
    }

    /// The name of that.
    pub fn algorithm_name(&self) -> String {
        self.algorithm()
            .map_or_else(|name| name, |a| a.name().into())
    }

    /// As in a log: a network's file without folder and ending.
    pub fn network_name(&self) -> String {
        let network = self.setting("network");
        let stem = Path::new(&network)
            .file_stem()
            .filter(|_| network.ends_with(".toml"));
        stem.map_or(network.clone(), |stem| stem.to_string_lossy().into_owned())
    }

    /// What its costs measure.
    pub fn cost_name(&self) -> &'static str {
        match self.setting("lossfn").as_str() {
            "MSE" => "squared error ½‖s − y‖²",
            "CE" => "cross-entropy",
            _ => "",
        }
    }

    /// The record with the smallest test error; the first of several.
    pub fn best(&self) -> Option<&Record> {
        (self.records.iter()).min_by(|a, b| a.test.top1_error.total_cmp(&b.test.top1_error))
    }

    /// Whether two runs differ in nothing but the seed.
    pub fn is_like(&self, other: &Self) -> bool {
        let own = |run: &Self| {
            let mut table = run.settings.clone();
            table.remove(SEED);
            MACHINE.iter().for_each(|key| {
                table.remove(*key);
            });
            table
        };
        own(self) == own(other)
    }
}

/// Folders within folders that are looked into for runs.
const DEPTH: usize = 3;
/// Where runs are that were given no folder.
const RUNS: &str = "runs";
/// Runs that a message names.
const MOST_NAMED: usize = 5;

/// The folders of runs in `folder`, which may be one itself, by name. There are none within a run's.
pub fn find(folder: &Path) -> Vec<PathBuf> {
    fn look(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        if RunFolder::check_is_one(folder).is_ok() {
            found.push(folder.to_path_buf());
        } else if depth > 0 {
            // What cannot be read holds nothing that could be listed.
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                look(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    look(folder, DEPTH, &mut found);
    found.sort();
    found
}

/// The checkpoint that `path` means: a file, or the best one of a run's folder.
///
/// # Errors
/// When it means none; the runs that there are get named.
pub fn checkpoint_of(path: &Path) -> Result<PathBuf> {
    let checkpoint = RunFolder::best_of(path);
    ensure!(checkpoint.is_file(), no_run(path));
    Ok(checkpoint)
}

/// What to say of a path that was to be a run: what it is, and which runs there are in it, beside it, or in the usual place.
pub fn no_run(path: &Path) -> String {
    let shown = path.display();
    let what = match path.exists() {
        false => format!("{shown}: there is no such run folder or checkpoint"),
        true if RunFolder::check_is_one(path).is_ok() => {
            return format!("{shown} has no checkpoint yet");
        }
        true => format!(
            "{shown} is not the folder of a run: it has no config.toml, metrics or checkpoint"
        ),
    };
    let beside = path
        .parent()
        .filter(|folder| *folder != Path::new("") && *folder != Path::new("/"));
    let places = [Some(path), beside, Some(Path::new(RUNS))];
    let found = places
        .into_iter()
        .flatten()
        .map(find)
        .find(|runs| !runs.is_empty());
    let Some(found) = found else { return what };
    let names = found.iter().take(MOST_NAMED).map(|run| shown_path(run));
    let names = names.collect::<Vec<_>>().join(", ");
    match found.len().saturating_sub(MOST_NAMED) {
        0 => format!("{what}; there are the runs {names}"),
        more => format!("{what}; there are the runs {names} and {more} more (`eqprop-cuda list`)"),
    }
}

fn shown_path(path: &Path) -> String {
    shown(path.to_string_lossy())
}

/// The configuration of a run for an evaluation of its network, with what else is given. Where images come from is not for its
/// checkpoint to say, which may be somebody else's: a folder or a server there is named, and not asked.
///
/// # Errors
/// When a value that was given is wrong.
pub fn evaluated(run: &Checkpoint, given: &Settings) -> Result<Config> {
    let mut trained = run.config.clone();
    let (folder, mirror) = (trained.data_dir.take(), trained.mirror.take());
    if let (Some(folder), None) = (folder, &given.data_dir) {
        let folder = shell_word(&folder);
        complain(format_args!(
            "not taken over from the checkpoint: --data-dir {folder}; give it again if its images are wanted"
        ));
    }
    if let (Some(mirror), None) = (mirror, &given.mirror) {
        complain(format_args!(
            "not taken over from the checkpoint: --mirror {}",
            shown(mirror)
        ));
    }
    Ok(trained.evaluated(given, &run.network)?)
}

/// What a folder is called: `.` has no name of its own.
pub fn name_of(folder: &Path) -> String {
    let absolute = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    let name = absolute
        .file_name()
        .map(|n| n.to_string_lossy().into_owned());
    name.unwrap_or_else(|| folder.display().to_string())
}

fn settings(folder: &Path) -> Result<Table> {
    let file = folder.join("config.toml");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        // Its checkpoint knows too.
        Err(_) => Checkpoint::load(&RunFolder::best_of(folder))?
            .config
            .to_toml()?,
    };
    (text.parse()).with_context(|| format!("{} cannot be read", file.display()))
}

/// Runs that differ only in the seed, together, each group in the order of its first.
pub fn groups(runs: Vec<Run>) -> Vec<Vec<Run>> {
    let mut groups: Vec<Vec<Run>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| group[0].is_like(&run)) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}

/// The algorithm of a name in `config.toml`, where the default one is left out; else the name.
pub(super) fn algorithm(name: &str) -> Result<Algorithm, String> {
    match name {
        "" => Ok(Algorithm::default()),
        _ => name.parse().map_err(|_| name.to_string()),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(plain).collect();
            match values.first() {
                Some(first) if values.iter().all(|v| v == first) => first.clone(),
                _ => values.join(","),
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
impl Run {
    /// A run of these settings alone.
    pub fn of(settings: &str) -> Self {
        Self {
            name: "run".into(),
            folder: "run".into(),
            settings: settings.parse().unwrap(),
            records: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_other_seeds_belong_together() {
        let runs = [
            "seed = 0\nbeta = 0.1\nthreads = 1",
            "seed = 0\nbeta = 0.2",
            "seed = 1\nbeta = 0.1\noffline = true",
        ];
        let groups = groups(runs.map(Run::of).into());
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1]);
        assert_eq!(groups[0][1].setting("seed"), "1");
    }
}
