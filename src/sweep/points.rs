//! The points of a sweep, and what their folders are called.

use super::point::Point;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The option that names a preset.
pub const PRESET: &str = "preset";
/// Longer names of folders are cut: file systems allow 255 bytes.
const LONGEST: usize = 160;

/// Keys of options, each with its value as the command line has it.
pub type Options = BTreeMap<String, String>;

/// Points, each once.
#[derive(Default)]
pub struct Points {
    pub all: Vec<Point>,
    names: BTreeSet<String>,
    seen: BTreeSet<Vec<String>>,
}

impl Points {
    /// Adds a point, unless a draw has hit it before.
    pub fn add(
        &mut self,
        case: &str,
        shared: &Options,
        settings: &Options,
        told: &[(&str, String)],
    ) {
        let mut options = shared.clone();
        options.extend(settings.clone());
        options.extend(
            told.iter()
                .map(|(key, value)| (key.to_string(), value.clone())),
        );
        let mut point = Point {
            name: String::new(),
            preset: options.remove(PRESET),
            options: options.into_iter().collect(),
        };
        if !self.seen.insert(point.arguments()) {
            return;
        }
        let name = name(case, told);
        let others = (2..).map(|n| format!("{name}-{n}"));
        let free = [name.clone()]
            .into_iter()
            .chain(others)
            .find(|name| !self.names.contains(name));
        point.name = free.unwrap_or(name);
        self.names.insert(point.name.clone());
        self.all.push(point);
    }
}

/// `fast,beta=0.1,seed=2`: what a folder may be called anywhere, without need of quotes.
fn name(case: &str, told: &[(&str, String)]) -> String {
    let word = |(key, value): &(&str, String)| {
        let stem = Path::new(value)
            .file_stem()
            .filter(|_| value.contains(['/', '\\']));
        let value = stem.map_or(value.clone(), |stem| stem.to_string_lossy().into_owned());
        match *key {
            PRESET => plain(&value),
            key => format!("{key}={}", plain(&value)),
        }
    };
    let case = (!case.is_empty()).then(|| plain(case));
    let words: Vec<String> = case.into_iter().chain(told.iter().map(word)).collect();
    let mut name = words.join(",");
    name.truncate(LONGEST);
    match name.is_empty() {
        true => "run".into(),
        false => name,
    }
}

fn plain(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._+".contains(c) {
            c
        } else {
            '-'
        }
    };
    text.chars().map(plain).collect()
}
