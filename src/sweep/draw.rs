//! Random choices of a sweep.

use md5::{Digest, Md5};
use serde::Deserialize;

/// What a value is drawn from.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// one of these, equally likely
    Among(Vec<String>),
    Whole(i64, i64, Scale),
    Real(f64, f64, Scale),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    #[default]
    Linear,
    /// uniform in the logarithm
    Log,
}

/// `{ from = A, to = B, scale = "log" }`, both ends included
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: toml::Value,
    to: toml::Value,
    #[serde(default)]
    scale: Scale,
}

impl Choice {
    /// Reads a range; of whole numbers when both ends are.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn range(table: &toml::Table) -> Result<Self, String> {
        let range: Range = (table.clone().try_into()).map_err(|e: toml::de::Error| {
            let what = e.message().replace('\n', " ");
            format!("{what}; expected {{ from = A, to = B }}, with scale = \"log\" for a uniform logarithm")
        })?;
        let number = |value: &toml::Value| match value {
            toml::Value::Integer(whole) => Ok(*whole as f64),
            toml::Value::Float(real) if real.is_finite() => Ok(*real),
            other => Err(format!(
                "{other}: expected a number at each end of the range"
            )),
        };
        let (from, to) = (number(&range.from)?, number(&range.to)?);
        if from > to {
            return Err(format!(
                "from {from} to {to}: expected the smaller one first"
            ));
        }
        if range.scale == Scale::Log && from <= 0.0 {
            return Err(format!(
                "from {from}: a range with scale = \"log\" begins above 0"
            ));
        }
        Ok(match (&range.from, &range.to) {
            (toml::Value::Integer(from), toml::Value::Integer(to)) => {
                Self::Whole(*from, *to, range.scale)
            }
            _ => Self::Real(from, to, range.scale),
        })
    }

    /// The value of an option in a draw: a function of the seed, the number of the draw and the option's name, so that neither
    /// more draws nor more options change it. A real one has three digits, so that a folder's name can say it.
    pub fn draw(&self, seed: u64, draw: usize, key: &str) -> String {
        let u = uniform(&format!("{seed} {draw} {key}"));
        match self {
            Self::Among(values) => {
                let at = (u * values.len() as f64) as usize;
                values[at.min(values.len() - 1)].clone()
            }
            Self::Whole(from, to, scale) => {
                let real = scale.at(u, *from as f64, *to as f64 + 1.0);
                (real.floor() as i64).clamp(*from, *to).to_string()
            }
            Self::Real(from, to, scale) => {
                let real = scale.at(u, *from, *to);
                let rounded = format!("{real:.2e}").parse().unwrap_or(real);
                f64::clamp(rounded, *from, *to).to_string()
            }
        }
    }
}

impl Scale {
    fn at(self, u: f64, from: f64, to: f64) -> f64 {
        match self {
            Self::Linear => from + u * (to - from),
            Self::Log => (from.ln() + u * (to.ln() - from.ln())).exp(),
        }
    }
}

/// A number from 0 to 1, without 1: 53 bits of a hash.
fn uniform(text: &str) -> f64 {
    let hash = Md5::digest(text);
    let bits = hash
        .iter()
        .take(8)
        .fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(choice: &str, n: usize) -> Vec<f64> {
        let choice = Choice::range(&choice.parse().unwrap()).unwrap();
        (0..n)
            .map(|i| choice.draw(0, i, "beta").parse().unwrap())
            .collect()
    }

    #[test]
    fn draws_fill_their_range_evenly() {
        let uniform = draws("from = 2.0\nto = 4.0", 1000);
        assert!(uniform.iter().all(|v| (2.0..=4.0).contains(v)));
        // Standard error of the mean: 2 / sqrt(12 * 1000) = 0.018.
        let mean = uniform.iter().sum::<f64>() / 1000.0;
        assert!((mean - 3.0).abs() < 0.08, "{mean}");
        let log = draws("from = 1e-4\nto = 1.0\nscale = \"log\"", 1000);
        let low = log.iter().filter(|v| **v < 1e-2).count();
        assert!((430..570).contains(&low), "{low}");
        let whole = draws("from = 1\nto = 3", 300);
        for value in [1.0, 2.0, 3.0] {
            let count = whole.iter().filter(|v| **v == value).count();
            assert!((65..135).contains(&count), "{value}: {count}");
        }
    }

    #[test]
    fn a_draw_depends_on_its_name_number_and_seed_alone() {
        let choice = Choice::Real(0.0, 1.0, Scale::Linear);
        let first = choice.draw(0, 0, "beta");
        assert_eq!(first, choice.draw(0, 0, "beta"));
        for other in [
            choice.draw(1, 0, "beta"),
            choice.draw(0, 1, "beta"),
            choice.draw(0, 0, "omega"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        for (range, word) in [
            ("from = 2\nto = 1", "smaller one first"),
            ("from = 0.0\nto = 1.0\nscale = \"log\"", "above 0"),
            ("from = \"a\"\nto = 1.0", "number at each end"),
            ("from = 1", "from = A, to = B"),
            ("from = 1\nto = 2\nscale = \"cubic\"", "from = A, to = B"),
            ("from = 1\nto = 2\nstep = 3", "from = A, to = B"),
        ] {
            let error = Choice::range(&range.parse().unwrap()).unwrap_err();
            assert!(error.contains(word), "{range}: {error}");
        }
    }
}
