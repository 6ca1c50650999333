//! What tells runs apart, in the words of a legend.

use super::runs::{MACHINE, Run, SEED, algorithm};
use crate::plot::Curve;

/// Told apart first, whatever the algorithm.
const FIRST: [&str; 3] = ["algorithm", "dataset", "lossfn"];
/// Then in this order, and the rest after it.
const NEXT: [&str; 13] = [
    "network",
    "channels",
    "mode",
    "omega",
    "beta",
    "variant",
    "nudged-phase",
    "num-iterations-inference",
    "num-iterations-training",
    "tolerance",
    "optimizer",
    "learning-rate",
    "epochs",
];

/// For each run what tells it from the others, in few words: `CE, beta 0.5, seed 1`. The seed only when `seeds` is set.
///
/// Every setting in which runs of one algorithm differ is there, up to [`MOST_SHOWN`]: a legend that names one of two settings
/// credits it with what the other did. Of more, those that tell the runs apart, and [`unshown`] has the rest. Algorithms have
/// defaults of their own, which their name stands for.
pub fn differences(runs: &[&Run], seeds: bool) -> Vec<String> {
    let keys = shown_keys(runs, seeds);
    let words = |run: &&Run| {
        // What none of an algorithm's runs has means nothing to it.
        let known = |key: &&&str| {
            let like = |other: &&&Run| other.setting("algorithm") == run.setting("algorithm");
            let mut alike = runs.iter().filter(like);
            FIRST.contains(*key) || alike.any(|other| !other.setting(key).is_empty())
        };
        let words = keys.iter().filter(known);
        let words = words.map(|key| word(key, &run.setting(key)));
        words.collect::<Vec<_>>().join(", ")
    };
    runs.iter().map(words).collect()
}

/// The settings in which runs of one algorithm differ, and which [`differences`] has no room for.
pub fn unshown(runs: &[&Run]) -> Vec<String> {
    let shown = shown_keys(runs, true);
    let rest = differing(runs, true).into_iter();
    rest.filter(|key| !shown.contains(key))
        .map(Into::into)
        .collect()
}

/// Settings that a legend has room for.
const MOST_SHOWN: usize = 5;

fn shown_keys<'a>(runs: &[&'a Run], seeds: bool) -> Vec<&'a str> {
    let all = differing(runs, seeds);
    if all.len() <= MOST_SHOWN {
        return all;
    }
    let mut keys: Vec<&str> = Vec::new();
    for key in all {
        // Whether it separates what is still alike.
        let alike = |a: &Run, b: &Run| keys.iter().all(|key| a.setting(key) == b.setting(key));
        let separates = (runs.iter().enumerate()).any(|(i, a)| {
            let others = runs[..i].iter();
            (others.clone()).any(|b| alike(a, b) && a.setting(key) != b.setting(key))
        });
        if separates || FIRST.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Settings in which runs of one algorithm differ, the most telling ones first, the seed last; and the algorithm.
fn differing<'a>(runs: &[&'a Run], seeds: bool) -> Vec<&'a str> {
    let rest = runs
        .iter()
        .flat_map(|run| run.settings.keys())
        .map(String::as_str)
        .filter(|key| *key != SEED);
    let candidates = FIRST.into_iter().chain(NEXT).chain(rest);
    let mut keys: Vec<&str> = Vec::new();
    for key in candidates.chain(seeds.then_some(SEED)) {
        let comparable = |a: &Run, b: &Run| {
            FIRST.contains(&key) || key == SEED || a.setting("algorithm") == b.setting("algorithm")
        };
        let differs = (runs.iter().enumerate()).any(|(i, a)| {
            let mut others = runs[..i].iter();
            others.any(|b| comparable(a, b) && a.setting(key) != b.setting(key))
        });
        if differs && !MACHINE.contains(&key) && !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// A learning curve for each group: called after its run, or after the first one where there are several, and after what
/// tells it from the others.
pub fn curves(groups: Vec<Vec<Run>>) -> Vec<Curve> {
    let firsts: Vec<&Run> = groups.iter().map(|group| &group[0]).collect();
    let labels = differences(&firsts, groups.iter().all(|group| group.len() == 1));
    let curves = groups.iter().zip(labels).map(|(group, label)| {
        let first = &group[0];
        let name = match (group.len(), label.is_empty()) {
            (1, true) => first.name.clone(),
            (1, false) => format!("{}: {label}", first.name),
            (_, true) => first.name.clone(),
            (_, false) => label,
        };
        let records = group.iter().map(|run| run.records.clone());
        Curve {
            name,
            cost: first.cost_name().into(),
            runs: records.collect(),
        }
    });
    curves.collect()
}

/// A setting in a legend: the value alone where it speaks for itself.
fn word(key: &str, value: &str) -> String {
    match (key, value) {
        ("algorithm", _) => {
            algorithm(value).map_or_else(|name| name, |a| a.description().label.into())
        }
        ("network" | "dataset" | "lossfn" | "mode" | "variant" | "nudged-phase", _) => {
            value.to_string()
        }
        ("num-iterations-inference", _) => format!("{value} free iterations"),
        ("num-iterations-training", _) => format!("{value} nudged iterations"),
        (_, "") => format!("no {key}"),
        _ => format!("{key} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_differs_and_no_more() {
        let runs = [
            "lossfn = \"MSE\"\nseed = 0\nbeta = 0.1\nomega = 1.6",
            "lossfn = \"CE\"\nseed = 0\nbeta = 0.2\nomega = 1.6",
            "lossfn = \"CE\"\nseed = 1\nbeta = 0.2\nomega = 1.6",
        ]
        .map(Run::of);
        let runs: Vec<&Run> = runs.iter().collect();
        assert_eq!(
            differences(&runs, true),
            [
                "MSE, beta 0.1, seed 0",
                "CE, beta 0.2, seed 0",
                "CE, beta 0.2, seed 1"
            ]
        );
        let without_seeds = ["MSE, beta 0.1", "CE, beta 0.2", "CE, beta 0.2"];
        assert_eq!(differences(&runs, false), without_seeds);
        assert_eq!(differences(&runs[..1], true), [""]);
        let other = Run::of("algorithm = \"backprop\"\nlossfn = \"CE\"\nseed = 1");
        assert_eq!(
            differences(&[runs[2], &other], true),
            ["EP", "backpropagation"]
        );
        assert_eq!(unshown(&runs), [""; 0]);
        let three = [runs[0], runs[2], &other];
        assert_eq!(
            differences(&three, false),
            [
                "EP, MSE, beta 0.1",
                "EP, CE, beta 0.2",
                "backpropagation, CE"
            ]
        );
    }

    #[test]
    fn of_many_differences_a_label_has_those_that_tell_runs_apart() {
        let runs = [
            "beta = 0.1\nomega = 1.0\nepochs = 1\nmomentum = 0.9\nbatch-size = 8\nseed = 0\nclip-norm = 1",
            "beta = 0.2\nomega = 1.6\nepochs = 2\nmomentum = 0.8\nbatch-size = 9\nseed = 0\nclip-norm = 2",
        ]
        .map(Run::of);
        let runs: Vec<&Run> = runs.iter().collect();
        assert_eq!(differences(&runs, true), ["omega 1.0", "omega 1.6"]);
        assert_eq!(
            unshown(&runs),
            ["beta", "epochs", "batch-size", "clip-norm", "momentum"]
        );
    }
}
