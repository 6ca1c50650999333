//! The file of a sweep, and the points that it means.

use super::draw::Choice;
use super::point::{Point, read};
use super::points::{Options, PRESET, Points};
use crate::config::{Settings, UsageError, count, is_network_file, presets};
use crate::error::{Error, Result};
use crate::shown::{complaint, shown, toml_error};
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

const SEED: &str = "seed";
/// More is a mistake: a range that was meant for another key, say.
const MOST: usize = 100_000;

/// What a file asks for.
#[derive(Debug)]
pub struct Plan {
    /// in the order in which they are trained: all with the first seed, then all with the next
    pub points: Vec<Point>,
    /// the text of the file
    pub text: String,
}

impl Plan {
    /// Reads a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// When it cannot be read, or asks for something that `train` does not know. What each point means together is for
    /// [`Point::config`] to check.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::File(format!("cannot read the sweep {}: {e}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let points = File::parse(&text, folder).map(File::points);
        let points =
            points.map_err(|e| UsageError(format!("{}: {}", path.display(), complaint(&e))))?;
        Ok(Self { points, text })
    }
}

#[derive(Debug, Default)]
struct File {
    shared: Options,
    /// values of an option, in the file's order
    grid: BTreeMap<String, Vec<String>>,
    cases: BTreeMap<String, Options>,
    random: BTreeMap<String, Choice>,
    draws: usize,
    draw_seed: u64,
}

impl File {
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|e| toml_error(&e, text))?;
        let mut file = Self::default();
        let mut draws = None;
        for (key, value) in hyphenated(table) {
            match (&*key, value) {
                ("grid", Value::Table(axes)) => file.grid = grid(axes, folder)?,
                ("random", Value::Table(axes)) => file.random = random(axes, folder)?,
                ("case", Value::Table(cases)) => file.cases = named(cases, folder)?,
                ("grid" | "random" | "case", other) => {
                    return Err(format!("{key} = {other}: expected a table"));
                }
                ("draws", value) => {
                    draws = Some(
                        count(&text_of(&value)?).map_err(|e| format!("draws = {value}: {e}"))?,
                    )
                }
                ("draw-seed", value) => {
                    let seed = value.as_integer().and_then(|seed| u64::try_from(seed).ok());
                    file.draw_seed = seed.ok_or_else(|| {
                        format!("draw-seed = {value}: expected a whole number of at least 0")
                    })?;
                }
                (_, value) => {
                    let value = option(&key, &value, folder)?;
                    file.shared.insert(key, value);
                }
            }
        }
        file.draws = match (draws, file.random.is_empty()) {
            (Some(draws), false) => draws,
            (None, true) => 1,
            (Some(draws), true) => {
                return Err(format!(
                    "draws = {draws}: there is nothing in [random] to draw"
                ));
            }
            (None, false) => {
                return Err(
                    "[random] needs draws = N, the number of draws, at the top of the file".into(),
                );
            }
        };
        file.check_once()?;
        file.check_size()?;
        Ok(file)
    }

    /// An option that has a value from two places has a meaning that nobody can see.
    fn check_once(&self) -> Result<(), String> {
        let twice = |key: &String, one: &str, other: &str| {
            Err(format!("{key} is both {one} and {other}: say it once"))
        };
        for key in self.grid.keys() {
            if self.random.contains_key(key) {
                return twice(key, "in [grid]", "in [random]");
            }
        }
        for (key, place) in (self.grid.keys().map(|key| (key, "in [grid]")))
            .chain(self.random.keys().map(|key| (key, "in [random]")))
        {
            if self.shared.contains_key(key) {
                return twice(key, place, "given for all points");
            }
            if let Some((name, _)) = self
                .cases
                .iter()
                .find(|(_, options)| options.contains_key(key))
            {
                return twice(key, place, &format!("in [case.{name}]"));
            }
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), String> {
        let sizes = self
            .grid
            .values()
            .map(Vec::len)
            .chain([self.cases.len().max(1), self.draws]);
        let size = sizes.fold(1usize, usize::saturating_mul);
        match size <= MOST {
            true => Ok(()),
            false => Err(format!("it asks for {size} runs; expected at most {MOST}")),
        }
    }

    fn points(self) -> Vec<Point> {
        let no_case = BTreeMap::from([(String::new(), Options::new())]);
        let cases = if self.cases.is_empty() {
            &no_case
        } else {
            &self.cases
        };
        let seeds = self
            .grid
            .get(SEED)
            .map(|seeds| seeds.iter().map(Some).collect());
        let mut points = Points::default();
        for seed in seeds.unwrap_or(vec![None]) {
            for draw in 0..self.draws {
                for (case, settings) in cases {
                    for combination in self.combinations() {
                        let mut told = combination;
                        let drawn = self.random.iter();
                        told.extend(
                            drawn
                                .map(|(key, choice)| (key, choice.draw(self.draw_seed, draw, key))),
                        );
                        told.sort();
                        // The seed last: it is what runs that belong together differ in.
                        let seed = seed.map(|seed| (SEED.to_string(), seed.clone()));
                        let told: Vec<(&str, String)> = (told.into_iter())
                            .map(|(key, value)| (key.as_str(), value))
                            .chain(
                                seed.iter()
                                    .map(|(key, value)| (key.as_str(), value.clone())),
                            )
                            .collect();
                        points.add(case, &self.shared, settings, &told);
                    }
                }
            }
        }
        points.all
    }

    /// All combinations of the grid but for the seed; the last option changes fastest.
    fn combinations(&self) -> Vec<Vec<(&String, String)>> {
        let axes = self.grid.iter().filter(|(key, _)| *key != SEED);
        axes.fold(vec![Vec::new()], |combinations, (key, values)| {
            let longer = combinations.iter().flat_map(|combination| {
                values.iter().map(move |value| {
                    let mut longer = combination.clone();
                    longer.push((key, value.clone()));
                    longer
                })
            });
            longer.collect()
        })
    }
}

fn hyphenated(table: Table) -> impl Iterator<Item = (String, Value)> {
    table
        .into_iter()
        .map(|(key, value)| (key.replace('_', "-"), value))
}

fn grid(axes: Table, folder: &Path) -> Result<BTreeMap<String, Vec<String>>, String> {
    let axis = |(key, value): (String, Value)| match value {
        Value::Array(values) if !values.is_empty() => {
            let values = values.iter().map(|value| option(&key, value, folder));
            let values = values
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| format!("[grid] {e}"))?;
            if let Some(twice) = (1..values.len()).find(|&i| values[..i].contains(&values[i])) {
                return Err(format!("[grid] {key} has {} twice", shown(&values[twice])));
            }
            Ok((key, values))
        }
        other => Err(format!(
            "[grid] {key} = {other}: expected a list of values, such as [{other}]"
        )),
    };
    hyphenated(axes).map(axis).collect()
}

fn random(axes: Table, folder: &Path) -> Result<BTreeMap<String, Choice>, String> {
    let axis = |(key, value): (String, Value)| {
        let choice = match value {
            Value::Table(range) => {
                let choice = Choice::range(&range).map_err(|e| format!("{key}: {e}"));
                // Both kinds of an end's mistakes, before anything runs: no such option, no such value.
                choice.and_then(|choice| checked(&key, &choice.draw(0, 0, &key)).map(|()| choice))
            }
            Value::Array(values) if !values.is_empty() => {
                let values = values.iter().map(|value| option(&key, value, folder));
                values.collect::<Result<_, _>>().map(Choice::Among)
            }
            other => Err(format!(
                "{key} = {other}: expected a range, {{ from = A, to = B }}, or a list of values"
            )),
        };
        choice
            .map(|choice| (key, choice))
            .map_err(|e| format!("[random] {e}"))
    };
    hyphenated(axes).map(axis).collect()
}

fn named(cases: Table, folder: &Path) -> Result<BTreeMap<String, Options>, String> {
    let case = |(name, value): (String, Value)| {
        let wrong = |e: String| format!("[case.{name}] {e}");
        if name.is_empty() || name.starts_with('.') {
            return Err(wrong("expected a name that a folder can have".into()));
        }
        let Value::Table(options) = value else {
            return Err(format!(
                "case.{name} = {value}: expected a table, [case.{name}]"
            ));
        };
        let options = hyphenated(options)
            .map(|(key, value)| Ok((key.clone(), option(&key, &value, folder)?)));
        let options = options.collect::<Result<_, String>>().map_err(wrong)?;
        Ok((name, options))
    };
    cases.into_iter().map(case).collect()
}

/// The value of an option as the command line has it, if it can be one.
fn option(key: &str, value: &Value, folder: &Path) -> Result<String, String> {
    let mut text = text_of(value).map_err(|e| format!("{key}: {e}"))?;
    if key == "data-dir" || (key == "network" && is_network_file(&text)) {
        let path =
            std::path::absolute(folder.join(&text)).map_err(|e| format!("{key} = {text}: {e}"))?;
        text = path.display().to_string();
    }
    checked(key, &text)?;
    Ok(text)
}

fn checked(key: &str, text: &str) -> Result<(), String> {
    match key {
        PRESET => presets::find(text).map(drop).map_err(|e| e.to_string()),
        key => read(&mut Settings::default(), key, text),
    }
}

/// A value as an option has it: lists with commas.
fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(whole) => Ok(whole.to_string()),
        Value::Float(real) => Ok(real.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Array(values) => {
            let texts: Result<Vec<String>, String> = values.iter().map(text_of).collect();
            Ok(texts?.join(","))
        }
        other => Err(format!(
            "{other}: expected a number, a text, true or false, or a list of them"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let points = File::parse(text, Path::new("")).unwrap().points();
        points.into_iter().map(|point| point.name).collect()
    }

    #[test]
    fn a_grid_is_all_combinations_seed_by_seed() {
        let text =
            "epochs = 3\n[grid]\nseed = [0, 1]\nbeta = [0.1, 0.2]\nlossfn = [\"MSE\", \"CE\"]";
        let all = names(text);
        assert_eq!(all.len(), 8);
        assert_eq!(
            all[..3],
            [
                "beta=0.1,lossfn=MSE,seed=0",
                "beta=0.1,lossfn=CE,seed=0",
                "beta=0.2,lossfn=MSE,seed=0"
            ]
        );
        assert_eq!(all[4], "beta=0.1,lossfn=MSE,seed=1");
        let points = File::parse(text, Path::new("")).unwrap().points();
        assert_eq!(
            points[0].arguments(),
            ["--beta=0.1", "--epochs=3", "--lossfn=MSE", "--seed=0"]
        );
    }

    #[test]
    fn cases_are_settings_under_a_name() {
        let text = "beta = 0.1\n[case.slow]\nomega = 1.0\n[case.fast]\npreset = \"quickstart\"\nbeta = 0.2\n[grid]\nseed = [4]";
        let points = File::parse(text, Path::new("")).unwrap().points();
        assert_eq!(points[0].name, "fast,seed=4");
        assert_eq!(
            points[0].arguments(),
            ["--preset=quickstart", "--beta=0.2", "--seed=4"]
        );
        assert_eq!(
            points[1].arguments(),
            ["--beta=0.1", "--omega=1", "--seed=4"]
        );
    }

    #[test]
    fn more_draws_keep_the_first_ones() {
        let text = |draws| {
            format!(
                "draws = {draws}\n[random]\nbeta = {{ from = 0.1, to = 0.3 }}\nomega = [1.0, 1.3]\n[grid]\nseed = [0, 1]"
            )
        };
        let (few, more) = (names(&text(3)), names(&text(5)));
        assert_eq!((few.len(), more.len()), (6, 10));
        assert!(
            few.iter().all(|name| more.contains(name)),
            "{few:?} {more:?}"
        );
    }

    #[test]
    fn names_are_words_for_a_shell() {
        let text =
            "[grid]\nnetwork = [\"nets/my net.toml\", \"vgg5\"]\nchannels = [[1, 2], [3, 4]]";
        assert_eq!(names(text)[0], "channels=1-2,network=my-net");
        assert_eq!(names("epochs = 1"), ["run"]);
        let points = File::parse(text, Path::new("/else")).unwrap().points();
        assert_eq!(
            points[0].arguments(),
            ["--channels=1,2", "--network=/else/nets/my net.toml"]
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("[grid]\nbeta = 0.1", "[grid] beta = 0.1: expected a list"),
            ("[grid]\nbeta = []", "expected a list"),
            ("[grid]\nbeta = [0.1, 0.1]", "0.1 twice"),
            ("[grid]\nbeta = [\"x\"]", "beta = x: expected a number"),
            ("[grid]\nspeed = [1]", "speed: there is no such option"),
            ("speed = 1", "speed: there is no such option"),
            ("preset = \"slow\"", "slow"),
            ("grid = 1", "expected a table"),
            ("case = 1", "expected a table"),
            ("[case]\na = 1", "expected a table"),
            ("[case.a]\nspeed = 1", "[case.a] speed"),
            ("draws = 3", "nothing in [random]"),
            ("draws = 0\n[random]\nbeta = [0.1]", "at least 1"),
            ("draw-seed = -1", "at least 0"),
            ("[random]\nbeta = [0.1]", "needs draws"),
            ("draws = 1\n[random]\nbeta = 0.1", "expected a range"),
            (
                "draws = 1\n[random]\nspeed = { from = 1, to = 2 }",
                "no such option",
            ),
            (
                "draws = 1\n[random]\nbeta = [0.1]\n[grid]\nbeta = [0.1]",
                "both in [grid] and in [random]",
            ),
            ("beta = 1\n[grid]\nbeta = [0.1]", "given for all points"),
            ("[case.a]\nbeta = 1\n[grid]\nbeta = [0.1]", "in [case.a]"),
            ("draws = 200000\n[random]\nbeta = [0.1]", "200000 runs"),
            ("x = ", "line 1"),
            ("beta = 2020-01-01", "beta"),
        ] {
            let error = File::parse(text, Path::new("")).map(|_| ()).unwrap_err();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}
